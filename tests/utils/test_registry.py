"""Named units: the default first, each name once, and an error that lists them."""

import pytest

from fastgan.errors import InputError
from fastgan.utils import registry
from fastgan.utils.registry import Registry


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    shapes: Registry[str] = Registry("shape")
    shapes.register("square", "4 sides")
    shapes.register("circle", "no side", default=True)
    return shapes


def test_the_default_comes_first(shapes: Registry[str]) -> None:
    assert shapes.default == "circle" and list(shapes) == ["circle", "square"]
    assert shapes.values() == ["no side", "4 sides"]
    assert "square" in shapes and "line" not in shapes


def test_a_name_that_is_not_registered(shapes: Registry[str]) -> None:
    with pytest.raises(InputError, match="there is no shape 'line'; expected one of circle, square"):
        _ = shapes["line"]


def test_a_name_is_taken_once(shapes: Registry[str]) -> None:
    assert shapes.register("square", shapes["square"]) == "4 sides"
    with pytest.raises(ValueError, match="the shape square is registered twice"):
        shapes.register("square", "another")


def test_a_plugin_that_cannot_be_imported(shapes: Registry[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        name, value = "broken", "no_such_module"

        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'no_such_module'")

    monkeypatch.setattr(registry, "_loaded", False)
    monkeypatch.setattr(registry, "_failure", "")
    monkeypatch.setattr(registry, "entry_points", lambda group: [Plugin()])
    with pytest.raises(InputError, match=r"the plugin broken .no_such_module. cannot be imported: ModuleNotFoundError"):
        _ = shapes["circle"]
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    with pytest.raises(InputError, match="the plugin broken"):  # and goes on saying so
        _ = shapes["circle"]
