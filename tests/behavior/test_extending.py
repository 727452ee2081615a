"""Extension from outside: what docs/extending.md shows, as a package that is installed beside fastgan."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_runs import TINY, picture, save_picture
from PIL import Image

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
SECTIONS = ("A generator", "A loss", "A task", "A command")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages, with the page's module as one that pip has installed: its code and its metadata."""
    text = PAGE.read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("site")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == len(SECTIONS)
    (folder / "my_fastgan.py").write_text("\n\n".join(blocks), encoding="utf-8")
    (entry_point,) = re.findall(r"^my-fastgan = \"(\w+)\"$", text, re.MULTILINE)
    info = folder / "my_fastgan-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-fastgan\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fastgan.plugins]\nmy-fastgan = {entry_point}\n")
    return folder


def fastgan(site: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fastgan", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site)
    assert done.returncode == code, done.stderr
    return done


def test_each_section_is_a_page() -> None:
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    lengths = {part.partition("\n")[0]: len(part.splitlines()) for part in parts}
    assert set(SECTIONS) <= set(lengths) and max(lengths.values()) <= 60


def test_all_four_from_the_command_line(site: Path, photos: Path, style_file: Path, tmp_path: Path) -> None:
    """Trained two steps by its own task with its own loss, saved, loaded, stylized with, and its command run."""
    run = tmp_path / "run"
    shared = {
        field: value for field, value in TINY.items() if not field.startswith("model.") and field != "train.steps"
    }
    options = [f"--set={field}={json.dumps(value)}" for field, value in shared.items()]
    options += ["--set=model.features=random", "--set=model.discriminator.width=4"]
    options += ["--set=model.generator.width=4", "--set=loss.extra.edges=0.5", "--steps=2"]
    fastgan(
        site, "train", "--model=tiny", "--task=noisy", *options, f"--content={photos}", f"--style={style_file}",
        f"--out={run}",
    )  # fmt: skip
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2] and all(line["loss/edges"] > 0 for line in lines)
    description = json.loads((run / "model" / "config.json").read_text())
    assert (description["model"], description["generator"]) == ("tiny", {"width": 4, "depth": 2, "kernel": 3})
    photo = save_picture(picture(40, 48, 5), tmp_path / "photo.png")
    fastgan(site, "stylize", run, photo, "--out", tmp_path / "stylized")
    result = np.asarray(Image.open(tmp_path / "stylized" / "photo.png"))
    assert result.shape == (40, 48, 3) and (result != picture(40, 48, 5)).any()
    # 3 -> 4 -> 4 -> 4 -> 3 channels, 3x3 and a bias each.
    count = sum(9 * inputs * outputs + outputs for inputs, outputs in ((3, 4), (4, 4), (4, 4), (4, 3)))
    assert fastgan(site, "parameters", run).stdout.split() == [str(count)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model=unknown"], "fastgan: --model: model.name: must be one of fast, "),
        (["--model=tiny", "--task=restyle"], "fastgan: --task restyle: must be one of "),
        (["--model=tiny", "--task=generate"], "fastgan: --task generate: generate trains generators that take noise"),
        (["--set=loss.extra.edge=1"], "loss.extra.edge: there is no such loss; those registered: edges"),
        (["--model=fast", "--set=model.generator.kernel=3"], "only the model tiny has this, and model.name is fast"),
        (["--set=model.generator.kernels=3"], "there is no field model.generator.kernels; it has "),
    ],
)  # fmt: skip
def test_what_is_not_registered_is_refused(site: Path, tmp_path: Path, options: list[str], says: str) -> None:
    done = fastgan(site, "train", *options, f"--out={tmp_path / 'run'}", code=2)
    assert says in done.stderr and len(done.stderr.splitlines()) == 1 and not (tmp_path / "run").exists()


def test_a_broken_plugin_is_one_line(site: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    info = broken / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (broken / "broken_plugin.py").write_text("import a_module_that_is_not_there\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fastgan.plugins]\nbroken = broken_plugin\n")
    done = fastgan(broken, "train", "--out", tmp_path / "run", code=2)
    assert done.stderr.startswith("fastgan: the plugin broken (broken_plugin) cannot be imported: ModuleNotFoundError")
    assert len(done.stderr.splitlines()) == 1
