"""Results as JSON: to a file, or to standard output."""

import json
from pathlib import Path

import pytest

from fastgan.errors import InputError
from fastgan.utils.json_output import check_json_target, fill_in_stdout, is_stdout, write_json


@pytest.mark.parametrize(
    ("arguments", "filled"),
    [
        (["info", "--json"], ["info", "--json", "-"]),
        (["info", "--json", "-"], ["info", "--json", "-"]),
        (["bench", "--json", "--quick"], ["bench", "--json", "-", "--quick"]),
        (["bench", "--json", "x.json", "ops"], ["bench", "--json", "x.json", "ops"]),
        (["bench", "--json=x.json"], ["bench", "--json=x.json"]),
    ],
)
def test_json_without_a_value(arguments: list[str], filled: list[str]) -> None:
    assert fill_in_stdout(arguments) == filled


def test_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    for stdout in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", tmp_path / "link"):
        assert is_stdout(Path(stdout))
    assert not is_stdout(Path("/dev/stderr"))
    (tmp_path / "link").unlink()
    assert not is_stdout(Path("./x")) and not is_stdout(None)
    for bad in (tmp_path, tmp_path / "none" / "x.json"):
        with pytest.raises(InputError, match=f"^--json {bad}: cannot be written"):
            check_json_target(bad)
    for good in (None, Path("-"), tmp_path / "x.json"):
        check_json_target(good)
    write_json(Path("-"), {"a": [1]})
    write_json(tmp_path / "x.json", {"a": [1]})
    assert capsys.readouterr().out == (tmp_path / "x.json").read_text() and list(tmp_path.iterdir())
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
