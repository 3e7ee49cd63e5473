"""A little of `make repeats`."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "repeats.py"


@pytest.mark.faults("D")
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked that have threads")
def test_two_runs_that_are_killed_and_four_that_are_repeated_are_the_same_to_the_bit():
    found = subprocess.run([sys.executable, "-P", SCRIPT, "2", "4", "0"], capture_output=True, text=True, check=False)
    assert "4 trainings of 2 units: 0 differ" in found.stdout
    assert found.stdout.splitlines()[-1] == "0 differences"
