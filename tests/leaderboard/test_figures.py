"""Figures are made smaller after matplotlib has drawn them, and show what they showed."""

import io
import re

import numpy as np
import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from seqbench.leaderboard.figures import STYLE, _tidy


def drawn(x, *ys):
    from matplotlib import style

    with style.context(STYLE):
        figure = Figure(figsize=(5, 3.3))
        axes = figure.add_subplot()
        for y in ys:
            axes.plot(x, y, color="#0072b2")
        axes.fill_between(x, ys[0] - 1, ys[0] + 1, color="#0072b2", alpha=0.1)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text)
    return text.getvalue()


def segments(path):
    """The points of each piece of a path of straight lines, by the grammar of SVG 1.1, 8.3.9."""
    found, at, kind = [], np.zeros(2), ""
    for token in re.findall(r"[MmLlz]|-?(?:\d+\.?\d*|\.\d+)\s*,?\s*-?(?:\d+\.?\d*|\.\d+)", path):
        if token in "MmLlz":
            kind = token
            continue
        place = np.array([float(value) for value in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", token)])
        at = at + place if kind.islower() else place
        if kind in "Mm":
            found.append([])
            kind = "l" if kind == "m" else "L"
        found[-1].append(at)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_lines_go_where_they_went(seed):
    rng = np.random.default_rng(seed)
    x, y = np.arange(60), rng.normal(size=60).cumsum()
    y[rng.integers(2, 57)] = np.nan  # two pieces
    whole = drawn(x, y, y + 0.01)
    small = _tidy("a-epoch", whole, "a figure", {}, [])
    paths = [re.findall(r' d="([^"]*)"', text) for text in (whole, small)]
    long = [(a, b) for a, b in zip(*paths, strict=True) if a.count("L") > 20 and "C" not in a]
    assert len(long) >= 3
    for before, after in long:
        assert len(after) < 0.6 * len(before)
        one, other = segments(before), segments(after)
        assert [len(piece) for piece in one] == [len(piece) for piece in other]
        assert np.abs(np.concatenate(one) - np.concatenate(other)).max() <= 0.051  # of 360, to a tenth


def test_an_element_looks_as_it_did():
    """A style stands in the element, or in the class that took its place."""
    whole = drawn(np.arange(60), np.arange(60.0), np.arange(60.0) ** 1.1)
    small = _tidy("a-epoch", whole, "a figure", {}, [])
    rules = dict(re.findall(r"\.(s\w+)\{([^}]*)\}", small))
    classes = re.findall(r' class="([^"]*)"', small)
    assert len(classes) > 2 * len(rules) > 0
    told = [rules[name] for name in classes] + re.findall(r' style="([^"]*)"', small)
    bare = [re.sub(r"\s", "", style) for style in told]
    kept = [re.sub(r"\s|font-family:[^;]*;|;font-family:[^;]*$", "", s) for s in re.findall(r' style="([^"]*)"', whole)]
    assert sorted(bare) == sorted(style.replace("#010203", "currentColor") for style in kept)
    assert len(small) < 0.6 * len(whole)
