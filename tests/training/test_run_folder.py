"""A run folder is open to one trainer, a run that is resumed, or one that never took a step."""

import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_runs import Recorder, batch, fingerprint, read_lines
from helpers.waiting import HANG

from fastgan.config import Config
from fastgan.errors import InputError
from fastgan.training import Trainer
from fastgan.training.callbacks import Callback, Run, StepEvent
from fastgan.training.run_folder import RunFolder

Make = Callable[..., Config]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_use_is_refused_naming_who_uses_it(tmp_path: Path, resume: bool) -> None:
    first = RunFolder(tmp_path / "run")
    with first.writing("a: 1"):
        first.metrics.write_text('{"step": 1}\n')
        before = fingerprint(tmp_path)
        with pytest.raises(InputError, match=f"process {os.getpid()} on {socket.gethostname()} trains there"):
            RunFolder(tmp_path / "run", resume=resume)
        assert fingerprint(tmp_path) == before
    RunFolder(tmp_path / "run", resume=True)


def test_two_that_begin_at_once(tmp_path: Path) -> None:
    """Both found nothing there; the second is refused when it begins to write, also once the first has ended."""
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with first.writing("a: 1"):
        with pytest.raises(InputError, match="trains there"), second.writing("a: 2"):
            pass
        with pytest.raises(InputError, match="trains there"):
            RunFolder(tmp_path / "run", resume=True)  # being refused has not given back the first one's lock
        first.metrics.write_text('{"step": 1}\n')
    with pytest.raises(InputError, match="already exists"), second.writing("a: 2"):
        pass
    assert first.config.read_text() == "a: 1"


def test_writing_within_writing_is_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.writing("a: 1"):
        with folder.writing("a: 1"):
            pass
        with pytest.raises(InputError, match="trains there"):
            RunFolder(tmp_path / "run")


def test_a_trainer_that_is_built_keeps_no_other_from_the_folder(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    """As a cell of a notebook builds it that is run twice."""
    built = Trainer(tiny({"train.steps": 1}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    trainer = Trainer(tiny({"train.steps": 1}), out=tmp_path / "run")
    assert trainer.train_step(batch(0)) and trainer.save() is not None
    again = Trainer(tiny({"train.steps": 2}), out=tmp_path / "run", resume=True)
    again.fit()
    before = fingerprint(tmp_path)
    with pytest.raises(InputError, match="already exists"):
        built.fit()
    for call in (trainer.save, trainer.fit):
        for _ in range(2):  # being refused is no look
            with pytest.raises(InputError, match="another trainer has saved there since this one was built"):
                call()
    assert fingerprint(tmp_path) == before
    again.save()
    again.fit()


def test_a_trainer_has_its_folder_while_it_fits(tiny: Make, tmp_path: Path, no_plots: None) -> None:
    class Rival(Callback):
        def on_step(self, run: Run, event: StepEvent) -> None:
            for other in (built.fit, built.save, lambda: Trainer(tiny(), out=tmp_path / "run", resume=True)):
                with pytest.raises(InputError, match="trains there"):
                    other()
            run.save()
            refused.append(event.step)

    refused: list[int] = []
    built = Trainer(tiny({"train.steps": 2}), out=tmp_path / "run")
    Trainer(tiny({"train.steps": 2}), out=tmp_path / "run", callbacks=[Rival()]).fit()
    assert refused == [1, 2]
    Trainer(tiny({"train.steps": 1}), out=tmp_path / "run", resume=True).fit()


def test_a_file_system_without_locks_is_told(
    tiny: Make, tmp_path: Path, no_plots: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    watch = Recorder()
    Trainer(tiny({"train.steps": 1}), out=tmp_path / "run", callbacks=[watch]).fit()
    assert ["has no locks" in event.text for event in watch.of("on_message")] == [True]


def test_only_what_never_took_a_step_is_begun_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.writing("a: 1"):
        (folder.path / ".fastgan-0123456789abcdef.tmp").write_text("half")
        folder.metrics.write_text("")
    with RunFolder(tmp_path / "run").writing("a: 2"):
        pass
    assert folder.config.read_text() == "a: 2" and not list(folder.path.glob("*.tmp"))
    for path in (folder.metrics, folder.samples / "step-000001.png", folder.checkpoints / "step-00000001.pt"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
        with pytest.raises(InputError, match="already exists; add resume=True"):
            RunFolder(tmp_path / "run")
        path.unlink()
    folder.checkpoints.rmdir()
    # A config that somebody has put there is no run of ours.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("a: 1")
    with pytest.raises(InputError, match="already exists"):
        RunFolder(tmp_path / "mine")


#: Runs the same training in one child after another. Child n dies at the n-th change that it makes in the file system.
KILLER = """
import os, sys
from pathlib import Path
from fastgan.config import load_config
from fastgan.evaluation import report
from fastgan.training import Trainer
from fastgan.training.callbacks import Callback, Run, StepEvent
from fastgan.training.callbacks import MetricsFile
from fastgan.training.run_folder import RunFolder
report._write_plots = lambda *_: []
config, out, resume = load_config(Path(sys.argv[1])), sys.argv[2], sys.argv[3] == "resume"
Trainer(config).fit()  # so that a child has nothing to import; with one thread there is nothing that a fork would lose

def is_change(event, args):
    if event == "open":
        return out in str(args[0]) and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
    return event in ("os.mkdir", "os.rename", "os.remove", "os.truncate") and out in str(args[0])

def train(die_at):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    changes = iter(range(die_at))
    def hook(event, args):
        if is_change(event, args) and next(changes, None) is None:
            os._exit(77)
    sys.addaudithook(hook)
    try:
        if resume:
            Trainer(config, out=out, resume=True).fit()
        else:
            folder = RunFolder(Path(out))
            with folder.writing(config.to_yaml()):
                MetricsFile(folder.metrics, 0)._file.write("{}\\n")
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(9)

for die_at in range(200):
    stepped = (Path(out) / "metrics.jsonl").exists() and (Path(out) / "metrics.jsonl").stat().st_size
    if stepped and not resume:
        sys.exit(0)
    code = train(die_at)
    print(die_at, code, sorted(os.listdir(out)) if os.path.isdir(out) else None)
    if code != 77:
        sys.exit(code)
"""


@pytest.mark.parametrize("how", ["resume", "fresh"])
def test_whatever_instant_it_dies_at_the_same_call_goes_on(tiny: Make, tmp_path: Path, how: str) -> None:
    """Without ``resume``, until the first step."""
    config, run = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(tiny({"train.steps": 1}).to_yaml())
    command = [sys.executable, "-c", KILLER, str(config), str(run), how]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    deaths = [line.split()[0] for line in done.stdout.splitlines() if line.split()[1] == "77"]
    assert len(deaths) >= (10 if how == "resume" else 5), done.stdout
    if how == "resume":
        assert [line["step"] for line in read_lines(run)] == [1] and (run / "report.json").is_file()
