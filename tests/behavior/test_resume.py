"""A run that is stopped, killed or damaged goes on to the same bits."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny_runs import Recorder, batch, differences, fingerprint, read_lines, untimed
from helpers.waiting import HANG

from fastgan.config import Config
from fastgan.errors import InputError
from fastgan.training import Callback, Trainer

Make = Callable[..., Config]
ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"train.steps": 10, "checkpoint.every": 3, "eval.every": 2, "quality.target_ssim": 0.5, "loss.tv": 0.1}


class StopAt(Callback):
    def __init__(self, step: int, error: Exception | None = None) -> None:
        self.step, self.error = step, error

    def on_step(self, trainer: Trainer, event: Any) -> None:
        if event.step == self.step:
            if self.error is not None:
                raise self.error
            trainer.request_stop()


def last_saved_is_lost(run: Path, step: int) -> None:
    """As after a crash that left no time to save."""
    (run / "checkpoints" / f"step-{step:08d}.pt").unlink()


def newest(run: Path) -> dict[str, Any]:
    path = max((run / "checkpoints").glob("step-*.pt"))
    return torch.load(path, weights_only=True)


def assert_same_run(run: Path, whole: Path) -> None:
    """Networks, optimizers, controller and random state, the model, and every line of the metrics but its times."""
    assert differences(newest(run), newest(whole)) == []
    for name in ("generator.safetensors", "config.json"):
        assert (run / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()
    assert untimed(read_lines(run)) == untimed(read_lines(whole))
    assert [line["step"] for line in read_lines(run)] == list(range(1, len(read_lines(whole)) + 1))


@pytest.fixture
def whole(tiny: Make, tmp_path: Path, no_plots: None) -> Path:
    """The run without an interruption."""
    Trainer(tiny(FIELDS), out=tmp_path / "whole").fit()
    return tmp_path / "whole"


@pytest.mark.parametrize("steps", [(4,), (3, 8), (1, 2, 9)])
def test_stopped_runs_go_on_to_the_same_bits(tiny: Make, tmp_path: Path, whole: Path, steps: tuple[int, ...]) -> None:
    run = tmp_path / "run"
    for number, step in enumerate(steps):
        Trainer(tiny(FIELDS), out=run, callbacks=[StopAt(step)], resume=number > 0).fit()
        assert newest(run)["global_step"] == step
    watch = Recorder()
    trainer = Trainer(tiny(FIELDS), out=run, callbacks=[watch], resume=True)
    assert trainer.state.global_step == steps[-1]
    report = trainer.fit()
    assert report["complete"] and [event.step for event in watch.of("on_step")] == list(range(steps[-1] + 1, 11))
    assert_same_run(run, whole)
    assert newest(run)["alarm"]["updates"] == 10 and newest(run)["alarm"]["spread"]["running"] > 0


def test_crashed_runs_go_on_from_the_last_checkpoint(tiny: Make, tmp_path: Path, whole: Path) -> None:
    """Lines past the checkpoint are taken back, none is missing and none stands twice."""
    run = tmp_path / "run"
    with pytest.raises(OSError, match="gone"):
        Trainer(tiny(FIELDS), out=run, callbacks=[StopAt(8, OSError("gone"))]).fit()
    last_saved_is_lost(run, 8)
    assert newest(run)["global_step"] == 6 and len(read_lines(run)) == 8
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss/g": 0.')  # a crash in the middle of a line
    Trainer(tiny(FIELDS), out=run, resume=True).fit()
    assert_same_run(run, whole)


def test_killed_runs_go_on_to_the_same_bits(tiny: Make, tmp_path: Path, whole: Path) -> None:
    """SIGKILL at five moments, one of them soon, four after some steps; then the rest.

    The child kills itself in the middle of a chosen call of Python's, so that the moment has nothing to do with time.
    """
    config = tmp_path / "config.yaml"
    config.write_text(tiny(FIELDS).to_yaml())
    # Children of one process that has imported everything and computed nothing, so that forking is cheap and safe.
    code = """
