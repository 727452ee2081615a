"""Watching for collapse of the adversarial training (SPEC S19)."""

from __future__ import annotations

from fastgan.training.callbacks.base import Callback, Run


class CollapseMonitor(Callback):
    """Hands each step to the state's ``CollapseAlarm``, and logs what it says."""

    def after_step(self, run: Run, metrics: dict[str, float]) -> None:
        state, loss = run.state, run.config.loss
        if state.alarm is None:
            return
        vanishes = loss.kind != "wgan" and (loss.real_label, loss.fake_label) == (1.0, 0.0)
        text = state.alarm.update(metrics["train/diversity"], metrics["loss/d"] if vanishes else None)
        if text is not None:
            state.alarms.append((state.global_step, text))
            run.log(f"step {state.global_step}: {text}")
