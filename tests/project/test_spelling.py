"""American spelling everywhere, as torch has it."""

import re
from pathlib import Path

import pytest
from helpers.source import ROOT, relative

#: Beginnings of British words, and whole ones where the beginning alone is no sign.
BRITISH = re.compile(
    r"(?<![a-z])("
    r"(?:optim|styl|normal|initial|recogn|penal|standard|minim|maxim|general|regular|quant|summar|organ|real|serial"
    r"|vector|parallel|util|character|visual|categor|random|custom|synchron|memor|special|local|final|material|factor)"
    r"is(?:e|ed|es|er|ers|ing|ation|ations|able)"
    r"|colour\w*|grey\w*|centre\w*|centring|neighbour\w*|behaviour\w*|favour\w*|honour\w*"
    r"|artefacts?|catalogues?|analys(?:e|ed|ing)|labell(?:ed|ing)|modell(?:ed|ing)|cancell(?:ed|ing)|learnt"
    r"|whilst|amongst|towards|licence[sd]?|judgement|programmes?|defence|fulfil|metres?"
    r")(?![a-z])"
)
FOLDERS = ("fastgan", "csrc", "tests", "benchmarks", "tools", "examples", "docs")
#: Not CHANGELOG.md, which lists old names.
PAGES = ("README.md", "CONTRIBUTING.md", "pyproject.toml", "setup.py", "Makefile")
SUFFIXES = {".py", ".pyi", ".cpp", ".cu", ".h", ".cuh", ".inc", ".md", ".sh", ".html", ".svg", ".toml"}
#: Names that are saved in files, or are not the project's.
EXCEPTIONS = {
    "fastgan/models/fusion_layers.py": {"centre"},  # the buffer's name in saved models
    "tests/models/test_fusion_layers.py": {"centre"},
    "tests/behavior/test_fusion.py": {"centre"},
    "tests/helpers/tiny_fusion.py": {"centre"},
    "tests/models/test_vgg.py": {"normalised"},  # the file vgg_normalised_conv3_1.pth
}
OWN = Path(__file__)


def british(text: str) -> set[str]:
    """The British words of a text, also within names: ``each_optimiser``, ``StyliseTask``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ").lower()
    return {match[0] for match in BRITISH.finditer(words)}


def texts(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES and path != OWN)


def test_the_patterns_find_words() -> None:
    text = "def test_each_optimiser(): StyliseTask  # the colours, towards grey; a promise, four, precise, realistic"
    assert british(text) == {"optimiser", "stylise", "colours", "towards", "grey"}
    assert british("optimize realism colors gray center finally organism randomness quantile advise") == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_american_spelling(folder: str) -> None:
    files = texts(folder)
    words = {relative(path): british(path.read_text(encoding="utf-8")) for path in files}
    wrong = {name: sorted(words[name] - EXCEPTIONS.get(name, set())) for name in words}
    assert files and {name: spelled for name, spelled in wrong.items() if spelled} == {}


@pytest.mark.parametrize("page", PAGES)
def test_american_spelling_of_pages(page: str) -> None:
    assert british((ROOT / page).read_text(encoding="utf-8")) == set()
