"""`seqbench explain`: files whole and small enough, hover on the page, and mistakes in one line."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from seqbench.cells import cells
from seqbench.explain import explain
from seqbench.explain.figures import pictures
from seqbench.explain.page import page, png, svg
from seqbench.explain.strip import piano_roll, waveform
from seqbench.task import Task
from seqbench.train.module import SequenceModel

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1000,900",
]  # fmt: skip
MUSIC = Task("made_up", 88, 88, "Bernoulli", "nats/frame", "", next_frame=True)
SPEECH = Task("made_up", 20, 10, "GaussianMixture", "nats/step", "")
NAMES = ["weights", "dimensions", "units", "half_lives", "gates"]


def explained(unit, task, steps):
    model = SequenceModel(cells()[unit](), task, hidden=12, recurrence="loop")
    with torch.no_grad():
        model.rows.mul_(5)
    rng = np.random.default_rng(0)
    x = rng.random((steps, 88)) < 0.05 if task is MUSIC else rng.normal(size=(steps, 20))
    return explain(model, x.astype(np.float32))


def written(found, seconds=0.25):
    drawn, elements = [], {}
    for picture in pictures(found, seconds):
        drawn.append(picture)
        elements[picture.name] = svg(picture)
    return drawn, elements, page(drawn, elements, "A & B", "facts")


def test_the_command_writes_every_picture_and_a_page(fit, seqbench, tmp_path, capsys):
    (name,) = fit(epochs=1)
    capsys.readouterr()
    command = ["explain", f"runs/{name}/checkpoints/last.ckpt", "--sequence", "3", "--json"]
    seqbench(*command, "--out", "seen/here")
    told = json.loads(capsys.readouterr().out)
    assert told["unit"] == "GRU"
    assert told["memory"] == "gated"
    assert told["seconds"] == told["steps"] / 2
    files = {path.name for path in (tmp_path / "seen/here").iterdir()}
    assert files == {"index.html", *(f"{n}.{kind}" for n in NAMES for kind in ("svg", "png"))}
    for path in (tmp_path / "seen/here").iterdir():
        if path.suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")
        elif path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "seen/here/index.html").read_text()
    assert "GRU 5 on synthetic, test sequence 3" in text
    assert {link[:5] for link in re.findall(r'(?:src|href)="([^"#]+)"', text)} <= {"data:"}


def test_mistakes_are_one_line(fit, refusal, tmp_path, capsys, monkeypatch):
    for name in fit("--model.rate", "[1e-3,2e-3]", epochs=1):
        assert name
    (group,) = tmp_path.glob("runs/group-*")
    capsys.readouterr()
    checkpoint = str(group / "checkpoints/last.ckpt")
    assert "give one of its replicas, --replica 0 to 1" in refusal("explain", checkpoint, "--out", "seen")
    one = ["explain", checkpoint, "--replica", "1", "--out"]
    assert "no test sequence 16: synthetic has 0 to 15" in refusal(*one, "seen", "--sequence", "16")
    assert "no layer 1" in refusal(*one, "seen", "--layer", "1")
    assert "There is no file nowhere.ckpt" in refusal("explain", "nowhere.ckpt", "--out", "seen")
    assert "best.ckpt" in refusal("explain", str(group), "--out", "seen")
    assert not (tmp_path / "seen").exists()
    (tmp_path / "file").write_text("")
    assert "choose another --out" in refusal(*one, "file/below")
    saved = torch.load(checkpoint, weights_only=True)
    saved["seqbench"]["digest"] = "another"
    torch.save(saved, tmp_path / "other.ckpt")
    line = refusal("explain", str(tmp_path / "other.ckpt"), "--replica", "0", "--out", "seen")
    assert "trained on other data than Synthetic" in line
    sly = ["explain", str(tmp_path / "sly.ckpt"), "--out", "seen", "--replica", "0"]
    saved["seqbench"]["config"]["data"]["class_path"] = "os.Sly"
    torch.save(saved, tmp_path / "sly.ckpt")
    assert "Sly, which is no data set of the suite" in refusal(*sly)
    assert "has the weights of a GRU, and LSTM was given as its cell: give GRU" in refusal(*sly, "--cell", "LSTM")
    saved["seqbench"]["config"]["model"]["cell"]["class_path"] = "os.Sly"
    torch.save(saved, tmp_path / "sly.ckpt")
    assert "Sly, which is no unit of the suite" in refusal(*sly)


@pytest.mark.parametrize(("unit", "task"), [("LSTM1997", SPEECH), ("LRU", MUSIC), ("IndRNN", SPEECH)])
def test_what_a_unit_has_not_is_not_drawn(unit, task):
    """No keep gate; no gates at all; no such memory."""
    drawn, elements, text = written(explained(unit, task, 20), 1e-3)
    assert list(elements) == {"LSTM1997": NAMES, "LRU": NAMES[:-1], "IndRNN": NAMES[:1]}[unit]
    assert "A &amp; B" in text
    assert png(drawn[0]).startswith(b"\x89PNG")
    assert "mathdefault" not in "".join(elements.values())
    if unit == "IndRNN":
        assert svg(next(pictures(explained(unit, task, 20), 1e-3))) == elements["weights"]


def test_a_roll_has_its_highest_key_at_the_top():
    x = np.zeros((10, 88), np.float32)
    x[3, 60 - 21] = x[4:7, 64 - 21] = 1
    drawn = piano_roll(Figure().add_subplot(), x, MUSIC)
    assert drawn.rows == [f"MIDI key {key}" for key in (64, 63, 62, 61, 60)]
    assert [list(np.flatnonzero(row)) for row in drawn.values] == [[4, 5, 6], [], [], [], [3]]
    assert drawn.axes.get_ylim() == (59.5, 64.5)


@pytest.mark.parametrize("steps", [50, 500])
def test_a_waveform_is_the_samples_one_after_the_other(steps):
    """Each step sees 20 and moves on by 10; a long one is drawn as the span of each step."""
    signal = np.random.default_rng(0).normal(size=10 * steps + 10)
    x = np.lib.stride_tricks.sliding_window_view(signal, 20)[::10]
    axes = Figure().add_subplot()
    waveform(axes, x, SPEECH)
    if steps == 50:
        assert np.array_equal(axes.lines[0].get_ydata(), signal[10:])
    else:
        points = axes.collections[0].get_paths()[0].vertices
        span = signal[10:].reshape(-1, 10)
        assert set(points[:, 1]) == {*span.min(1), *span.max(1)}
    assert axes.get_xlim() == (-0.5, steps - 0.5)


def test_four_thousand_frames_stay_below_5_mb():
    found = explained("GRU", MUSIC, 4000)
    drawn, elements, text = written(found)
    assert len(text.encode()) < 5e6
    assert max(len(element.encode()) for element in elements.values()) < 5e6
    heat, ago = (one for one in drawn[0].heats if one.what == "norm of w_j^t")
    assert heat.values.shape == (640, 640)
    for row, column in ((3, 8), (100, 400), (639, 639)):
        j, t = (
            slice(int(low), int(high) + 1)
            for low, high in re.findall(r"(\d+)–(\d+)", heat.rows[row] + heat.columns[column])
        )
        assert heat.values[row, column] == found.norms[j, t].max()
    assert (heat.rows[0], heat.columns[-1]) == ("context 0–5", "time 3994–3999")
    assert ago.rows[0] == "0 steps ago"
    assert ago.rows[-1] == "3999 steps ago"
    assert np.isclose(ago.values[0, 100], np.diagonal(found.norms)[625:631].max())


HOVER = """
<script>
const svg = document.querySelector("figure[data-picture=weights] svg");
const parts = JSON.parse(document.getElementById("values").textContent).weights;
const show = (column, row, part = parts[1]) => {
  const [left, top_, width, height] = part.box;
  const at = new DOMPoint(left + (column + 0.5) / 20 * width, top_ + (row + 0.5) / part.rows.length * height);
  const there = at.matrixTransform(svg.getScreenCTM());
  svg.dispatchEvent(new PointerEvent("pointermove", {clientX: there.x, clientY: there.y, bubbles: true}));
  const box = document.querySelector("figure[data-picture=weights] .reading");
  return box.style.display === "none" ? "" : box.textContent;
};
document.body.dataset.read = [show(12, 9), show(3, 3), show(3, 9), show(5, 0, parts[0])].join("|");
</script>
"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on the PATH")
def test_the_pointer_reads_values(tmp_path):
    """Three places of Levy et al.'s figure; below the diagonal there is nothing. Another script does not run."""
    found = explained("LSTM", MUSIC, 20)
    text = written(found)[2]
    for name, policy in (("open", False), ("shut", True)):
        changed = text if policy else re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        path = tmp_path / f"{name}.html"
        path.write_text(changed.replace("</body>", HOVER + "</body>"))
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / name}", "--dump-dom", f"file://{path}"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
        assert 'class="live"' in shown
        read = re.search(r'<body data-read="([^"]*)"', shown)
        if policy:
            assert read is None
            continue
        far, near, nothing, key = read[1].split("|")
        told = re.fullmatch(r"context 9, time 12: norm of w_j\^t (\S+)", far)
        assert float(told[1]) == pytest.approx(found.norms[9, 12], rel=6e-3, abs=1e-4)
        told = re.fullmatch(r"context 3, time 3: norm of w_j\^t (\S+)", near)
        assert float(told[1]) == pytest.approx(found.norms[3, 3], rel=6e-3)
        assert nothing == ""
        highest = int(np.flatnonzero(found.x.any(0))[-1])
        assert key == f"MIDI key {21 + highest}, time 5: on {found.x[5, highest]:g}"
