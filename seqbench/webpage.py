"""One self-contained HTML page: style, script and data within it; a template decides the rest.

The page fetches no code, and a content security policy, which the template has, lets no other script run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any


def render(folder: Path, data: Any, functions: dict[str, Any] | None = None, **values: Any) -> str:
    """The page.

    Args:
        folder: holds page.html.j2, page.css and page.js.
        data: what the script reads, as JSON; no NaN or infinity.
        functions: what templates that the page includes call too.
        **values: the template's own; all text is escaped but for Markup.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = (folder / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= functions or {}
    return environment.get_template("page.html.j2").render(
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_within_html(data)),
        **values,
    )


def _within_html(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
