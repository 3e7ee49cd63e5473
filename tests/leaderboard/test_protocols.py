"""What the board takes for defaults, which records leave out, against those of the classes."""

import json

import lightning as L

from seqbench.datamodules import JSBChorales
from seqbench.datamodules.penn import PennTreebank
from seqbench.leaderboard.protocols import DEFAULTS, OF_TEXT
from seqbench.train.identity import PRECISIONS, defaults
from seqbench.train.module import SequenceModel


def test_defaults_are_those_of_the_classes():
    of = {"data.init_args": defaults(JSBChorales), "model": defaults(SequenceModel), "trainer": defaults(L.Trainer)}
    of["trainer"]["precision"] = PRECISIONS[of["trainer"]["precision"]]
    for key, told in DEFAULTS.items():
        section, _, name = key.rpartition(".")
        assert json.loads(told) == of[section][name]
    for key, told in OF_TEXT.items():
        assert json.loads(told) == defaults(PennTreebank)[key.rpartition(".")[2]]
