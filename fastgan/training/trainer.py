"""The training loop: ``Trainer(config).fit()``, or ``trainer.train_step(batch)`` from a loop of your own."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fastgan.data import ImagePath
from fastgan.evaluation.evaluator import EvalResult
from fastgan.evaluation.metrics_log import read_metrics
from fastgan.evaluation.report import write_report
from fastgan.precision import select_device, select_dtype
from fastgan.training import run_inputs, setup
from fastgan.training.batch_source import BatchSource
from fastgan.training.callbacks import (
    Callback,
    Checkpoints,
    CollapseMonitor,
    EndEvent,
    Evaluation,
    MessageEvent,
    Rollback,
    RollbackRequest,
    Samples,
    StepEvent,
    check_evaluates,
    open_writers,
)
from fastgan.training.checkpoint import load_newest, restore
from fastgan.training.compilation import Compiler
from fastgan.training.cuda_graphs import make_graph_runner
from fastgan.training.record import run_record
from fastgan.training.run_folder import RunFolder
from fastgan.training.run_length import RunLength
from fastgan.training.tasks import task_of
from fastgan.training.train_step import TrainStep
from fastgan.utils.host_settings import own_settings
from fastgan.utils.system import PeakMemory

if TYPE_CHECKING:
    from fastgan.config import Config

_log = logging.getLogger(__name__)


class Trainer:
    """One training run. Two of them in one process do not disturb each other; one belongs to one thread.

    The caller's autocast, ``no_grad``, ``inference_mode``, default device and dtype do not reach it, nor its callbacks.

    Args:
        config: a ``fastgan.config.Config``, a mapping of its fields, or the path of a YAML file. On resume, the one
            that the run began with: ``out/config.yaml``.
        out: the run folder; None writes nothing.
        data: batches, any iterable of tensors: uint8 (N, H, W, 3), or floating (N, 3, H, W) in [-1, 1]. None takes
            random crops of the photographs of ``data.content``. A list or a loader is taken over and over; an iterator
            that ends before the run ends it, which is told. On resume, give one that goes on where the last left off.
        callbacks: see ``fastgan.training.callbacks``.
        resume: go on from the newest checkpoint in ``out``; start afresh if there is none. Changes of what the run is
            made from (``run_inputs``) are told and go into the report.
        started: ``time.monotonic()`` of the moment from which ``train.minutes`` counts; by default now.

    Raises:
        InputError: a bad config, missing or unreadable photographs, style or weights, an ``out`` that exists
            (without ``resume``) or that another trainer writes to. Only ``fit`` and ``save`` write there, and they have
            its lock while they do.
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
        self._build(data)

    def _build(self, data: Iterable[Tensor] | None) -> None:
        config = self.config
        self.device = select_device(config.train.device)
        self.dtype = select_dtype(config.train.precision, self.device)
        self.broken: dict[ImagePath, str] = {}
        self._messages: deque[tuple[str, int]] = deque()
        newest = None
        if self.folder is not None:
            note_damaged = "{}: damaged, not used ({})".format
            newest = load_newest(self.folder.checkpoints, lambda *file: self._note(note_damaged(*file)))
        self.state = setup.build_state(config, self.device, self.dtype, resumed=newest is not None)
        before = None if newest is None else newest[1].get("inputs", {})
        self.photographs = None if data is not None else setup.open_photographs(config, self._note_broken, before)
        styles = setup.open_styles(config.data.style, self._note_broken, crop_size=config.data.size)
        self.task = task_of(config)(config, self.photographs, styles, self.state.generator, self.device, self.dtype)
        self.stepper = TrainStep(config, self.task, self.device, self.dtype)
        self.stepper.graph_runner = make_graph_runner(
            config, self.state.generator, self.stepper.update, self.device, partial(self._note, level=logging.INFO)
        )
        batches = None if self.photographs is None else self.photographs.batches
        self._source = BatchSource(data, partial(setup.read_ahead, config, batches, device=self.device), self._note)
        self.run_length = RunLength.from_config(config.train, None if batches is None else batches.steps_per_epoch)
        self.stop_requested = self._in_step = False
        check_evaluates(config, self.photographs)
        self.baseline: EvalResult | None = None
        self._rollback = Rollback(self.stepper.finite_metrics())
        self._collapse, self._evaluation = CollapseMonitor(), Evaluation(self._rollback)
        self._samples, self._checkpoints, self._peak_memory = Samples(), Checkpoints(), PeakMemory(self.device)
        self._writers: tuple[Callback, ...] = ()
        if self.folder is not None:
            setup.check_out_not_inside_content(self.folder.path, config.data.content)
            if newest is not None:
                restore(self.state, newest, partial(setup.differences_of_networks, config, self.folder.config))
                self._checkpoints.saved_step = self.state.global_step
            split, digests = (None, None) if self.photographs is None else self.photographs.hashed
            inputs = run_inputs.describe(config, self.run_length, split, digests)
            progress = self.run_length.schedule(self.state.global_step, self.state.train_seconds)
            rates = None if self._is_done() else self.stepper.rates_around(self.state, progress)
            for text in run_inputs.update(self.state, before, inputs, rates):
                self._note(text)

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
        metrics |= {f"time/phase/{name}": seconds for name, seconds in self.stepper.phases.take().items()}
        seconds = time.perf_counter() - begin
        self.state.train_seconds += seconds
        metrics |= {"progress": progress, "time/step": seconds, "time/img_per_s": batch.shape[0] / seconds}
        metrics["memory/peak_bytes"] = float(self._peak_memory())
        return metrics

    @own_settings()
    def fit(self) -> dict[str, Any]:
        """Train to the end of the run, or until ``request_stop``; then evaluate and, with a run folder, report.

        Returns:
            The content of ``report.json``.

        Raises:
            InputError: the run folder cannot be made, or another trainer writes there or has, since this one was built.
            DivergenceError: a loss stayed not finite after the last rollback.
        """
        with ExitStack() as closing:
            for callback in self.callbacks:
                closing.callback(callback.close)
            closing.enter_context(self._writing())
            if self.folder is not None:
                self._writers = open_writers(self.folder, self.state.global_step, self.config.log, closing)
            return self._fit()

    def request_stop(self) -> None:
        """Ask ``fit`` to stop after the step under way, saving a checkpoint. Safe to call from a signal handler."""
        self.stop_requested = True

    def model(self) -> Any:
        """The averaged generator as it is now, ready for use: what ``fastgan.load`` gives of a finished run."""
        return self.task.model(self.state)

    @own_settings()
    def save(self) -> Path | None:
        """Write a checkpoint and the model to the run folder; None without one. Raises InputError as ``fit``."""
        with self._writing():
            return self._checkpoints.save(self)

    def log(self, text: str, level: int = logging.WARNING) -> None:
        """Hand one line to ``on_message`` of the callbacks, and to the logger ``fastgan.training``."""
        _log.log(level, "%s", text)
        self.notify(Callback.on_message, MessageEvent(text))

    def notify(self, hook: Callable[..., None], event: Any = None) -> None:
        """Call a hook of all callbacks, in order."""
        for callback in self._ordered_callbacks():
            getattr(callback, hook.__name__)(self, *([] if event is None else [event]))

    def _writing(self) -> AbstractContextManager[None]:
        return nullcontext() if self.folder is None else self.folder.writing(self.config.to_yaml(), self.log)

    def _ordered_callbacks(self) -> tuple[Callback, ...]:
        own = (self._rollback, self._collapse, self._evaluation, *self._writers)
        return (*own, *self.callbacks, self._samples, self._checkpoints)

    def _fit(self) -> dict[str, Any]:
        self._flush_messages()
        networks = partial(self.task.networks, self.state)
        log = partial(self.log, level=logging.INFO)
        compiler = Compiler(self.config.train.compile, self.state, networks, self.device, self.dtype, log)
        compiler.start()
        begin = time.monotonic()
        self.baseline = self.task.evaluate_baseline()
        # The end measures once more, with the generator before the encoder; report and plots take some 4 s.
        end = 2.0 * (time.monotonic() - begin) + (0.0 if self.folder is None else 4.0)
        self.run_length.reserve(self.config.train.minutes, time.monotonic() - self._started + end)
        self.notify(Callback.on_start)
        state = self.state
        self._rollback.start(state)
        try:
            self._train(compiler)
            if not state.is_finite():
                self._rollback.restore(self, "a parameter was not finite")
            if not self._is_stopped():
                compiler.finish()
                self._evaluation.use_best(self)
            # The best generator may have taken the place of the one that was saved at the last step.
            if self._checkpoints.saved_step != state.global_step or state.best_generator is not None:
                self.save()
        except BaseException:
            self._checkpoints.save_after_error(self, self._rollback, in_step=self._in_step)
            raise
        return self._finish()

    def _train(self, compiler: Compiler) -> None:
        """Take steps until the run is done, stopped or out of data."""
        state = self.state
        start = time.monotonic() - state.train_seconds
        try:
            while not self.stop_requested:
                # The clock, not the sum of the steps: samples, checkpoints and evaluations take their share, too.
                state.train_seconds = time.monotonic() - start
                if self._is_done() or self._evaluation.should_stop(self):
                    break
                if self.stepper.graph_runner is not None:
                    self.stepper.graph_runner.paused = not compiler.decided
                batch, seconds = self._source.next(state.global_step)
                self._flush_messages()
                if self._source.ended:
                    break
                self._in_step = True
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
                    self._in_step = False
                    self._source.close()  # to go on from the step that was restored
                    continue
                self._evaluation.accept(self)
                self._in_step = False
                progress = self.run_length.progress(state.global_step, state.train_seconds)
                self.notify(Callback.on_step, StepEvent(state.global_step, metrics, progress))
        finally:
            self._source.close()

    def _finish(self) -> dict[str, Any]:
        stopped = self._is_stopped()
        complete = not stopped and not self._source.ended
        result = None if stopped else self.task.evaluate(self.state)
        if not stopped:
            self._samples.write(self, "final", result)
        lines = [] if self.folder is None else read_metrics(self.folder.metrics)
        report = run_record(self, result, time.monotonic() - self._started, lines, complete=complete)
        if self.folder is not None:
            task = self.task
            write_report(self.folder.path, report, lines, caption=task.sample_caption, baseline=task.baseline_label)
        self.notify(Callback.on_end, EndEvent(report, stopped))
        return report

    def _is_done(self) -> bool:
        return self.run_length.done(self.state.global_step, self.state.train_seconds)

    def _is_stopped(self) -> bool:
        return self.stop_requested and not self._is_done()

    def _flush_messages(self) -> None:
        while self._messages:  # the loader's thread may be adding to them
            self.log(*self._messages.popleft())

    def _note(self, text: str, level: int = logging.WARNING) -> None:
        """Log a line once callbacks can be called: at the start, or before the next step."""
        self._messages.append((text, level))

    def _note_broken(self, path: ImagePath, reason: str) -> None:
        self.broken[path] = reason
        self._note(f"skipped: {reason}")
