"""What a release changes together."""

import re
from pathlib import Path

import yaml

import seqbench

ROOT = Path(__file__).parents[1]


def test_citation_and_changelog_tell_the_version():
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == seqbench.__version__
    told = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert told[0] == "Unreleased"
    assert told[1:2] in ([], [seqbench.__version__])
