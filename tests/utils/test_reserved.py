"""Reserved words are told from paths by how they are written, whatever lies on the disk."""

from pathlib import Path

import pytest

from fastgan.utils.reserved import DATA_WORDS, FEATURES_WORDS, MODEL_WORDS, absolute_text, is_reserved, path_text


def test_a_word_is_a_text_alone() -> None:
    assert is_reserved("demo", DATA_WORDS) and is_reserved("random", FEATURES_WORDS)
    for path in ("./demo", "demo/", "Demo", "vgg19", "", Path("demo"), None):
        assert not is_reserved(path, DATA_WORDS)


@pytest.mark.parametrize("word", [*DATA_WORDS, *FEATURES_WORDS, *MODEL_WORDS])
def test_words_stay_words(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / word).mkdir()
    words = next(words for words in (DATA_WORDS, FEATURES_WORDS, MODEL_WORDS) if word in words)
    assert absolute_text(word, words) == word
    assert path_text(word) == word and path_text(Path(word)) == f"./{word}"
    assert absolute_text(path_text(Path(word)), words) == str(tmp_path.resolve() / word)
    assert absolute_text("gone", words) == "gone"
