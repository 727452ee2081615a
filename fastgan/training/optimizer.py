"""Optimizers of a network: torch's, and one that updates all its parameters in a single pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from fastgan import ops

if TYPE_CHECKING:
    from fastgan.config.sections import OptimizerConfig

#: Floats; 256 bytes, as aligned as what the allocators give: kernels choose by it.
_ALIGNMENT = 64
#: Options of torch's optimizers that change the update and that a config cannot set.
_OTHER_RULES = ("weight_decay", "amsgrad", "maximize", "centered", "nesterov", "dampening", "differentiable")


def torch_optimizer(parameters: Iterable[Tensor], config: OptimizerConfig) -> torch.optim.Optimizer:
    """torch's Adam, RMSprop or SGD (SPEC S17): the rules that ``FlatOptimizer`` follows and the state that it shows."""
    if config.name == "adam":
        return torch.optim.Adam(parameters, lr=config.lr, betas=(config.beta1, config.beta2), foreach=True)
    if config.name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=config.lr, alpha=config.beta2, momentum=config.beta1, foreach=True)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.beta1, foreach=True)


class _Slot(NamedTuple):
    """The slice of a flat buffer that holds a tensor, with its own strides."""

    start: int
    end: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, buffer: Tensor) -> Tensor:
        return buffer.as_strided(self.shape, self.strides, self.start)


