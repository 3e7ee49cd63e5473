"""Records are verified where torch is not installed: all but what the code of units and data must be asked."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

from seqbench.leaderboard.verify import verify
from seqbench.train.audit import CHECKS

SOUND = Path(__file__).parent / "records"
NOTE = "classes, data and parameter counts were not held against the code, as torch is missing"
SCRIPT = """
import sys


class Without:
    '''A finder of modules that finds all but these; None in sys.modules would do, if scipy did not look there.'''

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        absent = name.partition(".")[0] in ("torch", "lightning", "numba")
        return None if absent else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = map(Without, sys.meta_path)
sys.argv[0] = "seqbench"
from seqbench.cli import main

main()
"""


def seqbench(*arguments):
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def findings(folder):
    done = seqbench("leaderboard", "verify", "--records", folder, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_the_committed_records_give_the_same_findings_and_a_note_of_what_was_left_out():
    board = Path(__file__).parents[2] / "leaderboard/records"
    for folder in (SOUND, board) if any(board.glob("*.json")) else (SOUND,):
        status, (*same, last) = findings(folder)
        assert same == [dataclasses.asdict(finding) for finding in verify(folder, CHECKS)]
        assert last == {"file": "", "field": "", "problem": NOTE, "note": True}
        assert status == 0


def test_what_records_alone_tell_is_found(tmp_path):
    folder = shutil.copytree(SOUND, tmp_path / "records")
    path = min(folder.glob("*.json"))
    record = json.loads(path.read_text())
    record["test"]["nll"] -= 0.1
    path.write_text(json.dumps(record))
    status, found = findings(folder)
    assert (path.name, "test.nll") in {(finding["file"], finding["field"]) for finding in found}
    assert status == 1


def test_nothing_is_submitted_or_trained_unaudited(tmp_path):
    run = min(SOUND.glob("*.json")).stem
    for arguments in (["submit", SOUND, "--records", tmp_path], ["verify", "--records", SOUND, "--rerun", run]):
        done = seqbench("leaderboard", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.endswith("pip install torch")
    assert not list(tmp_path.iterdir())
