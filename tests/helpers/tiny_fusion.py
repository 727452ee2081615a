"""A network that fuses any style in, small and past its first state, and features for it."""

import torch
from torch import Tensor, nn

from fastgan.models import FusionGenerator
from fastgan.models.layers import MomentRecorder

FUSIONS = ["adain", "convex", "additive", "mlp", "wct"]
CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}
#: What ``network`` divides the fused features by, at its layer and at relu1_1.
SCALES = (1.7, 0.6)
#: One of 256 levels of a picture in [-1, 1]: two that are nearer than that on average look the same.
LEVEL = 2 / 255


def network(fusion: str = "adain", layer: str = "relu2_1", width: int = 4, depth: int = 1) -> FusionGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = FusionGenerator(width, depth, fusion=fusion, layer=layer)
        for name, parameter in made.named_parameters():
            if name.endswith("predict.weight"):  # 0 at first: no style would come in by the norms
                nn.init.normal_(parameter, 0.0, 0.3 / parameter.shape[1] ** 0.5)
            elif name.endswith("bias") and "predict" not in name:
                nn.init.normal_(parameter, 0.0, 0.1)
            elif "to_change" in name:  # small at first
                parameter.data *= 10
        made.to_rgb.weight.data[:, -64:] *= 0.3  # far from where tanh is flat
        nn.init.uniform_(made.moments.centre, 0.2, 0.4)
        nn.init.uniform_(made.moments.unit, 0.5, 1.5)
    made.scale.fill_(SCALES[0])
    made.surface_scale.fill_(SCALES[1])
    return made


def random_features(
    made: FusionGenerator, size: tuple[int, int], rng: torch.Generator, n: int = 2
) -> dict[str, Tensor]:
    """A content's, of a picture of ``size``."""
    sizes = [(size[0] // 2**k, size[1] // 2**k) for k in range(len(made.layers))]
    return {
        name: torch.randn(n, CHANNELS[name], *cells, generator=rng).relu() * 3
        for name, cells in zip(made.layers, sizes, strict=True)
    }


def styles(
    made: FusionGenerator, rng: torch.Generator, n: int = 2, side: int = 9, loud: float = 5.0
) -> dict[str, Tensor]:
    """A style's at the layers that are fused, of ``side`` x (``side`` + 2) cells of the deep one; the others are half
    as loud."""
    made_of = {}
    for name in made.fused_layers:
        cells = made.stride // 2 ** (int(name[4]) - 1)
        size = (side * cells, (side + 2) * cells)
        noise = torch.randn(n, CHANNELS[name], *size, generator=rng)
        made_of[name] = noise.relu() * (loud if name == made.layer else loud / 2)
    return made_of


def set_recording(made: nn.Module, on: bool) -> None:
    for module in made.modules():
        if isinstance(module, MomentRecorder):
            module.recording = on
