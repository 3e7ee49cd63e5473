"""From a folder of the user's: configs by name, units and data sets of their own, and packages named like ours."""

import hashlib
import json
import textwrap
from pathlib import Path

import pytest
import yaml

from seqbench import record

QUICK = ["-c", "synthetic", "-c", "chung2014", "--model.hidden", "4", "--trainer.max_epochs", "2"]
MINE = """
    import torch
    from seqbench.cells import Cell, Weight
    from seqbench.datamodules.synthetic import Synthetic

    class Leaky(Cell):
        gates = 1
        paper = "nobody"

        def __init__(self, bias: bool = True, share: float = 0.5) -> None:
            super().__init__(bias)
            self.share = share

        def weights(self, hidden):
            return {"U": Weight((hidden, hidden), "orthogonal")}

        def step(self, a, state, w):
            (h,) = state
            return (torch.lerp(h, torch.tanh(torch.baddbmm(a, h, w.U)), self.share),)

    class SLSTM(Leaky):
        pass

    class Half(Cell):
        gates = 1
        paper = "unfinished"

    class Short(Synthetic):
        name = "short"

        def __init__(self, **options) -> None:
            super().__init__(**options, longest_length=9)
"""


@pytest.fixture
def mine(folder: Path) -> Path:
    (folder / "mine.py").write_text(textwrap.dedent(MINE))
    return folder


def records(folder: Path) -> dict[str, record.Record]:
    return {path.parent.name: record.load(path) for path in folder.glob("runs/**/record.json")}


def test_a_file_comes_before_the_suites_config_of_that_name(seqbench, folder):
    seqbench("fit", *QUICK, "--model.cell", "Tanh")
    ((name, found),) = records(folder).items()
    assert found.command.startswith("seqbench fit -c synthetic -c chung2014 ")
    Path("synthetic").write_text("data: {class_path: Synthetic, init_args: {sequences: 9}}")
    Path("chung2014").mkdir()
    seqbench("fit", *QUICK, "--model.cell", "Tanh")
    (other,) = (found for other, found in records(folder).items() if other != name)
    assert other.config["data"]["init_args"]["sequences"] == 9


def test_a_unit_and_a_data_set_of_ones_own(seqbench, mine):
    seqbench("fit", *QUICK, "--data", "mine.Short", "--model.cell", "mine.Leaky", "--model.cell.share", "0.25")
    ((name, found),) = records(mine).items()
    assert name.startswith("short-leaky-")
    assert (found.cell.name, found.cell.options) == ("Leaky", {"share": 0.25})
    assert found.config["model"]["cell"] == {"class_path": "Leaky", "init_args": {"share": 0.25}}
    assert found.environment.sources["unit"] == hashlib.sha256((mine / "mine.py").read_bytes()).hexdigest()[:12]
    assert found.environment.recurrence == "numba"
    assert "--data mine.Short --model.cell mine.Leaky" in found.command
    kept = yaml.safe_load((mine / "runs" / name / "config.yaml").read_text())
    assert (kept["data"]["class_path"], kept["model"]["cell"]["class_path"]) == ("mine.Short", "mine.Leaky")
    (mine / "runs" / name / "record.json").unlink()
    seqbench("fit", "-c", f"runs/{name}/config.yaml")
    assert records(mine)[name].test == found.test


def test_a_run_of_a_unit_named_like_ours_is_its_own_class(seqbench, mine):
    seqbench("fit", *QUICK, "--model.cell", "mine.SLSTM")
    (found,) = records(mine).values()
    assert found.parameters.recurrent == 88 * 4 + 4 * 4 + 4, "one gate, where ours has four"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model.cell", "nowhere.Unit"], "nowhere, for the unit Unit, cannot be imported: there is no such module"),
        (["--model.cell", "mine.Leakey"], "mine has no class Leakey"),
        (["--model.cell", "mine.Short"], "mine.Short is no unit: it must be a subclass of seqbench.cells.Cell"),
        (["--model.cell", "mine.Half"], "some of its methods are abstract"),
        (["--model.cell", "broken.Unit"], "cannot be imported: ZeroDivisionError: division by zero"),
        (["--model.cell", "needs.Unit"], "cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
        (["--model.cell", "GRU", "--data", "mine.Leaky"], "mine.Leaky is no data set"),
        (["-c", "own.yaml"], "own.yaml's, for the unit"),
        (["-c", "chung2104"], "There is no config 'chung2104'; did you mean chung2014?"),
    ],
)
def test_mistakes(refusal, mine, flags, told):
    Path("broken.py").write_text("1 / 0")
    Path("needs.py").write_text("import not_there")
    Path("own.yaml").write_text("model: {cell: own.yaml's.Unit}")
    assert told in refusal("fit", *QUICK, *flags)


def test_a_sweep_of_both_kinds_of_units(seqbench, mine, capsys):
    flags = ["--cells", "tanh,mine.Leaky", "--rates", "1e-2,1e-3", "--seeds", "2", "--out", "runs"]
    seqbench("sweep", *QUICK, "--model.cell.bias", "false", *flags, "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [(row["unit"], row["seeds"]) for row in rows] == [("Tanh", 2), ("mine.Leaky", 2)]
    found = records(mine)
    assert len(found) == 2 * (2 + 2)
    assert {run.cell.name for run in found.values()} == {"Tanh", "Leaky"}
    assert all(run.cell.options == {"bias": False} for run in found.values())
    before = {path: path.stat().st_mtime_ns for path in mine.glob("runs/*/record.json")}
    seqbench("sweep", *QUICK, "--model.cell.bias", "false", *flags)
    capsys.readouterr()
    seqbench("sweep", "status", "runs", "--json")
    state = json.loads(capsys.readouterr().out)
    assert (state["planned"], state["done"]) == (8, 8)
    assert {path: path.stat().st_mtime_ns for path in mine.glob("runs/*/record.json")} == before


@pytest.mark.parametrize("cells", ["tanh,tanh", "SLSTM,mine.SLSTM"])
def test_a_sweep_of_two_units_of_one_name_is_refused(refusal, mine, cells):
    assert "each unit once" in refusal("sweep", *QUICK, "--cells", cells)


def test_packages_of_the_users_are_what_they_are(seqbench, mine):
    """`datamodules` and `leaderboard` are the user's in fit, in a sweep's processes and where the board is built."""
    for name in ("datamodules", "leaderboard"):
        (mine / name).mkdir()
        (mine / name / "__init__.py").write_text("SHARE = 0.5")
    (mine / "seqbench_notes.py").write_text("raise RuntimeError('a note was imported')")
    own = "import datamodules, leaderboard, mine\nSHARE = (datamodules.SHARE + leaderboard.SHARE) / 2\n"
    (mine / "own.py").write_text(own + "class Own(mine.Leaky):\n    paper = str(SHARE)\n")
    seqbench("fit", *QUICK, "--model.cell", "own.Own")
    seqbench("sweep", *QUICK, "--cells", "own.Own", "--rates", "1e-2", "--seeds", "1", "--out", "runs/sweep")
    seqbench("leaderboard", "build", "--records", "runs", "--out", "board")
    assert len(records(mine)) == 2
    assert "Own" in (mine / "board" / "README.md").read_text()
