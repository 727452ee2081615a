"""The ops in plain PyTorch, as they are usually written, which the provider ``eager`` runs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.bench.baselines import adam as settings


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """The moments stacked and blurred by two grouped convolutions, as torchmetrics and others do."""
    n, c = x.shape[:2]
    x, y = x.float(), y.float()
    offsets = torch.arange(11, dtype=torch.float32, device=x.device) - 5
    taps = torch.exp(-offsets.square() / (2 * 1.5**2))
    taps = (taps / taps.sum()).expand(c, 1, 1, 11)
    moments = torch.cat((x, y, x * x, y * y, x * y))
    blurred = F.conv2d(F.conv2d(moments, taps, groups=c), taps.transpose(2, 3), groups=c)
    mu_x, mu_y, xx, yy, xy = blurred.split(n)
    luminance = (2 * mu_x * mu_y + 0.01**2) / (mu_x**2 + mu_y**2 + 0.01**2)
    structure = (2 * (xy - mu_x * mu_y) + 0.03**2) / (xx - mu_x**2 + yy - mu_y**2 + 0.03**2)
    return (luminance * structure).mean()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    return (-10 * torch.log10(((x.float() - y.float()) ** 2).mean((1, 2, 3)))).mean()


def gram(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    features = x.reshape(n, c, h * w)
    return features @ features.transpose(1, 2) / (c * h * w)


def gram_style_loss(x: Tensor, target: Tensor) -> Tensor:
    matrices = gram(x).float()
    return F.mse_loss(matrices, target.expand_as(matrices))


def quarters(x: Tensor) -> list[Tensor]:
    """The four windows of each plane, (N, C, H / 2, W / 2) each."""
    return [quarter for half in x.chunk(2, 2) for quarter in half.chunk(2, 3)]


def gram_style_loss_windows(x: Tensor, target: Tensor, window_weight: float) -> Tensor:
    """The whole plane and its four quarters, each by itself."""
    windows = torch.stack([gram_style_loss(quarter, target) for quarter in quarters(x)]).mean()
    return (1 - window_weight) * gram_style_loss(x, target) + window_weight * windows


def luminance_loss(result: Tensor, content: Tensor) -> Tensor:
    weights = torch.tensor((0.299, 0.587, 0.114), device=result.device).view(1, 3, 1, 1)
    x, y = ((weights * F.avg_pool2d(images.float(), 8)).sum(1).flatten(1) / 2 for images in (result, content))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    slope = ((x * y).mean(1) / y.square().mean(1).clamp(min=1e-6)).detach().clamp(0.5, 2.0)
    return (x - slope[:, None] * y).square().mean() * 16


def instance_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    activation: str | None = None,
) -> Tensor:
    normed = F.instance_norm(x, weight=weight, bias=bias)
    if activation == "relu":
        normed = F.relu(normed)
    elif activation == "leaky_relu":
        normed = F.leaky_relu(normed, 0.2)
    return normed if residual is None else normed + residual


def bias_act(x: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(x + bias.view(1, -1, 1, 1), 0.2) * 2**0.5


def adain(content: Tensor, style: Tensor, alpha: Tensor) -> Tensor:
    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        return mean, (var + 1e-5).sqrt()

    mean_c, std_c = moments(content)
    mean_s, std_s = moments(style)
    a = alpha.to(content.dtype).view(-1, 1, 1, 1)
    return (1 - a) * content + a * (std_s * (content - mean_c) / std_c + mean_s)


def convex(content: Tensor, style: Tensor, alpha: Tensor) -> Tensor:
    a = alpha.to(content.dtype).view(-1, 1, 1, 1)
    return a * content + (1 - a) * style


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    loss = F.binary_cross_entropy_with_logits
    return loss(real, torch.ones_like(real)) + loss(fake, torch.zeros_like(fake))


def from_pixels(x: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return (x.permute(0, 3, 1, 2).float() / 127.5 - 1).to(dtype).contiguous(memory_format=layout)


def to_pixels(x: Tensor) -> Tensor:
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def adam(param: Tensor, grad: Tensor, mean: Tensor, square: Tensor, ema: Tensor | None = None) -> Tensor:
    """Operation by operation as torch.optim.Adam without foreach, on one flat tensor; then the EMA."""
    correction1, correction2 = (1 - beta**settings.STEP for beta in settings.BETAS)
    g = grad.float()
    mean.lerp_(g, 1 - settings.BETAS[0])
    square.mul_(settings.BETAS[1]).addcmul_(g, g, value=1 - settings.BETAS[1])
    divisor = (square.sqrt() / math.sqrt(correction2)).add_(settings.EPS)
    param.addcdiv_(mean, divisor, value=-settings.LR / correction1)
    if ema is not None:
        ema.lerp_(param, 1 - settings.EMA_DECAY)
    return param


def found_inf(grad: Tensor) -> Tensor:
    return (~grad.isfinite().all()).float()


def conv2d(x: Tensor, weight: Tensor, *, stride: int, upsample: bool) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode="nearest") if upsample else x
    return F.conv2d(x, weight, stride=stride, padding=(weight.shape[2] - 1) // 2)
