"""What is installed from a wheel works by itself, in a folder of the user's that has packages named like ours."""

import os
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import seqbench
from seqbench import record
from seqbench.datamodules.fetch import location

ROOT = Path(__file__).parents[2]
UNIT = "from seqbench.cells import Tanh\nimport datamodules\n\nclass Mine(Tanh):\n    paper = datamodules.PAPER\n"

NEW = find_spec("setuptools") is not None and int(version("setuptools").partition(".")[0]) >= 77
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NEW, reason="the extra [dev] is not installed: setuptools, of at least 77, makes wheels"),
]


def call(*command: str | Path, cwd: Path, **environment: str) -> None:
    """Without what this process was started with: the checkout must not be found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


BUILD = """
import os, sys, tarfile
from setuptools import build_meta
out = sys.argv[1]
build_meta.build_wheel(out + "/of_checkout")
sdist = build_meta.build_sdist(out)
with tarfile.open(f"{out}/{sdist}") as archive:
    archive.extractall(out, filter="data")
os.chdir(f"{out}/{sdist.removesuffix('.tar.gz')}")
build_meta.build_wheel(out)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> tuple[Path, Path]:
    """Of the checkout, and of the source distribution made from it."""
    out, source = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("source")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if name.startswith(("leaderboard/records", "tests", "docs")) or not os.path.lexists(ROOT / name):
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (source / name).symlink_to(os.readlink(ROOT / name))
        else:
            (source / name).write_bytes((ROOT / name).read_bytes())
    call(sys.executable, "-c", BUILD, out, cwd=source)
    (of_checkout,), (of_sdist,) = out.glob("of_checkout/*.whl"), out.glob("*.whl")
    return of_checkout, of_sdist


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}


def test_it_has_all_of_the_package_and_nothing_else(wheels):
    of_checkout, of_sdist = map(content, wheels)
    package = Path(seqbench.__file__).parent
    expected = {"seqbench/py.typed"}
    for folder in (package, *(package / name for name in ("datamodules", "leaderboard", "configs"))):
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".yaml", ".j2", ".css", ".js"):
                expected.add(f"seqbench/{path.relative_to(package)}")
    assert {name for name in of_checkout if ".dist-info/" not in name} == expected
    assert of_sdist == of_checkout


def test_it_trains_beside_packages_of_the_same_names(wheels, tmp_path):
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    # Dependencies are borrowed from this environment, whose own .pth files do not count there.
    (site / "borrowed.pth").write_text(str(Path(torch.__file__).parents[1]))
    install = ["--python", tmp_path / "venv", "install", "--quiet", "--no-deps", "--no-index", wheels[0]]
    call(sys.executable, "-m", "pip", *install, cwd=tmp_path)
    work = tmp_path / "work"
    for name in ("datamodules", "leaderboard"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("PAPER = 'mine'")
    (work / "mine.py").write_text(UNIT)
    command = tmp_path / "venv" / "bin" / "seqbench"
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "9"]
    quick = ["-c", "bach", "-c", "chung2014", "-c", "quick", *short]
    call(command, "fit", *quick, "--model.cell", "mine.Mine", cwd=work)
    sweep = ["--cells", "GRU,mine.Mine", "--rates", "1e-3", "--stages", "search", "--out", "runs/sweep"]
    call(command, "sweep", *quick, *sweep, cwd=work)
    call(command, "leaderboard", "build", "--records", "runs", "--out", "board", cwd=work)
    found = [record.load(path) for path in work.glob("runs/**/record.json")]
    assert sorted(run.cell.name for run in found) == ["GRU", "Mine", "Mine"]
    assert all(run.status == "finished" for run in found)
    assert (work / "board" / "index.html").exists()
    if location("polyphonic/JSB_Chorales.mat") == "mirror":
        call(command, "fit", "-c", "jsb", "-c", "chung2014", *short, "--model.cell", "GRU", cwd=work)
        assert list(work.glob("runs/jsb-gru-*/record.json"))