class FlatOptimizer(torch.optim.Optimizer):
    """Adam, RMSprop or SGD whose step is one call of ``ops.optim_step``: unscaling, update, weight clip and EMA.

    The parameters move into one buffer and stay views of it, each in its own memory format; they must neither be
    replaced nor moved to another device after. ``zero_grad`` makes the gradients views of a second buffer. What
    ``state_dict`` gives is what the optimizer of the same name in ``torch.optim`` gives, and either loads the other's.

    A parameter without a gradient (None) is left as it is, with its state, as in ``torch.optim``; the count of steps is
    one for all. After ``zero_grad()`` a parameter that the loss does not reach has a gradient of zeros, and momentum
    moves it on: as in ``torch.optim`` after ``zero_grad(set_to_none=False)``.

    ``torch.amp.GradScaler`` hands its scale and its finding to ``step``; a step that overflowed changes nothing, and
    nothing waits for the GPU.

    Args:
        parameters: float32, on one device; at least one.
        config: the rule, its rates and ``clip_weights``. ``clip_grad`` is the caller's.
        ema: an averaged copy, tensor by tensor like ``parameters``; moved into a buffer too.

    Attributes:
        flat, flat_grad: (L,) float32, the parameters and their gradients with some zeros in between.
        flat_ema: (L,) or None.

    Raises:
        ValueError: no parameters, or parameters of another dtype, of several devices, or unlike ``ema``.
    """

    #: Makes GradScaler leave unscaling and skipping to ``step``.
    _step_supports_amp_scaling = True

    def __init__(
        self, parameters: Iterable[nn.Parameter], config: OptimizerConfig, *, ema: Iterable[Tensor] | None = None
    ) -> None:
        self._built = False
        self._parameters = list(parameters)
        self._averages = None if ema is None else list(ema)
        self._config = config
        _check("parameters", self._parameters, self._parameters)
        if self._averages is not None:
            _check("ema", self._averages, self._parameters)
        template = torch_optimizer(self._parameters, config)
        super().__init__(self._parameters, template.defaults)
        self._built = True

        self._slots, length = _slots(self._parameters)
        device = self._parameters[0].device
        self.flat = _move(self._parameters, self._slots, torch.zeros(length, dtype=torch.float32, device=device))
        self.flat_grad = torch.zeros(length, dtype=torch.float32, device=device)
        self.flat_ema = None
        if self._averages is not None:
            self.flat_ema = _move(self._averages, self._slots, torch.zeros(length, dtype=torch.float32, device=device))
        self._views = [slot.of(self.flat_grad) for slot in self._slots]
        self._names = {
            "adam": ("exp_avg", "exp_avg_sq"),
            "rmsprop": ("square_avg", *(("momentum_buffer",) if config.beta1 > 0 else ())),
            "sgd": ("momentum_buffer",) if config.beta1 > 0 else (),
        }[config.name]
        self._flat_state = tuple(torch.zeros(length, dtype=torch.float32, device=device) for _ in self._names)
        self._step = torch.zeros((), dtype=torch.float32, device=device)
        self._show_state()

    def step(  # type: ignore[override]
        self,
        closure: Callable[[], Any] | None = None,
        *,
        lr: float | Tensor | None = None,
        ema_decay: float | Tensor | None = None,
    ) -> Any:
        """One update; with ``ema_decay``, of the averages too: ``ema_decay * ema + (1 - ema_decay) * parameter``.

        ``lr`` takes the place of the group's: a CUDA graph replays with what a tensor holds then.

        Raises:
            RuntimeError: a parameter or an average was replaced since the optimizer was built.
            ValueError: an option of the group that changes the rule, or ``ema_decay`` without ``ema``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if ema_decay is not None and self.flat_ema is None:
            raise ValueError("ema_decay is given, and the optimizer was built without ema")
        (group,) = self.param_groups
        for option in _OTHER_RULES:
            if group.get(option):
                raise ValueError(f"{option}={group[option]!r} is no part of this optimizer")
        self._check_places(group["params"])
        runs = self._gathered()
        for start, end in runs:
            # Only the last run counts, so that every run sees the same number.
            step = self._step if end == runs[-1][1] else self._step.clone()
            self._update(group if lr is None else {**group, "lr": lr}, start, end, step, ema_decay)
        if not runs:
            return loss
        # The parameters have version counters of their own, by which autograd sees that they changed.
        torch.autograd.graph.increment_version(self._parameters)
        if ema_decay is not None and self._averages is not None:
            torch.autograd.graph.increment_version(self._averages)
        return loss

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zeros all gradients at once. With ``set_to_none`` they become None, and the step copies what is new."""
        if set_to_none:
            super().zero_grad(set_to_none=True)
            return
        self.flat_grad.zero_()
        for parameter, view in zip(self._parameters, self._views, strict=True):
            if not parameter.requires_grad:
                parameter.grad = None
            elif not _lies_at(parameter.grad, view):
                parameter.grad = view

    def changed(self) -> list[Tensor]:
        """The tensors that a step changes; they stay where they are, and ``load_state_dict`` writes into them."""
        averages = [] if self.flat_ema is None else [self.flat_ema]
        return [self.flat, *averages, *self._flat_state, self._step]

    def state_dict(self) -> dict[str, Any]:
        """The state dict of ``torch.optim``'s optimizer of this name; tensors but steps are views of the live state."""
        if self._config.name != "sgd":
            count = self._step.item()
            for parameter in self._parameters:
                # One each and on the CPU, as torch has them: it adds to each.
                self.state[parameter]["step"] = torch.tensor(count, dtype=torch.float32, device="cpu")
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state, this one's or that of the optimizer of the same name in ``torch.optim``.

        Raises:
            ValueError: groups of other sizes, tensors of other shapes, or parameters of which some took more steps than
                others. Nothing is changed then.
        """
        previous, groups = self.state, self.param_groups
        named = {name for entry in state_dict["state"].values() for name in entry} - {"step"}
        options = {"adam": {"betas"}, "rmsprop": {"alpha", "momentum"}, "sgd": {"momentum"}}[self._config.name]
        if not named <= set(self._names) or any(not options <= set(group) for group in state_dict["param_groups"]):
            raise ValueError(f"the state is of another rule than {self._config.name} with beta1={self._config.beta1:g}")
        super().load_state_dict(state_dict)
        loaded = [self.state.get(parameter, {}) for parameter in self._parameters]
        try:
            counts = {float(entry["step"]) for entry in loaded if "step" in entry}
            if len(counts) > 1:
                raise ValueError(f"its parameters took {', '.join(f'{count:g}' for count in sorted(counts))} steps")
            for parameter, entry in zip(self._parameters, loaded, strict=True):
                for name in self._names:
                    value = entry.get(name)
                    if value is not None and value.shape != parameter.shape:
                        raise ValueError(f"{name} is {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")
        except ValueError:
            self.state, self.param_groups = previous, groups
            raise
        with torch.no_grad():
            for name, buffer in zip(self._names, self._flat_state, strict=True):
                for slot, entry in zip(self._slots, loaded, strict=True):
                    value = entry.get(name)
                    # torch keeps nothing for a parameter that never had a gradient.
                    slot.of(buffer).zero_() if value is None else slot.of(buffer).copy_(value)
            self._step.fill_(counts.pop() if counts else 0.0)
        self._show_state()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raises RuntimeError: the buffers have the size that they have."""
        if self._built:
            raise RuntimeError("a FlatOptimizer takes no further parameters; build one for all of them")
        super().add_param_group(param_group)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles: the parameters' copies are views of nothing, so the copy builds buffers of its own.
        return _rebuilt, (type(self), self._parameters, self._config, self._averages, self.state_dict())

    def _show_state(self) -> None:
        self.state.clear()
        for parameter, slot in zip(self._parameters, self._slots, strict=True):
            shown = {name: slot.of(buffer) for name, buffer in zip(self._names, self._flat_state, strict=True)}
            if shown:
                self.state[parameter] = shown

    def _check_places(self, listed: Sequence[Tensor]) -> None:
        if len(listed) != len(self._parameters) or any(
            parameter is not own for parameter, own in zip(listed, self._parameters, strict=True)
        ):
            raise RuntimeError("the parameters in the optimizer's group were replaced: build a new FlatOptimizer")
        for what, tensors, buffer in (
            ("parameter", self._parameters, self.flat),
            ("average", self._averages, self.flat_ema),
        ):
            if tensors is None or buffer is None:
                continue
            base, size = buffer.data_ptr(), buffer.element_size()
            for number, (tensor, slot) in enumerate(zip(tensors, self._slots, strict=True)):
                if tensor.numel() == 0:
                    continue
                if tensor.data_ptr() != base + slot.start * size or tensor.stride() != slot.strides:
                    raise RuntimeError(
                        f"{what} {number}, {tuple(tensor.shape)}, lies no longer where the optimizer put it: it was "
                        "replaced, or moved to another device or layout; build a FlatOptimizer after that"
                    )

    @torch.no_grad()
    def _gathered(self) -> list[tuple[int, int]]:
        """Brings gradients that lie elsewhere into the buffer; the runs of it whose parameters have one."""
        runs: list[tuple[int, int]] = []
        for parameter, view, slot in zip(self._parameters, self._views, self._slots, strict=True):
            if parameter.grad is None or slot.start == slot.end:
                continue
            if not _lies_at(parameter.grad, view):
                view.copy_(parameter.grad)
                parameter.grad = view
            if runs and runs[-1][1] == slot.start:
                runs[-1] = runs[-1][0], slot.end
            else:
                runs.append((slot.start, slot.end))
        return runs

    def _update(
        self, group: dict[str, Any], start: int, end: int, step: Tensor, ema_decay: float | Tensor | None
    ) -> None:
        rules = {"adam": ("betas", None), "rmsprop": ("momentum", "alpha"), "sgd": ("momentum", None)}
        first, second = rules[self._config.name]
        beta1, beta2 = group[first] if first == "betas" else (group[first], group[second] if second else 0.0)
        ops.optim_step(
            self.flat[start:end],
            self.flat_grad[start:end],
            tuple(buffer[start:end] for buffer in self._flat_state),
            kind=self._config.name,
            step=step,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group.get("eps", 1e-8),
            weight_clip=self._config.clip_weights,
            ema=None if ema_decay is None or self.flat_ema is None else self.flat_ema[start:end],
            ema_decay=ema_decay,
            # Attributes that GradScaler sets for the time of the step.
            scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
        )


