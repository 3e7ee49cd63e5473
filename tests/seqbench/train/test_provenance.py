"""A record tells the code that decided its numbers."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqbench.train import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository with a package of that name, committed."""
    for name in ("seqbench/__init__.py", "configs/a.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("first\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "seqbench", SimpleNamespace(__file__=str(tmp_path / "seqbench" / "__init__.py")))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "marked"),
    [("seqbench/own_unit.py", True), ("configs/a.yaml", True), ("README.md", False), ("notes.txt", False)],
)
def test_what_decides_numbers_marks_the_commit_tracked_or_not(checkout, name, marked):
    clean = provenance._commit.__wrapped__()
    assert len(clean) == 12
    (checkout / name).write_text("second\n")
    assert provenance._commit.__wrapped__() == clean + "+" * marked


def test_the_digest_of_the_suite_follows_its_code_alone(checkout):
    before = provenance._suite.__wrapped__()
    (checkout / "README.md").write_text("second\n")
    assert provenance._suite.__wrapped__() == before
    (checkout / "seqbench" / "more.py").write_text("second\n")
    assert provenance._suite.__wrapped__() != before
