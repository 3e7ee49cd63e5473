"""Figures are made smaller after matplotlib has drawn them, and show what they showed."""

import dataclasses
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from seqbench.cells import cells
from seqbench.leaderboard import curves
from seqbench.leaderboard.curves import clock
from seqbench.leaderboard.figures import STYLE, _tidy, looks

GROUND = r'<path [^>]*style="fill: none"/>'


def drawn(x, *ys):
    from matplotlib import style

    with style.context(STYLE):
        figure = Figure(figsize=(5, 3.3))
        axes = figure.add_subplot()
        for n, y in enumerate(ys):
            axes.plot(x, y, color="#0072b2", gid=f"unit{n}")
        axes.fill_between(x, ys[0] - 1, ys[0] + 1, color="#0072b2", alpha=0.1)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text)
    return text.getvalue()


@pytest.mark.parametrize("seed", range(5))
def test_lines_go_where_they_went(segments, seed):
    rng = np.random.default_rng(seed)
    x, y = np.arange(60), rng.normal(size=60).cumsum()
    y[rng.integers(2, 57)] = np.nan  # two pieces
    whole = drawn(x, y, y + 0.01)
    small = _tidy("a-epoch", whole, "a figure", {}, ["GRU", "LSTM"])
    assert small.count("<path") == whole.count("<path") - 2  # without the ground of the figure and of its axes
    paths = [re.findall(r' d="([^"]*)"', text) for text in (re.sub(GROUND, "", whole), small)]
    long = [(a, b) for a, b in zip(*paths, strict=True) if a.count("L") > 20 and "C" not in a]
    assert len(long) >= 3
    for before, after in long:
        assert len(after) < 0.6 * len(before)
        one, other = segments(before), segments(after)
        assert [len(piece) for piece in one] == [len(piece) for piece in other]
        assert np.abs(np.concatenate(one) - np.concatenate(other)).max() <= 0.051  # of 360, to a tenth


def test_an_hour_in_which_the_machine_stood_still_is_no_training(factory):
    """Epochs of two seconds, in the third of which an hour passed: it counts as three of them."""
    run = factory.make("GRU", 0)
    length = len(run.curve.valid)
    seconds = [2.0 * (n + 1) + 3600 * (n > 1) for n in range(length)]
    still = dataclasses.replace(run, seconds=seconds[-1], curve=dataclasses.replace(run.curve, seconds=seconds))
    assert clock(still.curve) == [2.0 * (n + 1) + 4 * (n > 1) for n in range(length)]
    (row,) = factory.board_of(still).tables[0].units
    assert factory.cells(row)["seconds"] == f"{2 * length + 4}"


def test_a_clock_looks_for_the_usual_epoch_once(factory, monkeypatch):
    """Once an epoch, a board of 10,000 records took five times as long."""
    found = []
    monkeypatch.setattr(curves, "median", lambda each: found.append(len(each)) or 1.0)
    clock(factory.make("GRU", 0, epochs=50).curve)
    assert found == [50]


def test_no_two_units_look_alike(factory):
    units = sorted(cells())
    found = looks(factory.board_of(*(factory.make(unit, 0) for unit in units)))
    assert len(set(found.values())) == len(found) == len(units)
    assert all(marker != "o" for _, marker in found.values()), "a disc is how a dot without a marker is drawn"


def test_what_is_drawn_stays_in_its_unit_and_within_its_clip():
    """Groups go but those of units: each drawn element in the same order, of the same unit, cut off or not."""

    def told(text, unit):
        found = []

        def visit(element, within):
            tag = element.tag.rpartition("}")[2]
            name = re.fullmatch(unit, element.get("data-unit", element.get("id", "")))
            within = (within[0] or (name and name[0]), within[1] or "clip-path" in element.attrib)
            found.extend([(tag, *within)] if tag in ("path", "use", "text") else [])
            for part in element:
                visit(part, within)

        visit(ElementTree.fromstring(text), (None, False))
        return found

    x = np.arange(60.0)
    whole = drawn(x, x, x**1.1)
    small = _tidy("a-epoch", whole, "a figure", {}, ["unit0", "unit1"])
    before, after = (told(text[text.index("<svg") :], r"unit\d") for text in (re.sub(GROUND, "", whole), small))
    assert before == after
    assert {unit for _, unit, _ in after} == {None, "unit0", "unit1"}
    assert "<g>" not in small
    assert small.count("<g ") == small.count("</g>") == len(re.findall("<g [^>]*(?:clip-path|data-unit)", small))


def test_an_element_looks_as_it_did():
    """A style stands in the element, or in the class that took its place."""
    whole = drawn(np.arange(60), np.arange(60.0), np.arange(60.0) ** 1.1)
    small = _tidy("a-epoch", whole, "a figure", {}, ["GRU", "LSTM"])
    rules = dict(re.findall(r"\.(s\w+)\{([^}]*)\}", small))
    classes = re.findall(r' class="(s[^"]*)"', small)
    assert len(classes) > 2 * len(rules) > 0
    told = [rules[name] for name in classes] + re.findall(r' style="([^"]*)"', small)
    bare = [re.sub(r"\s", "", style) for style in told]
    kept = [
        re.sub(r"\s|font-family:[^;]*;|;font-family:[^;]*$", "", s)
        for s in re.findall(r' style="([^"]*)"', re.sub(GROUND, "", whole))
    ]
    assert sorted(bare) == sorted(style.replace("#010203", "currentColor") for style in kept)
    assert len(small) < 0.6 * len(whole)