import os, random, signal, sys
from pathlib import Path
from fastgan.evaluation import report
from fastgan.training import Callback, Trainer
from fastgan.config import load_config
report._write_plots = lambda *_: []
config, run = load_config(Path(sys.argv[1])), Path(sys.argv[2])
random.seed(int(sys.argv[3]))
metrics, killed = run / "metrics.jsonl", 0
def lines():
    return metrics.read_bytes().count(b"\\n") if metrics.exists() else 0
def kill_after(calls):
    left = iter(range(calls))
    sys.setprofile(lambda *_: next(left, None) is None and os.kill(os.getpid(), signal.SIGKILL))
class KillAt(Callback):
    def __init__(self, step, calls):
        self.step, self.calls = step, calls
    def on_step(self, trainer, event):
        if event.step >= self.step and sys.getprofile() is None:
            kill_after(self.calls)
def start(*callbacks, calls=None):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if calls is not None:
            kill_after(calls)
        Trainer(config, out=run, callbacks=callbacks, resume=True).fit()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(9)
for attempt in range(5):
    expected, calls = random.randint(2, 8), random.randint(0, 5000)  # a step takes some 10^4
    code = start(KillAt(expected, calls)) if attempt else start(calls=calls)
    killed += code == -signal.SIGKILL
    print("attempt", attempt, "lines", lines())
