"""Pages have one sentence a line, so that a change of a sentence is a change of its line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.source import ROOT, relative

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
#: Their dot ends no sentence.
ABBREVIATIONS = ("e.g.", "i.e.", "et al.", "vs.", "cf.", "approx.", "No.", "Fig.", "Eq.", "Sec.")
#: The end of a sentence, closing marks, and the beginning of another.
SENTENCE_END = re.compile(r"[.!?][)\"'*_]*\s+[(\"'*_\[]*[A-Z]")


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) outside code blocks, tables, headings and comments; code and links' targets are left out."""
    fence = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith(("```", "~~~")):
            fence = not fence
        elif not fence and not line.lstrip().startswith(("|", "#", "<", "    ")):
            line = re.sub(r"`[^`]*`", "x", line)
            yield number, re.sub(r"\]\([^)]*\)", "]", line)


def lines_of_several_sentences(text: str) -> list[str]:
    several = []
    for number, line in prose_lines(text):
        for abbreviation in ABBREVIATIONS:
            line = line.replace(abbreviation, abbreviation.replace(".", ""))
        line = re.sub(r"^\s*(?:\d+\.|[-*] )\s*", "", line)
        line = re.sub(r"^\*\*[^*]+\.\*\*\s+", "", line)  # a title before the first sentence
        if SENTENCE_END.search(line):
            several.append(f"{number}: {line}")
    return several


def test_the_pattern_finds_sentences() -> None:
    text = "One. Two.\nOne, e.g. Adam, and `a. B`.\n1. Item. (Another.)\n**Title.** 1.2 A"
    text += "\n```\nA. B\n```\n| A. B |\n# A. B"
    assert lines_of_several_sentences(text) == ["1: One. Two.", "3: Item. (Another.)"]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_one_sentence_a_line(page: Path) -> None:
    assert lines_of_several_sentences(page.read_text(encoding="utf-8")) == []