def _rebuilt(
    kind: type[FlatOptimizer],
    parameters: list[nn.Parameter],
    config: OptimizerConfig,
    ema: list[Tensor] | None,
    state: dict[str, Any],
) -> FlatOptimizer:
    optimizer = kind(parameters, config, ema=ema)
    optimizer.load_state_dict(state)
    return optimizer


def _check(name: str, tensors: Sequence[Tensor], like: Sequence[Tensor]) -> None:
    if not tensors or len(tensors) != len(like):
        raise ValueError(f"{name} must be {len(like) or 'some'} tensors, got {len(tensors)}")
    for number, (tensor, other) in enumerate(zip(tensors, like, strict=True)):
        if tensor.dtype != torch.float32 or tensor.device != like[0].device or tensor.shape != other.shape:
            raise ValueError(
                f"{name} must be float32, {tuple(other.shape)} and on {like[0].device}; number {number} is "
                f"{tensor.dtype}, {tuple(tensor.shape)} and on {tensor.device}"
            )


def _slots(tensors: Sequence[Tensor]) -> tuple[list[_Slot], int]:
    slots, start = [], 0
    for tensor in tensors:
        end = start + -(-tensor.numel() // _ALIGNMENT) * _ALIGNMENT
        # Dense strides in the order of the tensor's own: channels_last stays.
        strides = torch.empty_like(tensor, device="meta").stride()
        slots.append(_Slot(start, end, tuple(tensor.shape), strides))
        start = end
    return slots, start


def _move(tensors: Sequence[Tensor], slots: Sequence[_Slot], buffer: Tensor) -> Tensor:
    for tensor, slot in zip(tensors, slots, strict=True):
        view = slot.of(buffer)
        view.copy_(tensor.detach())
        tensor.data = view
    return buffer


def _lies_at(tensor: Tensor | None, view: Tensor) -> bool:
    return tensor is not None and tensor.data_ptr() == view.data_ptr() and tensor.stride() == view.stride()
