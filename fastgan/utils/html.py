"""HTML pages that stand alone, from Jinja2 templates that extend ``page_base.html``."""

from __future__ import annotations

from pathlib import Path


def render_page(template: Path, **values: object) -> str:
    """Render a template with ``values``, all of which are escaped.

    The template extends ``page_base.html``, which holds the style of every page, and may import ``page_parts.html``.

    Raises:
        jinja2.UndefinedError: the template uses a value that was not given.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values) + "\n"
