"""The training loop: ``Trainer(config).fit()``, or ``trainer.step(batch)`` from a loop of your own."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fastgan.data import ImagePath, write_image
from fastgan.errors import FastganError, InputError, first_line
from fastgan.evaluation.evaluator import Measures
from fastgan.evaluation.metrics_log import read_metrics
from fastgan.evaluation.report import write_report
from fastgan.inference.model_files import save_model
from fastgan.inference.sampler import Sampler
from fastgan.inference.stylizer import Stylizer
from fastgan.precision import select_device, select_dtype
from fastgan.training import checkpoint, setup
from fastgan.training.callbacks import base as callbacks
from fastgan.training.callbacks.writers import MetricsFile, TensorBoard, peak_bytes
from fastgan.training.compilation import Compiler
from fastgan.training.cuda_graphs import open_graphs
from fastgan.training.record import run_record
from fastgan.training.run_folder import RunFolder
from fastgan.training.run_length import Budget
from fastgan.training.tasks import NoiseTask, StylizeTask, Task

if TYPE_CHECKING:
    from fastgan.config import Config

_MAX_ROLLBACKS = 3


class DivergenceError(FastganError):
    """Training did not stay finite, however often it was taken back."""


class Trainer:
    """One training run. Two of them in one process do not disturb each other.

    Args:
        config: a ``fastgan.config.Config``, a mapping of its fields, or the path of a YAML file. On resume, the one
            that the run began with: ``out/config.yaml``.
        out: the run folder; None writes nothing.
        data: batches, any iterable of tensors: uint8 (N, H, W, 3), or floating (N, 3, H, W) in [-1, 1]. None takes
            random crops of the photographs of ``data.content``. An iterable that ends ends the run. On resume, give
            one that goes on where the last left off.
        callbacks: see ``fastgan.training.callbacks.base``.
        resume: go on from the newest checkpoint in ``out``; start afresh if there is none.
        started: ``time.monotonic()`` of the moment from which ``train.minutes`` counts; by default now.

    Raises:
        InputError: a bad config, missing or unreadable photographs, style or weights, or an ``out`` that exists
            (without ``resume``). Nothing has been written then.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | Path | None = None,
        *,
        out: str | Path | None = None,
        data: Iterable[Tensor] | None = None,
        callbacks: Sequence[callbacks.Callback] = (),
        resume: bool = False,
        started: float | None = None,
    ) -> None:
        self._started = time.monotonic() if started is None else started
        self.config = setup.as_config(config)
        self.callbacks = list(callbacks)
        self._watchers: list[Any] = []
        self._files_saved = False
        self.folder = None if out is None else RunFolder(Path(out), resume=resume)
        self.device = select_device(self.config.train.device)
        self.dtype = select_dtype(self.config.train.precision, self.device)
        self.state = setup.build_state(self.config, self.device, self.dtype)
        self.broken: dict[ImagePath, str] = {}
        self._messages: deque[str] = deque()
        self._source: Iterator[Tensor] | None = None if data is None else iter(data)
        self.photographs = None if data is not None else setup.open_photographs(self.config, self._note_broken)
        self.task = self._build_task()
        step = self.task.step
        step.graphs = open_graphs(self.config, self.state.generator, step.compute, self.device, self._messages.append)
        batches = None if self.photographs is None else self.photographs.batches
        self.budget = Budget.of(self.config.train, None if batches is None else batches.steps_per_epoch)
        self.stop_requested = False
        if self._judging and self.photographs is None:
            raise InputError(
                "quality.keep_best, patience and rollback need photographs held out; give data.content and no data"
            )
        self.start: Measures | None = None
        self._good: dict[str, Any] | None = None
        self._resume_at = 0
        if self.folder is not None:
            self._check_apart(self.folder.path)
            if resume:
                self._restore(self.folder)
            self.folder.create(self.config.to_yaml())

    def _check_apart(self, out: Path) -> None:
        content = self.config.data.content
        if content != "demo" and out.resolve().is_relative_to(Path(content).resolve()):
            raise InputError(f"--out {out}: lies inside --content, and its pictures would be trained on; give another")

    def _build_task(self) -> Task:
        config = self.config
        if config.data.style is None:
            return NoiseTask(config, self.photographs, self.device, self.dtype)
        styles = setup.open_styles(config.data.style, self._note_broken)
        return StylizeTask(config, self.photographs, styles, self.state.generator, self.device, self.dtype)

    def step(self, batch: Tensor) -> dict[str, float]:
        """One alternating update on ``batch``, D first.

        Returns:
            Losses, quality and phase times (seconds), named as in ``metrics.jsonl``.

        Raises:
            ValueError: a batch of the wrong dtype or shape.
        """
        begin = time.perf_counter()
        progress = self.budget.schedule(self.state.step, self.state.elapsed)
        if self.state.step == 0:
            self.task.prepare(self.state, batch)
        metrics = self.task.step(self.state, batch, progress)
        for name, seconds in self.task.step.phases.take().items():
            metrics[f"time/phase/{name}"] = seconds
        spent = time.perf_counter() - begin
        self.state.elapsed += spent
        metrics["progress"] = progress
        metrics["time/step"] = spent
        metrics["time/img_per_s"] = batch.shape[0] / spent
        metrics["mem/peak_bytes"] = float(peak_bytes(self.device))
        return metrics

    def fit(self) -> dict[str, Any]:
        """Train to the end of the budget, or until ``request_stop``; then evaluate and, with a run folder, report.

        Returns:
            What ``report.json`` holds.

        Raises:
            DivergenceError: a loss stayed not finite after the last rollback.
        """
        with ExitStack() as closing:
            for callback in self.callbacks:
                closing.callback(callback.close)
            self._watchers = []
            if self.folder is not None:
                self._watchers.append(MetricsFile(self.folder.metrics, self.state.step))
                closing.callback(self._watchers[-1].close)
                if self.config.log.tensorboard:
                    self._watchers.append(TensorBoard(self.folder.path / "tb", self.state.step))
                    closing.callback(self._watchers[-1].close)
            return self._fit()

    def request_stop(self) -> None:
        """Ask ``fit`` to stop after the step under way, saving a checkpoint. Safe to call from a signal handler."""
        self.stop_requested = True

    def model(self) -> Stylizer | Sampler:
        """The averaged generator as it is now, ready for use: what ``fastgan.load`` gives of a finished run."""
        return self.task.model(self.state)

    def save(self) -> Path | None:
        """Write a checkpoint and the model to the run folder; None without one."""
        if self.folder is None:
            return None
        path = checkpoint.save_checkpoint(
            self.folder.checkpoints, self.state.step, self.state.state_dict(), self.config.checkpoint.keep
        )
        extra = {"size": self.config.data.size, "steps": self.state.step, "features": self.config.model.features}
        save_model(self.folder.model, self.state.result, extra)
        if not self._files_saved:
            self.task.save_files(self.folder.model)
            self._files_saved = True
        self._tell("on_checkpoint", callbacks.CheckpointEvent(self.state.step, path))
        return path

    def _fit(self) -> dict[str, Any]:
        self._pass_on_messages()
        networks = partial(self.task.networks, self.state)
        compiler = Compiler(self.config.train.compile, self.state, networks, self.device, self.dtype, self._say)
        compiler.start()
        begin = time.monotonic()
        self.start = self.task.start()
        self._reserve_time(time.monotonic() - begin)
        self._tell("on_start", None)
        self._good = self.state.snapshot()
        saved_at = self.state.step if self._resume_at else -1
        epoch = time.monotonic() - self.state.elapsed
        batches = self._batches()
        config = self.config
        try:
            while not self.stop_requested:
                # The clock, not the sum of the steps: samples, checkpoints and measurements take their share too.
                self.state.elapsed = time.monotonic() - epoch
                if self.budget.done(self.state.step, self.state.elapsed) or self._has_had_enough():
                    break
                if self.task.step.graphs is not None:
                    self.task.step.graphs.waiting = not compiler.settled
                batch, waited = next(batches, (None, 0.0))
                if batch is None:
                    break
                metrics = self.step(batch)
                metrics["time/data_wait"] = waited
                step = self.state.step
                if not self.stop_requested:  # compiling could not be interrupted
                    compiler.observe(
                        metrics["time/step"], partial(self.budget.steps_left, step, time.monotonic() - epoch)
                    )
                keeping = any(step % every == 0 for every in (config.quality.every, config.checkpoint.every))
                # The update may be what is not finite, under losses that are: looked at before it is kept anywhere.
                watched = [metrics[name] for name in self.task.step.guarded()]
                fault = None
                if not all(map(math.isfinite, watched)) or (keeping and not self.state.is_finite()):
                    fault = "a loss was not finite"
                else:
                    self._watch_for_collapse(metrics)
                    if step % config.quality.every == 0:
                        measured, fault = self._guard_quality()
                        metrics |= measured
                if fault is not None:
                    self._roll_back(fault)
                    batches.close()
                    batches = self._batches()  # from the step that was restored
                    continue
                progress = self.budget.progress(step, self.state.elapsed)
                self._tell("on_step", callbacks.StepEvent(step, metrics, progress))
                if step % config.log.samples_every == 0:
                    self._sample(f"step-{step:06d}")
                if step % config.checkpoint.every == 0:
                    self.save()
                    saved_at = step
        finally:
            batches.close()
        if not self.state.is_finite():
            self._roll_back("a parameter was not finite")
        if not self._is_stopped():
            compiler.finish()
            self._keep_best()
        if saved_at != self.state.step:
            self.save()
        return self._finish()

    def _finish(self) -> dict[str, Any]:
        complete = not self._is_stopped()
        result = self.task.finish(self.state) if complete else None
        if complete:
            self._sample("final")
        lines = [] if self.folder is None else read_metrics(self.folder.metrics)
        report = run_record(self, result, time.monotonic() - self._started, lines, complete=complete)
        if self.folder is not None:
            write_report(self.folder.path, report, lines, caption=self.task.caption, baseline=self.task.baseline)
        self._tell("on_end", callbacks.EndEvent(report, not complete))
        return report

    def _is_stopped(self) -> bool:
        return self.stop_requested and not self.budget.done(self.state.step, self.state.elapsed)

    def _has_had_enough(self) -> bool:
        best, patience = self.state.best, self.config.quality.patience
        if best is None or patience is None or best.since < patience:
            return False
        text = f"no better than at step {best.step} in {best.since} measurements: ended at step {self.state.step}"
        self._say(text)
        return True

    def _keep_best(self) -> None:
        quality = self.config.quality
        if not quality.keep_best:
            return
        if self.state.step % quality.every:
            self._guard_quality()
        self.state.keep_best()
        if self.state.kept is not None and self.state.best is not None:
            text = f"the model is that of step {self.state.best.step}, the best of those measured"
            self._say(text)

    def _batches(self) -> Generator[tuple[Tensor, float], None, None]:
        """(batch, seconds waited for it); closes the loader's thread at the end."""
        if self._source is not None:
            source = self._source
        else:
            assert self.photographs is not None
            source = setup.read_ahead(self.config, self.photographs.batches, self.state.step, self.device)
        try:
            while True:
                begin = time.perf_counter()
                try:
                    batch = next(source)
                except StopIteration:
                    return
                self._pass_on_messages()
                yield batch, time.perf_counter() - begin
        finally:
            if self._source is None:
                source.close()  # type: ignore[attr-defined]

    @property
    def _judging(self) -> bool:
        quality = self.config.quality
        return quality.keep_best or quality.patience is not None or quality.rollback is not None

    def _guard_quality(self) -> tuple[dict[str, float], str | None]:
        """Measure what was learnt, correct the controller, keep this state to fall back to; the measures, and what is
        wrong."""
        measured: dict[str, float] = {}
        controller, quality = self.state.controller, self.config.quality
        if controller is not None or self._judging or self.task.always_observed:
            measured = self.task.observe(self.state)
        if measured:
            if controller is not None:
                controller.correct(measured[f"held_out/{controller.metric}"])
            self._tell("on_quality", callbacks.QualityEvent(self.state.step, measured))
            if self._judging:
                score = measured["held_out/score"] = self.task.score(measured)
                best = self.state.best
                if quality.rollback is not None and best is not None and score > quality.rollback * best.score > 0:
                    return measured, f"quality fell, to a score of {score:.3g} from {best.score:.3g}"
                self.state.judge(score)
        if self.state.is_finite():  # callbacks may have touched it
            self._good = self.state.snapshot()
        return measured, None

    def _watch_for_collapse(self, metrics: dict[str, float]) -> None:
        if self.state.alarm is None:
            return
        loss = self.config.loss
        vanishes = loss.kind != "wgan" and (loss.real_label, loss.fake_label) == (1.0, 0.0)
        text = self.state.alarm.update(metrics["quality/spread"], metrics["loss/d"] if vanishes else None)
        if text is not None:
            self.state.alarms.append((self.state.step, text))
            self._say(f"step {self.state.step}: {text}")

    def _roll_back(self, fault: str) -> None:
        """Go back to the last good state at lower rates. Raises DivergenceError when that was done too often."""
        step, rollbacks, decisions = self.state.step, self.state.rollbacks, self.state.decisions
        if self._good is None or rollbacks >= _MAX_ROLLBACKS:
            raise DivergenceError(
                f"{fault} at step {step}, after {rollbacks} rollbacks; lower optim.generator.lr "
                f"(now {self.config.optim.generator.lr:g}) or use --precision fp32"
            )
        self.state.load_state_dict(self._good)
        self.state.rollbacks = rollbacks + 1
        self.state.decisions = decisions
        self.state.damping *= 0.5
        self._good = self.state.snapshot()
        self._tell("on_rollback", callbacks.RollbackEvent(step, self.state.step, self.state.damping, fault))

    def _sample(self, name: str) -> None:
        if self.folder is None:
            return
        for kind, sheet in self.task.samples(self.state).items():
            write_image(sheet, self.folder.samples / f"{name}{kind}.png")
            for watcher in self._watchers:
                if isinstance(watcher, TensorBoard):
                    watcher.add_images(f"samples{kind}", sheet, self.state.step)

    def _reserve_time(self, measured: float) -> None:
        """With ``train.minutes``, the wall time of the whole command: what is left for training after start and end."""
        if self.budget.seconds is None or self.config.train.minutes is None:
            return
        start_up = time.monotonic() - self._started
        # The end measures once more, with the generator before the encoder; report and plots take some 4 s.
        reserve = (2.0 * measured + 4.0) if self.folder is not None else 2.0 * measured
        self.budget.seconds = max(1.0, 60 * self.config.train.minutes - start_up - reserve)

    def _restore(self, folder: RunFolder) -> None:
        found = checkpoint.load_newest(
            folder.checkpoints, lambda path, reason: self._messages.append(f"{path}: damaged, not used ({reason})")
        )
        if found is None:
            return
        path, values = found
        try:
            self.state.load_state_dict(values)
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"{path}: does not fit the networks of this config ({first_line(error)})") from None
        self._resume_at = self.state.step

    def _pass_on_messages(self) -> None:
        while self._messages:  # the loader's thread may be adding to them
            self._say(self._messages.popleft())

    def _note_broken(self, path: ImagePath, reason: str) -> None:
        self.broken[path] = reason
        self._messages.append(f"skipped: {reason}")

    def _say(self, text: str) -> None:
        self._tell("on_message", callbacks.MessageEvent(text))

    def _tell(self, event: str, value: Any) -> None:
        for callback in (*self._watchers, *self.callbacks):
            if value is None:
                getattr(callback, event)(self)
            else:
                getattr(callback, event)(self, value)