print("killed", killed)
sys.exit(start())
"""
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", code, str(config), str(run), "3"],
        capture_output=True,
        text=True,
        timeout=HANG,
        # As many threads as here: two sum in another order than one.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split("killed ")[1]) == 5, done.stdout
    assert_same_run(run, whole)


@pytest.mark.parametrize("where", ["data", "step", "callback"])
def test_what_was_learned_is_saved_when_an_error_ends_the_run(
    tiny: Make, tmp_path: Path, whole: Path, where: str
) -> None:
    """Between steps that is all of it; in the middle of one, the state of the last evaluation; then the same bits."""
    run = tmp_path / "run"
    watch = Recorder()
    callbacks: list[Callback] = [watch, StopAt(5, OSError("gone"))] if where == "callback" else [watch]
    trainer = Trainer(tiny({**FIELDS, "checkpoint.every": 1000}), out=run, callbacks=callbacks)
    assert trainer.photographs is not None

    def failing(call: Callable[..., Any], due: Callable[..., bool]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            if due(*arguments):
                raise OSError("gone")
            return call(*arguments, **options)

        return instead

    batches, stepper = trainer.photographs.batches, trainer.stepper
    if where == "step":  # D is updated, G is not
        generator = failing(stepper._update_generator, lambda state, *_: state.global_step == 5)
        stepper._update_generator = generator  # type: ignore[method-assign]
    elif where == "data":
        batches.batch_at = failing(batches.batch_at, lambda step: step == 5)  # type: ignore[method-assign]
    with pytest.raises(OSError, match="gone"):
        trainer.fit()
    saved = 4 if where == "step" else 5
    assert newest(run)["global_step"] == saved and (run / "model" / "generator.safetensors").is_file()
    assert f"saved step {saved}" in watch.of("on_message")[-1].text
    Trainer(tiny(FIELDS), out=run, resume=True).fit()
    assert_same_run(run, whole)


def test_an_error_that_cannot_be_followed_by_saving_is_the_one_raised(tiny: Make, tmp_path: Path) -> None:
    watch = Recorder()
    trainer = Trainer(tiny(FIELDS), out=tmp_path / "run", callbacks=[StopAt(2, KeyError("mine")), watch])

    def full() -> None:
        raise InputError("no space left on device")

    trainer.save = full  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyError, match="mine"):
        trainer.fit()
    assert "could not be saved: no space left on device" in watch.of("on_message")[-1].text


def test_a_truncated_checkpoint_is_named_and_the_one_before_used(tiny: Make, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    Trainer(tiny(FIELDS), out=run, callbacks=[StopAt(8)]).fit()
    last = run / "checkpoints" / "step-00000008.pt"
    last.write_bytes(last.read_bytes()[:-1000])
    watch = Recorder()
    trainer = Trainer(tiny(FIELDS), out=run, callbacks=[watch], resume=True)
    assert trainer.state.global_step == 6
    trainer.fit()
    texts = [event.text for event in watch.of("on_message")]
    assert len(texts) == 1 and str(last) in texts[0] and "damaged, not used" in texts[0]
    assert_same_run(run, whole)


def test_resume_without_a_checkpoint_starts_afresh(tiny: Make, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(OSError, match="gone"):
        Trainer(tiny(FIELDS), out=run, callbacks=[StopAt(2, OSError("gone"))], resume=True).fit()
    last_saved_is_lost(run, 2)
    assert not list(run.glob("checkpoints/*")) and len(read_lines(run)) == 2
    trainer = Trainer(tiny(FIELDS), out=run, resume=True)
    assert trainer.state.global_step == 0
    trainer.fit()
    assert_same_run(run, whole)


def test_resume_of_a_finished_run(tiny: Make, whole: Path) -> None:
    before = newest(whole)
    lines = read_lines(whole)
    trainer = Trainer(tiny(FIELDS), out=whole, resume=True)
    assert trainer.fit()["steps"] == 10
    assert differences(before, newest(whole)) == [] and read_lines(whole) == lines


def test_a_longer_run_goes_on(tiny: Make, whole: Path) -> None:
    Trainer(tiny({**FIELDS, "train.steps": 12}), out=whole, resume=True).fit()
    assert [line["step"] for line in read_lines(whole)] == list(range(1, 13))
    assert "steps: 12" in (whole / "config.yaml").read_text()


def test_other_networks_do_not_resume(tiny: Make, whole: Path) -> None:
    before = fingerprint(whole)
    fields = {"model.generator.width": 6, "model.discriminator.depth": 1, "optim.generator.name": "sgd"}
    with pytest.raises(InputError, match=r"step-00000010\.pt: does not fit the networks of this config") as caught:
        Trainer(tiny({**FIELDS, **fields}), out=whole, resume=True)
    for text in ("generator.width is 6, the run has 4", "depth is 1, the run has 2", "name is sgd, the run has adam"):
        assert text in str(caught.value)
    (whole / "config.yaml").write_text("of another version: true")
    before = fingerprint(whole)
    with pytest.raises(InputError, match=r"does not fit.*size mismatch"):
        Trainer(tiny({**FIELDS, "model.generator.width": 6}), out=whole, resume=True)
    assert fingerprint(whole) == before


def test_an_existing_run_is_not_touched(tiny: Make, whole: Path, tmp_path: Path) -> None:
    before = fingerprint(whole)
    with pytest.raises(InputError, match="already exists; add resume=True"):
        Trainer(tiny(FIELDS), out=whole)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not a run folder"):
        Trainer(tiny(FIELDS), out=other, resume=True)
    with pytest.raises(InputError, match="is a file; give a folder"):
        Trainer(tiny(FIELDS), out=other / "letter.txt")
    assert fingerprint(whole) == before and list(other.iterdir()) == [other / "letter.txt"]


def test_checkpoint_keep(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    run = tmp_path / "run"
    Trainer(tiny({**FIELDS, "checkpoint.every": 2, "checkpoint.keep": 3}), out=run).fit()
    assert [path.name[5:13] for path in sorted((run / "checkpoints").iterdir())] == ["00000006", "00000008", "00000010"]


def test_state_round_trip(tiny: Make) -> None:
    """The saved state is complete: a trainer made of it computes what the first would have."""
    one = Trainer(tiny(FIELDS))
    for number in range(3):
        one.train_step(batch(number))
    saved = one.state.snapshot()
    other = Trainer(tiny({**FIELDS, "train.seed": 77}))
    other.state.load_state_dict(saved)
    for number in range(3, 6):
        one.train_step(batch(number))
        other.train_step(batch(number))
    assert differences(one.state.state_dict(), other.state.state_dict()) == []
    assert saved["global_step"] == 3 and differences(saved, one.state.state_dict())  # a snapshot stays what it was


def test_tensorboard_shows_each_step_once(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    fields, run = {**FIELDS, "log.tensorboard": True}, tmp_path / "run"
    with pytest.raises(OSError, match="gone"):
        Trainer(tiny(fields), out=run, callbacks=[StopAt(8, OSError("gone"))]).fit()
    last_saved_is_lost(run, 8)
    Trainer(tiny(fields), out=run, resume=True).fit()
    events = accumulator.EventAccumulator(str(run / "tb"))
    events.Reload()
    assert [point.step for point in events.Scalars("loss/g")] == list(range(1, 11))
