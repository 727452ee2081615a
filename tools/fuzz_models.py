"""Fuzz what is read of a model folder: its description, its weights and its styles, as a stranger might have made them.

Each case changes a small model and hands it to a command, in a process of its own whose memory and processor time are
limited. The command must end with 2 and one line that names a file of the model, or with 0 and a picture. A case
follows from --seed and its number alone, so that a finding ends in the command that shows it again.

    python tools/fuzz_models.py --seconds 120
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process that has threads of OpenMP cannot be forked

import numpy as np
import torch
from torch import nn

from fastgan.cli import main as fastgan
from fastgan.data import read_image, write_image
from fastgan.inference.model_files import save_model, save_styles
from fastgan.models import ArticleGenerator, DCGANGenerator, FastGenerator, FusionGenerator

WEIGHTS, DESCRIPTION = "generator.safetensors", "config.json"
#: What a case may take beside what the libraries do.
MEMORY, SECONDS = 1 << 30, 20
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "fast": lambda: FastGenerator(4, 1),
    "article": lambda: ArticleGenerator(4, 1),
    "dcgan": lambda: DCGANGenerator(4, 1, size=16, z_dim=5),
    "fusion": lambda: FusionGenerator(2, 1, layer="relu2_1"),
}
NUMBERS = (0, -1, 1, 2, 3, 5, 7, 64, 1000, 10**5, 10**6, 10**9, 2**31, 2**63, 10**40, 0.5, -0.0, 1e300, True, False)
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    None,
    "",
    "fast",
    "adain",
    "\0",
    "x" * 5000,
    [],
    {},
    [[]] * 3,
    {"a": 1},
    [1] * 2000,
)
TEXTS = (b"NaN", b"-Infinity", b"1e999", b"[" * 20_000, b'{"a":' * 20_000, b"9" * 4000, b'"\\ud800"', b"\xff", b"")
DTYPES = ("BOOL", "U8", "I8", "I32", "I64", "F8_E5M2", "F16", "BF16", "F64", "C64", "", "F33", 5, None)
SHAPES: tuple[Any, ...] = ([], [0], [1], [-1], [2**62, 4], [2**64], [10**30], [1] * 5000, ["1"], None, 3, [1.5])


class Finding(Exception):
    """A case that ended otherwise than it must."""


class Case(NamedTuple):
    """A model to be changed, and the random numbers to do it by."""

    folder: Path
    random: Random


def description(case: Case) -> None:
    """Another value at some place of the description."""
    path = case.folder / DESCRIPTION
    content = json.loads(path.read_text())
    section = content if case.random.random() < 0.4 else content["generator"]
    name = case.random.choice((*section, "features", "more"))
    if case.random.random() < 0.15:
        section.pop(name, None)
    else:
        section[name] = case.random.choice(VALUES)
    path.write_text(json.dumps(content))


def description_text(case: Case) -> None:
    """Text in the description that is no JSON, or hardly."""
    path, text = case.folder / DESCRIPTION, case.random.choice(TEXTS)
    whole = path.read_bytes()
    if case.random.random() < 0.5:
        number = next(iter(json.loads(whole)["generator"].values()))
        path.write_bytes(whole.replace(str(number).encode(), text, 1))
    else:
        at = case.random.randrange(len(whole))
        path.write_bytes(whole[:at] + text + whole[at + case.random.choice((0, 1, 10)) :])


def special(case: Case) -> None:
    """Something else in the place of a file or of the folder of styles."""
    names = [DESCRIPTION, WEIGHTS, *(f"styles/{path.name}" for path in (case.folder / "styles").glob("*")), "styles"]
    path = case.folder / case.random.choice(names)
    if not path.parent.is_dir():
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind = case.random.choice(("pipe", "folder", "missing", "/dev/zero", "/dev/tty", "/", "none", path.name, WEIGHTS))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.symlink_to(kind)


def bytes_of(case: Case) -> None:
    """Bytes that were exchanged, cut off, put in or added, or very many that take no space."""
    path = case.random.choice([path for path in case.folder.rglob("*") if path.is_file() and path.suffix != ".json"])
    content = bytearray(path.read_bytes())
    kind = case.random.randrange(5)
    at = case.random.randrange(len(content))
    if kind == 0:
        for _ in range(case.random.choice((1, 1, 8))):
            content[case.random.randrange(min(len(content), case.random.choice((16, 400, 1 << 30))))] ^= (
                1 << case.random.randrange(8)
            )
    elif kind == 1:
        del content[at:]
    elif kind == 2:
        content[at:at] = case.random.randbytes(case.random.choice((1, 8, 1000)))
    elif kind == 3:
        del content[at : at + case.random.choice((1, 8, 1000))]
    path.write_bytes(content)
    if kind == 4:
        os.truncate(path, 1 << case.random.choice((20, 33, 42)))


def header(case: Case) -> None:
    """A tensor of another name, shape, dtype or place in the header of the weights."""
    path = case.folder / WEIGHTS
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8:end])
    name = case.random.choice([name for name in tensors if name != "__metadata__"])
    kind = case.random.randrange(5)
    if kind == 0:
        tensors[name]["dtype"] = case.random.choice(DTYPES)
    elif kind == 1:
        tensors[name]["shape"] = case.random.choice(SHAPES)
    elif kind == 2:
        tensors[name]["data_offsets"] = [case.random.choice((0, 1, 8, 2**40, 2**64, -1)) for _ in range(2)]
    elif kind == 3:
        tensors[case.random.choice(("", "\0", "x" * 9000, "\x1b[31m\n", "../a"))] = tensors.pop(name)
    else:
        tensors.update(
            {f"more.{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(9000)}
        )
    changed = json.dumps(tensors).encode()
    length = case.random.choice((len(changed),) * 8 + (0, 2**31, 2**63, 10**8))
    path.write_bytes(struct.pack("<Q", length) + changed + content[end:])


def numbers(case: Case) -> None:
    """Weights that are no numbers, or that make none."""
    path = case.folder / WEIGHTS
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    values = np.frombuffer(content, np.float32, count=(len(content) - start) // 4, offset=start)
    bad = case.random.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 0.0, -1.0, 1e6))
    first = case.random.randrange(len(values))
    values[first : first + case.random.choice((1, 30, len(values)))] = bad
    path.write_bytes(content)


def styles(case: Case) -> None:
    """Styles that are very many or very large, or of names that lead elsewhere."""
    folder = case.folder / "styles"
    folder.mkdir(exist_ok=True)
    kind = case.random.randrange(3)
    if kind == 0:
        for number in range(3000):
            with suppress(FileExistsError):
                (folder / f"{number:03d}.png").symlink_to("000.png")
    elif kind == 1:
        path = folder / "000.png"
        content = path.read_bytes() if path.is_file() else b"\x89PNG\r\n\x1a\n" + bytes(40)
        sides = [case.random.choice((0, 1, 10, 11, 400, 15_000, 2**31)) for _ in range(2)]
        path.write_bytes(content[:16] + struct.pack(">II", *sides) + content[24:])
    else:
        (folder / case.random.choice(("0000.png", "٣٣٣.png", "-01.png", "00\n0.png"))).symlink_to("/dev/zero")


CHANGES = (description, description, header, header, numbers, styles, description_text, bytes_of, special)


def make_models(folder: Path) -> Path:
    """The models that are changed, and a photograph; all that a command imports is imported here, once."""
    image = np.indices((40, 44)).sum(0)[..., None] * np.array([3, 2, 1]) % 256
    write_image(image.astype(np.uint8), folder / "photograph.png")
    for name, make in NETWORKS.items():
        torch.manual_seed(1)
        save_model(folder / name, make(), {"features": "random"})
        if name != "dcgan":
            save_styles(folder / name, [image.astype(np.uint8), image[::-1].astype(np.uint8)])
        for number in range(3):
            with contextlib.redirect_stdout(io.StringIO()):
                fastgan(command(folder, folder, name, Random(number)))
            shutil.rmtree(folder / "out", ignore_errors=True)
    return folder


def command(models: Path, folder: Path, name: str, random: Random) -> list[str]:
    photograph, out = str(models / "photograph.png"), str(folder / "out")
    if name == "dcgan":
        return ["generate", str(folder / name), "--out", out, "--count", "1", "--precision", "fp32"]
    if random.random() < 0.4:
        arguments = ["evaluate", str(folder / name), "--content", photograph, "--features", "random"]
        return [*arguments, "--json", str(folder / "out.json"), "--precision", "fp32"]
    return ["stylize", str(folder / name), photograph, "--out", out, "--precision", "fp32"]


def run_limited(arguments: list[str], printed: Path) -> int:
    """The exit status of a command in a process of its own; what it prints goes to a file."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            output = os.open(printed, os.O_WRONLY | os.O_CREAT, 0o600)
            for number in (1, 2):
                os.dup2(output, number)
            taken = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
            resource.setrlimit(resource.RLIMIT_DATA, (taken + MEMORY,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS,) * 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            status = fastgan(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException as error:
            os.write(2, f"a traceback: {type(error).__name__}: {error}\n".encode(errors="backslashreplace"))
        finally:
            os._exit(status)
    end = time.monotonic() + 10 * SECONDS
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise Finding("it does not end")


def check(folder: Path, model: Path, status: int, printed: str) -> None:
    if status == 2:
        lines = printed.splitlines()
        if len(lines) != 1 or str(model) not in lines[0] or "\x1b" in lines[0] or len(lines[0]) > 1000:
            raise Finding(f"not one line that names a file: {printed[:500]!r}")
        if ((folder / "out").exists() and any((folder / "out").iterdir())) or (folder / "out.json").exists():
            raise Finding("it ended with 2 and left a result")
    elif status != 0:
        raise Finding(f"exit status {status}: {printed[-500:]!r}")
    elif (folder / "out.json").exists():
        result = json.loads((folder / "out.json").read_text())
        if result.pop("n") != 1 or not all(np.isfinite(value["values"]).all() for value in result.values()):
            raise Finding(f"it measured {result}")
    else:
        (picture,) = (folder / "out").iterdir()
        if read_image(picture).shape != ((16, 16, 3) if model.name == "dcgan" else (40, 44, 3)):
            raise Finding("a picture of another size")


def run_case(models: Path, seed: int, number: int) -> int:
    """Run one case; its exit status. Raises Finding."""
    random = Random(f"{seed}/{number}")
    name = random.choice(list(NETWORKS))
    with tempfile.TemporaryDirectory(prefix="fuzz-models-") as temporary:
        folder = Path(temporary)
        shutil.copytree(models / name, folder / name)
        changes = [CHANGES[number % len(CHANGES)], *random.sample(CHANGES, random.choice((0, 0, 0, 1)))]
        for change in sorted(changes, key=CHANGES.index):  # what leaves files that can be read comes first
            # A change of what an earlier one has made impossible to change is none.
            with suppress(OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, StopIteration):
                change(Case(folder / name, random))
        try:
            status = run_limited(command(models, folder, name, random), folder / "printed")
            check(folder, folder / name, status, (folder / "printed").read_text(errors="backslashreplace"))
        except Finding as error:
            raise Finding(f"{name}, {' and '.join(change.__name__ for change in changes)}: {error}") from error
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="of fuzzing (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the cases (default: another one each time)")
    parser.add_argument("--cases", type=int, default=None, help="run so many, however long they take")
    parser.add_argument("--case", type=int, default=None, help="run this case alone")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    torch.set_num_threads(1)
    ended, findings = {0: 0, 2: 0}, 0
    with tempfile.TemporaryDirectory(prefix="fuzz-models-") as temporary:
        models = make_models(Path(temporary))
        end = time.monotonic() + arguments.seconds
        number = arguments.case or 0
        while True:
            try:
                ended[run_case(models, seed, number)] += 1
            except Finding as error:
                findings += 1
                print(f"FINDING in case {number}: {error}; again with:")
                print(f"    python tools/fuzz_models.py --seed {seed} --case {number}", flush=True)
            number += 1
            last = time.monotonic() > end if arguments.cases is None else number >= arguments.cases
            if arguments.case is not None or last:
                break
    print(f"seed {seed}: {ended[2]} cases were refused in one line, {ended[0]} made a picture, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
