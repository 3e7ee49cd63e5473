"""The pictures as files: SVG, PNG, and one self-contained page on which the pointer reads values.

The page fetches nothing, and a content security policy lets no other script run.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqbench.explain.figures import Picture
from seqbench.explain.heat import Heat
from seqbench.webpage import render

DPI = 150


def svg(picture: Picture) -> str:
    """An `<svg>` element, the same at every call: no date, and ids of its own."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.hashsalt": picture.name, "svg.fonttype": "none"}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        picture.figure.savefig(text, format="svg", metadata=nothing)
    element = text.getvalue()
    element = element[element.index("<svg") :].rstrip()
    return re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{picture.name}-", element)


def png(picture: Picture) -> bytes:
    """The same, 150 dots an inch."""
    content = io.BytesIO()
    picture.figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


def page(pictures: Sequence[Picture], svgs: dict[str, str], title: str, facts: str) -> str:
    """The page.

    Args:
        pictures: those on it.
        svgs: their `<svg>` elements by name.
        title: what unit on which sequence.
        facts: a line below it.
    """
    from markupsafe import Markup

    return render(
        Path(__file__).parent,
        {picture.name: [_read(heat, picture) for heat in picture.heats] for picture in pictures},
        title=title,
        facts=facts,
        pictures=pictures,
        svgs={name: Markup(text) for name, text in svgs.items()},
    )


def _read(heat: Heat, picture: Picture) -> dict[str, Any]:
    """What the script reads a value by: where the axes are, in points, and the upper 16 bits of each number."""
    width, height = (72 * inches for inches in picture.figure.get_size_inches())
    box = heat.axes.get_position()
    numbers = np.ma.filled(heat.values.astype("<f4"), np.nan)
    bits = ((numbers.view("<u4") + 0x8000) >> 16).astype("<u2")  # rounded, to three digits
    return {
        "box": [round(v, 2) for v in (box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height)],
        "rows": heat.rows,
        "columns": heat.columns,
        "what": heat.what,
        "values": base64.b64encode(bits.tobytes()).decode(),
    }
