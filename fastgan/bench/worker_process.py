"""Providers in processes of their own, so that memory is measured apart and none slows another.

A worker starts a child, which makes the provider, runs it once, writes the result to a file, and then answers requests
on its standard input, one JSON object a line. What the child or its libraries print goes to stderr.
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

#: Takes the parent's module path, so that the child runs the same fastgan.
_CHILD_CODE = "import json, sys; settings = json.loads(sys.argv[1]); sys.path[:] = settings['path']; \
from fastgan.bench.worker_process import serve; serve(settings)"
_MAX_STDERR_CHARS = 2000


@dataclass
class ReadyProvider:
    """A provider that is ready to be timed.

    Attributes:
        result: of its first run.
        call: does the work again; this is timed.
        report: plain values about its state; not timed.
    """

    result: dict[str, Tensor]
    call: Callable[[], object]
    report: Callable[[], dict[str, Any]] | None = None


class WorkerError(Exception):
    """A provider that could not be made, or whose process ended; one line."""


class Worker:
    """One provider in a child process.

    Args:
        module: with `make_provider(options) -> ReadyProvider`, called in the child; it may raise ImportError.
        options: plain values for it.
        folder: where the child writes the result.

    Raises:
        WorkerError: it cannot be made.
    """

    def __init__(self, module: str, options: Mapping[str, Any], folder: Path, *, device: str, name: str) -> None:
        self._file = folder / f"{name}.pt"
        settings = {
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
            [sys.executable, "-c", _CHILD_CODE, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._stderr_lines: list[str] = []
        self._stderr_reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._stderr_reader.start()
        try:
            self._read_reply()
        except BaseException:
            self.close()
            raise

    def result(self) -> dict[str, Tensor]:
        """The result of the provider's first run."""
        return torch.load(self._file, map_location="cpu", weights_only=True)

    def seconds(self, count: int = 1) -> float:
        """Seconds that `count` calls take. Raises WorkerError if the process has ended."""
        return self._request(count=count)["seconds"]

    def peak_mb(self) -> float:
        """Peak memory so far, MB: resident memory of the process, or on a GPU that of tensors."""
        return self._request(count=0)["peak_mb"]

    def report(self) -> dict[str, Any]:
        """The report of the provider. Raises WorkerError as ``seconds`` does."""
        return self._request(count=0, report=True)["report"]

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
        self._stderr_reader.join(1)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, **request: Any) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            print(json.dumps(request), file=self._child.stdin, flush=True)
        except (OSError, ValueError):  # the pipe is broken, or closed from this side
            raise WorkerError(self._exit_reason()) from None
        return self._read_reply()

    def _read_reply(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise WorkerError(self._exit_reason())
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"])
        return reply

    def _read_stderr(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self._stderr_lines = [*self._stderr_lines, line][-20:]

    def _exit_reason(self) -> str:
        code = self._child.wait()
        self._stderr_reader.join(1)
        lines = "".join(self._stderr_lines)[-_MAX_STDERR_CHARS:].strip().splitlines()
        reason = f": {lines[-1]}" if lines else ""
        return f"its process ended by signal {-code}{reason}" if code < 0 else f"its process ended with {code}{reason}"


def serve(settings: dict[str, Any]) -> None:
    """Run in the child: make the provider, run it once, answer requests until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def send(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=out, flush=True)

    device = torch.device(settings["device"])
    torch.set_num_threads(settings["threads"])
    try:
        provider = importlib.import_module(settings["module"]).make_provider(settings["options"])
        torch.save(provider.result, settings["file"])
    except ImportError as error:
        send({"error": f"needs {error.name or first_line(error)}"})
        return
    except Exception as error:
        send({"error": f"{type(error).__name__}: {first_line(error)[:300]}"})
        return
    provider.result.clear()
    send({})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request.get("report"):
                assert provider.report is not None
                send({"report": provider.report()})
                continue
            seconds = _time_calls(provider.call, request["count"], device.type == "cuda")
        except Exception as error:
            send({"error": f"{type(error).__name__}: {first_line(error)[:300]}"})
            return
        send({"seconds": seconds, "peak_mb": peak_memory_bytes(device) / 1e6})


def _time_calls(call: Callable[[], object], count: int, on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(count):
        call()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - begin
