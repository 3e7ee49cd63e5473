"""The page in headless Chromium: its script hides a unit in all figures and reads a value, and samples are played."""

import html
import http.server
import re
import shutil
import subprocess
import threading

import pytest

from seqbench.leaderboard import sampling
from seqbench.leaderboard.build import build

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1200,900",
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on the PATH"),
]
# What a reader would do: a click on a name, and the pointer over the middle of a figure's axes.
READER = """
<script>
const svg = document.querySelector("svg[data-figure=FIGURE]");
svg.querySelector('.name[data-unit="GRU"] text').dispatchEvent(new MouseEvent("click", {bubbles: true}));
const [left, top_, width, height] = svg.dataset.box.split(" ").map(Number);
const at = new DOMPoint(left + SHARE * width, top_ + height / 2).matrixTransform(svg.getScreenCTM());
svg.dispatchEvent(new PointerEvent("pointermove", {clientX: at.x, clientY: at.y, bubbles: true}));
document.body.dataset.address = location.hash;
</script>
"""


@pytest.fixture(scope="module")
def page(factory, tmp_path_factory):
    """Two data sets, three units; on one of them several rates."""
    folder = tmp_path_factory.mktemp("page")
    levels = {"GRU": 8.5, "LSTM": 8.6, "tanh": 9.0}
    runs = [
        factory.make(c, seed, nll, t, noise=0.02)
        for t in ("jsb", "bach")
        for c, nll in levels.items()
        for seed in (0, 1)
    ]
    runs += [factory.make(c, 0, nll + 0.5, rate=rate) for c, nll in levels.items() for rate in (1e-4, 1e-3)]
    board = build(factory.write(folder / "records", *runs), folder / "out")
    return folder / "out/index.html", board


def dom(path, fragment, profile):
    """The document after its scripts have run."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", f"file://{path}{fragment}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def shown(text, part="unit"):
    """Units whose curves, or names, are shown; and those that are not."""
    found = re.findall(rf'<g class="{part}( off)?" data-unit="([^"]*)"', text)
    return {unit for off, unit in found if not off}, {unit for off, unit in found if off}


def test_what_the_address_hides_is_hidden_in_all_figures(page, tmp_path):
    path, _ = page
    text = dom(path, "#hide=GRU,tanh", tmp_path)
    assert text.count("<svg") == 11
    assert shown(text) == ({"LSTM"}, {"GRU", "tanh"})
    assert shown(text, "name") == ({"LSTM"}, {"GRU", "tanh"})
    assert 'class="live"' in text
    assert shown(dom(path, "", tmp_path))[1] == set()


@pytest.mark.parametrize(("against", "share"), [("epoch", 0.5), ("seconds", 0.3), ("rate", 0.02)])
def test_a_click_hides_a_unit_and_the_pointer_reads_the_others(page, tmp_path, against, share):
    path, board = page
    text = path.read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)  # it stops the test's script too
    reader = READER.replace("FIGURE", f"jsb-{against}").replace("SHARE", str(share))
    copy = tmp_path / "page.html"
    copy.write_text(text.replace("</body>", reader + "</body>"))
    text = dom(copy, "", tmp_path / "profile")
    assert shown(text) == ({"LSTM", "tanh"}, {"GRU"})
    assert 'data-address="#hide=GRU"' in text
    (reading,) = re.findall(r'<div class="reading" style="display: block[^>]*>(.*?)</div>', text)
    rows = [re.findall(r">([^<>]+)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", reading)]
    assert {row[0] for row in rows[1:]} == {"LSTM", "tanh"}
    table = next(t for t in board.tables if t.slug == "jsb")
    for name, *numbers in rows[1:]:
        unit = next(row for row in table.units if row.name == html.unescape(name))
        if against == "rate":
            expected = [next(run.best_valid for run in unit.searched if run.rate == 1e-4)]
        else:
            told = float(re.search(r"[\d.]+", rows[0][0])[0])
            epoch = int(told) if against == "epoch" else round(told / 0.6)
            curves = [run.curve for run in unit.runs]
            expected = [sum(getattr(c, f)[epoch - 1] for c in curves) / 2 for f in ("valid", "train")]
        assert [float(n) for n in numbers] == pytest.approx(expected, abs=6e-4)


def test_a_smuggled_script_does_not_run(page, tmp_path):
    """The policy holds even where escaping would not."""
    path, _ = page
    sly = "<script>document.body.dataset.sly = 1</script><b onclick='x'>b</b></body>"
    copy = tmp_path / "page.html"
    copy.write_text(path.read_text().replace("</body>", sly))
    text = dom(copy, "#hide=GRU", tmp_path / "profile")
    assert "data-sly" not in text
    assert shown(text)[1] == {"GRU"}


class Listener(http.server.BaseHTTPRequestHandler):
    """Holds the page's load until it has told where it is in its audio."""

    told: list[str]
    done: threading.Event

    def do_GET(self):
        if self.path == "/hold":
            self.done.wait(90)
        else:
            self.told.append(self.path)
            self.done.set()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_a_sample_is_played_from_the_disk(factory, tmp_path):
    """Under the page's own policy for media; only the policy for scripts is opened for the test's."""
    folder, out = factory.write(tmp_path / "records", factory.make()), tmp_path / "out"
    sampling.sample(folder, out, factory.sample)
    build(folder, out)
    Listener.told, Listener.done = [], threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    reader = f"""<script>
      new Image().src = "{base}/hold";
      const audio = document.querySelector("audio");
      const tell = (text) => {{ new Image().src = "{base}/" + text; }};
      audio.addEventListener("timeupdate", () => {{
        if (audio.currentTime > 0.1) tell(`${{audio.currentTime}}/${{audio.duration}}`);
      }});
      audio.addEventListener("error", () => tell("error"));
      audio.play().catch((error) => tell(error.name));
    </script></body>"""
    text = (out / "index.html").read_text().replace("</body>", reader)
    text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text)
    (out / "index.html").write_text(text.replace("img-src 'self'", f"img-src 'self' {base}"))
    command = [CHROMIUM, *FLAGS, "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={tmp_path}/profile"]
    subprocess.run([*command, "--dump-dom", f"file://{out}/index.html"], check=True, capture_output=True, timeout=150)
    server.shutdown()
    server.server_close()
    at, duration = map(float, Listener.told[0].strip("/").split("/"))
    assert at > 0.1
    assert duration == pytest.approx(1.0, abs=0.05)
