"""Providers that live in processes of their own: memory is each one's, and nothing that one does slows another.

A worker starts a child, which opens the provider, runs it once, keeps what came of it in a file, and then answers
requests on its standard input, a JSON object a line. What the child or its libraries print goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.errors import first_line
from fastgan.utils.system import peak_memory_bytes

#: The parent's path of modules, so that the child runs the same fastgan however that was found.
_CODE = "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given['path']; \
from fastgan.bench.worker_process import serve; serve(given)"
_ERRORS_KEPT = 2000


@dataclass
class Opened:
    """A provider ready to be timed: what it computed the first time, a call that does the work once more and, untimed,
    plain values that tell how it stands."""

    result: dict[str, Tensor]
    call: Callable[[], object]
    report: Callable[[], dict[str, Any]] | None = None


class WorkerError(Exception):
    """A provider that could not be opened, or whose process ended; one line."""


class Worker:
    """One provider in a child process.

    Args:
        module: with `open_provider(options) -> Opened`, which the child calls. It may raise ImportError.
        options: plain values.
        folder: where the child writes its result.

    Raises:
        WorkerError: it cannot be opened.
    """

    def __init__(self, module: str, options: Mapping[str, Any], folder: Path, *, device: str, name: str) -> None:
        self._file = folder / f"{name}.pt"
        given = {
            "module": module,
            "options": dict(options),
            "device": device,
            "file": str(self._file),
            "threads": torch.get_num_threads(),
            "path": sys.path,
        }
        # Threads that spin at a barrier take the core of the provider whose turn it is.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        self._child = subprocess.Popen(
            [sys.executable, "-c", _CODE, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def result(self) -> dict[str, Tensor]:
        """What the provider computed the first time."""
        return torch.load(self._file, map_location="cpu", weights_only=True)

    def seconds(self, count: int = 1) -> float:
        """Seconds of `count` calls. Raises WorkerError when the process ended."""
        return self._ask(count=count)["seconds"]

    def peak_mb(self) -> float:
        """The most memory it has held so far, MB: on a CPU the process's, on a GPU torch's on the device."""
        return self._ask(count=0)["peak_mb"]

    def report(self) -> dict[str, Any]:
        """What the provider tells of itself. Raises WorkerError as ``seconds`` does."""
        return self._ask(count=0, report=True)["report"]

    def close(self) -> None:
        """End the process."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._listener.join(1)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            print(json.dumps(request), file=self._child.stdin, flush=True)
        except (OSError, ValueError):  # the pipe is broken, or closed from this side
            raise WorkerError(self._death()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise WorkerError(self._death())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _listen(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self._said = [*self._said, line][-20:]

    def _death(self) -> str:
        code = self._child.wait()
        self._listener.join(1)
        last = "".join(self._said)[-_ERRORS_KEPT:].strip().splitlines()
        told = f": {last[-1]}" if last else ""
        return f"its process ended by signal {-code}{told}" if code < 0 else f"its process ended with {code}{told}"


def serve(given: dict[str, Any]) -> None:
    """The child's side: open, run once, answer until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    device = torch.device(given["device"])
    torch.set_num_threads(given["threads"])
    try:
        opened = importlib.import_module(given["module"]).open_provider(given["options"])
        torch.save(opened.result, given["file"])
    except ImportError as error:
        reply({"error": f"needs {error.name or first_line(error)}"})
        return
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {first_line(error)[:300]}"})
        return
    opened.result.clear()
    reply({})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request.get("report"):
                assert opened.report is not None
                reply({"report": opened.report()})
                continue
            seconds = _timed(opened.call, request["count"], device.type == "cuda")
        except Exception as error:
            reply({"error": f"{type(error).__name__}: {first_line(error)[:300]}"})
            return
        reply({"seconds": seconds, "peak_mb": peak_memory_bytes(device) / 1e6})


def _timed(call: Callable[[], object], count: int, on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(count):
        call()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - begin
