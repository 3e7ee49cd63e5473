"""What installed packages offer by entry points: found lazily, told where it is broken."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from seqbench import cells, record
from seqbench.datamodules import listing
from seqbench.task import SeqbenchError

UNIT = """
    from seqbench.cells import Tanh

    class {name}(Tanh):
        paper = "elsewhere"
"""
DATA = """
    import torch
    from seqbench.datamodules.synthetic import Synthetic

    class Offered(Synthetic):
        name = "offered"
        title = "Of a package"
"""


@pytest.fixture
def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a package where Python finds it, with its entry points."""
    site = folder / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(package: str, code: str, **offers: str) -> None:
        (site / f"{package}.py").write_text(textwrap.dedent(code))
        (site / f"{package}-1.dist-info").mkdir()
        (site / f"{package}-1.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n"
        )
        text = "".join(f"[seqbench.{group}]\n{lines}\n" for group, lines in offers.items())
        (site / f"{package}-1.dist-info" / "entry_points.txt").write_text(text)

    return put


def test_a_packages_unit_and_data_set_are_known_by_name(install, seqbench, folder, capsys):
    install("more", UNIT.format(name="Fancy"), cells="Fancy = more:Fancy")
    install("sets", DATA, datamodules="Offered = sets:Offered")
    seqbench("cells", "--json")
    assert "Fancy" in {row["unit"] for row in json.loads(capsys.readouterr().out)}
    assert "Fancy" not in cells.cells(), "the suite's own"
    assert cells.find("fancy").paper == "elsewhere"
    seqbench("data", "prepare", "offered", "--json")
    assert json.loads(capsys.readouterr().out)["train"]["sequences"] == 48
    Path("both.yaml").write_text("data: {class_path: Offered}\nmodel: {cell: Fancy, hidden: 4}")
    seqbench("fit", "-c", "both.yaml", "-c", "chung2014", "--trainer.max_epochs", "1")
    (path,) = folder.glob("runs/*/record.json")
    assert path.parent.name.startswith("offered-fancy-")
    (path.parent / "config.yaml").rename("again.yaml")
    (path).unlink()
    seqbench("fit", "-c", "again.yaml")
    assert record.load(path).cell.name == "Fancy"


def test_data_sets_are_listed_without_importing_them(install, folder):
    install("sets", DATA + "\n    raise RuntimeError\n", datamodules="Offered = sets:Offered")
    (row,) = (row for row in listing.rows() if row["name"] == "offered")
    assert (row["title"], row["train"], row["input_size"]) == ("Of a package", 48, 88)
    code = "import sys; from seqbench.datamodules import listing; listing.rows(); sys.exit('torch' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder / 'site')!r}); {code}"], check=True
    )
    with pytest.raises(SeqbenchError, match="sets, for the data set Offered, cannot be imported: RuntimeError"):
        listing.prepare("offered")


@pytest.mark.parametrize(
    ("code", "entry", "told"),
    [
        ("1 / 0", "Bad = bad:Bad", "bad's Bad (bad:Bad) is left out: bad, for the unit Bad, cannot be imported"),
        ("", "Bad = bad:Bad", "bad has no class Bad"),
        ("class Bad: pass", "Bad = bad:Bad", "must be a subclass of seqbench.cells.Cell"),
        ("", "bad = bad:Bad", "the entry point's name must be the class's, Bad"),
        (
            UNIT.format(name="Bad") + "\n        def __init__(self, size): pass",
            "Bad = bad:Bad",
            "cannot do without size",
        ),
    ],
)
def test_a_broken_unit_is_told_in_one_line_and_the_others_stand(install, caplog, code, entry, told):
    install("bad", code, cells=entry)
    install("good", UNIT.format(name="Fine"), cells="Fine = good:Fine")
    assert set(cells.installed()) == {"Fine"}
    (line,) = caplog.messages
    assert told in line
    assert "\n" not in line
    assert cells.find("GRU") is cells.GRU


@pytest.mark.parametrize("entry", ["Gone = gone.sets:Gone", "Unstated = unstated:Unstated"])
def test_a_broken_data_set_is_told_in_one_line_and_the_others_stand(install, caplog, entry):
    install("unstated", "class Unstated:\n    name = 'unstated'", datamodules=entry)
    assert "jsb" in {row["name"] for row in listing.rows()}
    (line,) = caplog.messages
    assert "is left out: " in line


@pytest.mark.parametrize(
    ("names", "told"), [(("GRU",), "seqbench and one both"), (("Same", "Same"), "one and two both")]
)
def test_two_of_one_name_are_refused_and_others_stand(install, refusal, names, told):
    for package, name in zip(("one", "two"), names, strict=False):
        install(package, UNIT.format(name=name), cells=f"{name} = {package}:{name}")
    assert f"{told} have a unit {names[0]}: give its import path" in refusal("cells")
    with pytest.raises(SeqbenchError, match=told):
        cells.find(names[0])
    assert cells.find("LSTM") is cells.LSTM
    assert cells.find(f"one.{names[0]}").paper == "elsewhere"


def test_two_data_sets_of_one_name_are_refused(install, refusal):
    install("sets", DATA.replace('"offered"', '"jsb"'), datamodules="Offered = sets:Offered")
    assert "JSBChorales and Offered are both the data set jsb" in refusal("data", "list")
