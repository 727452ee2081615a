"""The collapse alarm (SPEC S19): a generator that makes one image, a discriminator that has won."""

from __future__ import annotations

import math
from typing import Any


class _StreakCounter:
    """A running mean, the number of updates for which it was below a limit, and whether that was reported."""

    def __init__(self, limit: float, smoothing: float) -> None:
        self.limit = limit
        self.smoothing = smoothing
        self.running: float | None = None
        self.below = 0
        self.reported = False

    def update(self, value: float, patience: int, counting: bool) -> bool:
        """Return whether to report now."""
        if not math.isfinite(value):
            return False
        self.running = value if self.running is None else self.smoothing * self.running + (1 - self.smoothing) * value
        if self.running >= self.limit:
            self.below, self.reported = 0, False
        elif counting:
            self.below += 1
        if self.reported or self.below < patience:
            return False
        self.reported = True
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"running": self.running, "below": self.below, "told": self.reported}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.running = None if state["running"] is None else float(state["running"])
        self.below = int(state["below"])
        self.reported = bool(state["told"])


class CollapseAlarm:
    """Reports, once, that adversarial training has collapsed, and again if it does after a recovery (SPEC S19).

    Two signs, each by a running mean: images that hardly differ from one another, and a discriminator whose loss has
    vanished, from which the generator learns nothing. Values that are not finite are ignored.

    Args:
        spread: report when the running ``batch_diversity`` stays below this.
        loss_d: report when the discriminator's running loss stays below this. Only for losses that vanish when the
            discriminator has won, unlike ``wgan`` and smoothed labels.
        patience: for how many updates in a row.
        warmup: updates before the first that counts.
        smoothing: decay of the running means an update.

    Raises:
        ValueError: patience below 1, warmup below 0, or smoothing not in [0, 1).
    """

    def __init__(
        self,
        *,
        spread: float = 0.1,
        loss_d: float = 0.02,
        patience: int = 30,
        warmup: int = 50,
        smoothing: float = 0.9,
    ) -> None:
        if patience < 1 or warmup < 0 or not 0 <= smoothing < 1:
            raise ValueError(
                f"patience must be 1 or more, warmup 0 or more and smoothing in [0, 1), "
                f"got {patience}, {warmup} and {smoothing}"
            )
        self.patience = patience
        self.warmup = warmup
        self.updates = 0
        self._spread = _StreakCounter(spread, smoothing)
        self._loss_d = _StreakCounter(loss_d, smoothing)

    def update(self, spread: float, loss_d: float | None) -> str | None:
        """Take one step's ``batch_diversity`` and the discriminator's loss, None where it has none.

        Returns:
            One line, the symptom and the fields to change, or None: nothing is wrong, or it was reported before.
        """
        self.updates += 1
        counting = self.updates > self.warmup
        warnings = []
        if self._spread.update(spread, self.patience, counting):
            warnings.append(
                f"the generator makes nearly the same image whatever it is given (spread {self._spread.running:.2g} of "
                f"the photographs', for {self._spread.below} steps): lower optim.discriminator.lr, raise loss.r1, "
                f"or set loss.augment to [color,translation]"
            )
        if loss_d is not None and self._loss_d.update(loss_d, self.patience, counting):
            warnings.append(
                f"the discriminator has won and the generator learns nothing from it (its loss "
                f"{self._loss_d.running:.2g}, for {self._loss_d.below} steps): lower optim.discriminator.lr, raise "
                f"loss.r1 or loss.temperature, or set loss.augment to [color,translation]"
            )
        return "; ".join(warnings) or None

    def state_dict(self) -> dict[str, Any]:
        """Plain values for ``load_state_dict``, to continue as if never interrupted."""
        return {"updates": self.updates, "spread": self._spread.state_dict(), "loss_d": self._loss_d.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up ``state_dict``'s values; limits, patience, warmup and smoothing stay this object's own."""
        self.updates = int(state["updates"])
        self._spread.load_state_dict(state["spread"])
        self._loss_d.load_state_dict(state["loss_d"])
