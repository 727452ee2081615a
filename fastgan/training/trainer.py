"""The training loop: ``Trainer(config).fit()``, or ``trainer.train_step(batch)`` from a loop of your own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fastgan.data import ImagePath
from fastgan.errors import InputError
from fastgan.evaluation.evaluator import EvalResult
from fastgan.evaluation.metrics_log import read_metrics
from fastgan.evaluation.report import write_report
from fastgan.precision import select_device, select_dtype
from fastgan.training import setup
from fastgan.training.callbacks import (
    Callback,
    Checkpoints,
    CollapseMonitor,
    EndEvent,
    Evaluation,
    MessageEvent,
    MetricsFile,
    Rollback,
    RollbackRequest,
    Samples,
    StepEvent,
    TensorBoard,
    tracks_best,
)
from fastgan.training.checkpoint import restore
from fastgan.training.compilation import Compiler
from fastgan.training.cuda_graphs import make_graph_runner
from fastgan.training.record import run_record
from fastgan.training.run_folder import RunFolder
from fastgan.training.run_length import RunLength
from fastgan.training.tasks import task_of
from fastgan.training.train_step import TrainStep
from fastgan.utils.host_settings import own_settings
from fastgan.utils.system import peak_memory_bytes

if TYPE_CHECKING:
    from fastgan.config import Config


class Trainer:
    """One training run. Two of them in one process do not disturb each other; one belongs to one thread.

    The caller's autocast, ``no_grad``, ``inference_mode``, default device and dtype do not reach it, nor its callbacks.

    Args:
        config: a ``fastgan.config.Config``, a mapping of its fields, or the path of a YAML file. On resume, the one
            that the run began with: ``out/config.yaml``.
        out: the run folder; None writes nothing.
        data: batches, any iterable of tensors: uint8 (N, H, W, 3), or floating (N, 3, H, W) in [-1, 1]. None takes
            random crops of the photographs of ``data.content``. An iterable that ends ends the run. On resume, give
            one that goes on where the last left off.
        callbacks: see ``fastgan.training.callbacks``.
        resume: go on from the newest checkpoint in ``out``; start afresh if there is none.
        started: ``time.monotonic()`` of the moment from which ``train.minutes`` counts; by default now.

    Raises:
        InputError: a bad config, missing or unreadable photographs, style or weights, or an ``out`` that exists
            (without ``resume``). Nothing has been written then.
    """

    @own_settings()
    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | Path | None = None,
        *,
        out: str | Path | None = None,
        data: Iterable[Tensor] | None = None,
        callbacks: Sequence[Callback] = (),
        resume: bool = False,
        started: float | None = None,
    ) -> None:
        self._started = time.monotonic() if started is None else started
        self.config = setup.as_config(config)
        self.callbacks = list(callbacks)
        self.folder = None if out is None else RunFolder(Path(out), resume=resume)
        self.device = select_device(self.config.train.device)
        self.dtype = select_dtype(self.config.train.precision, self.device)
        task = task_of(self.config)
        self.state = setup.build_state(self.config, self.device, self.dtype)
        self.broken: dict[ImagePath, str] = {}
        self._messages: deque[str] = deque()
        self._source: Iterator[Tensor] | None = None if data is None else iter(data)
        self.photographs = None if data is not None else setup.open_photographs(self.config, self._note_broken)
        styles = setup.open_styles(self.config.data.style, self._note_broken)
        self.task = task(self.config, self.photographs, styles, self.state.generator, self.device, self.dtype)
        self.stepper = TrainStep(self.config, self.task, self.device, self.dtype)
        self.stepper.graph_runner = make_graph_runner(
            self.config, self.state.generator, self.stepper.update, self.device, self._messages.append
        )
        batches = None if self.photographs is None else self.photographs.batches
        self.run_length = RunLength.from_config(self.config.train, None if batches is None else batches.steps_per_epoch)
        self.stop_requested = False
        if tracks_best(self.config) and self.photographs is None:
            raise InputError(
                "quality.keep_best, patience and rollback need photographs held out; give data.content and no data"
            )
        self.baseline: EvalResult | None = None
        self._rollback = Rollback(self.stepper.finite_metrics())
        self._collapse, self._evaluation = CollapseMonitor(), Evaluation(self._rollback)
        self._samples, self._checkpoints = Samples(), Checkpoints()
        self._writers: tuple[Callback, ...] = ()
        if self.folder is not None:
            setup.check_out_not_inside_content(self.folder.path, self.config.data.content)
            if resume and restore(self.state, self.folder.checkpoints, self._messages.append):
                self._checkpoints.saved_step = self.state.global_step
            self.folder.create(self.config.to_yaml())

    @own_settings()
    def train_step(self, batch: Tensor) -> dict[str, float]:
        """One alternating update on ``batch``, D first.

        Returns:
            Losses, quality and phase times (seconds), named as in ``metrics.jsonl``.

        Raises:
            ValueError: a batch of the wrong dtype or shape.
        """
        begin = time.perf_counter()
        progress = self.run_length.schedule(self.state.global_step, self.state.train_seconds)
        metrics = self.stepper(self.state, batch, progress)
        for name, seconds in self.stepper.phases.take().items():
            metrics[f"time/phase/{name}"] = seconds
        seconds = time.perf_counter() - begin
        self.state.train_seconds += seconds
        metrics["progress"] = progress
        metrics["time/step"] = seconds
        metrics["time/img_per_s"] = batch.shape[0] / seconds
        metrics["memory/peak_bytes"] = float(peak_memory_bytes(self.device))
        return metrics

    @own_settings()
    def fit(self) -> dict[str, Any]:
        """Train to the end of the run, or until ``request_stop``; then evaluate and, with a run folder, report.

        Returns:
            The content of ``report.json``.

        Raises:
            DivergenceError: a loss stayed not finite after the last rollback.
        """
        with ExitStack() as closing:
            for callback in self.callbacks:
                closing.callback(callback.close)
            self._writers = ()
            if self.folder is not None:
                self._writers = (MetricsFile(self.folder.metrics, self.state.global_step),)
                closing.callback(self._writers[0].close)
                if self.config.log.tensorboard:
                    self._writers += (TensorBoard(self.folder.path / "tb", self.state.global_step),)
                    closing.callback(self._writers[1].close)
            return self._fit()

    def request_stop(self) -> None:
        """Ask ``fit`` to stop after the step under way, saving a checkpoint. Safe to call from a signal handler."""
        self.stop_requested = True

    def model(self) -> Any:
        """The averaged generator as it is now, ready for use: what ``fastgan.load`` gives of a finished run."""
        return self.task.model(self.state)

    @own_settings()
    def save(self) -> Path | None:
        """Write a checkpoint and the model to the run folder; None without one."""
        return self._checkpoints.save(self)

    def log(self, text: str) -> None:
        """Hand one line to ``on_message`` of the callbacks."""
        self.notify(Callback.on_message, MessageEvent(text))

    def notify(self, hook: Callable[..., None], event: Any = None) -> None:
        """Call a hook of all callbacks, in order."""
        arguments = (self,) if event is None else (self, event)
        for callback in self._ordered_callbacks():
            getattr(callback, hook.__name__)(*arguments)

    def _ordered_callbacks(self) -> tuple[Callback, ...]:
        own = (self._rollback, self._collapse, self._evaluation, *self._writers)
        return (*own, *self.callbacks, self._samples, self._checkpoints)

    def _fit(self) -> dict[str, Any]:
        self._flush_messages()
        networks = partial(self.task.networks, self.state)
        compiler = Compiler(self.config.train.compile, self.state, networks, self.device, self.dtype, self.log)
        compiler.start()
        begin = time.monotonic()
        self.baseline = self.task.evaluate_baseline()
        self._reserve_eval_time(time.monotonic() - begin)
        self.notify(Callback.on_start)
        self._rollback.start(self.state)
        state = self.state
        start = time.monotonic() - state.train_seconds
        batches = self._batches()
        try:
            while not self.stop_requested:
                # The clock, not the sum of the steps: samples, checkpoints and evaluations take their share, too.
                state.train_seconds = time.monotonic() - start
                if self._is_done() or self._evaluation.should_stop(self):
                    break
                if self.stepper.graph_runner is not None:
                    self.stepper.graph_runner.paused = not compiler.decided
                batch, seconds = next(batches, (None, 0.0))
                if batch is None:
                    break
                metrics = self.train_step(batch)
                metrics["time/data"] = seconds
                if not self.stop_requested:  # compiling could not be interrupted
                    clock = time.monotonic() - start
                    steps_left = partial(self.run_length.steps_left, state.global_step, clock)
                    compiler.on_step_end(metrics["time/step"], steps_left)
                try:
                    for callback in self._ordered_callbacks():
                        callback.after_step(self, metrics)
                except RollbackRequest as request:
                    self._rollback.restore(self, str(request))
                    batches.close()
                    batches = self._batches()  # from the step that was restored
                    continue
                progress = self.run_length.progress(state.global_step, state.train_seconds)
                self.notify(Callback.on_step, StepEvent(state.global_step, metrics, progress))
        finally:
            batches.close()
        if not state.is_finite():
            self._rollback.restore(self, "a parameter was not finite")
        if not self._is_stopped():
            compiler.finish()
            self._evaluation.use_best(self)
        # The best generator may have taken the place of the one that was saved at the last step.
        if self._checkpoints.saved_step != state.global_step or state.best_generator is not None:
            self.save()
        return self._finish()

    def _finish(self) -> dict[str, Any]:
        complete = not self._is_stopped()
        result = self.task.evaluate(self.state) if complete else None
        if complete:
            self._samples.write(self, "final")
        lines = [] if self.folder is None else read_metrics(self.folder.metrics)
        report = run_record(self, result, time.monotonic() - self._started, lines, complete=complete)
        if self.folder is not None:
            labels = {"caption": self.task.sample_caption, "baseline": self.task.baseline_label}
            write_report(self.folder.path, report, lines, **labels)
        self.notify(Callback.on_end, EndEvent(report, not complete))
        return report

    def _is_done(self) -> bool:
        return self.run_length.done(self.state.global_step, self.state.train_seconds)

    def _is_stopped(self) -> bool:
        return self.stop_requested and not self._is_done()

    def _batches(self) -> Generator[tuple[Tensor, float], None, None]:
        """(batch, seconds waited for it); closes the loader's thread at the end."""
        if self._source is not None:
            source = self._source
        else:
            assert self.photographs is not None
            source = setup.read_ahead(self.config, self.photographs.batches, self.state.global_step, self.device)
        try:
            while True:
                begin = time.perf_counter()
                try:
                    batch = next(source)
                except StopIteration:
                    return
                self._flush_messages()
                yield batch, time.perf_counter() - begin
        finally:
            if self._source is None:
                source.close()  # type: ignore[attr-defined]

    def _reserve_eval_time(self, seconds: float) -> None:
        """With ``train.minutes``, the wall time of the whole command: what is left for training after start and end."""
        if self.run_length.seconds is None or self.config.train.minutes is None:
            return
        start_up = time.monotonic() - self._started
        # The end measures once more, with the generator before the encoder; report and plots take some 4 s.
        reserve = (2.0 * seconds + 4.0) if self.folder is not None else 2.0 * seconds
        self.run_length.seconds = max(1.0, 60 * self.config.train.minutes - start_up - reserve)

    def _flush_messages(self) -> None:
        while self._messages:  # the loader's thread may be adding to them
            self.log(self._messages.popleft())

    def _note_broken(self, path: ImagePath, reason: str) -> None:
        self.broken[path] = reason
        self._messages.append(f"skipped: {reason}")
