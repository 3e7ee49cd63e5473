"""A trained model's kind, with weights as drawn: what is sampled does not depend on training."""

import pytest
import torch

from seqbench.cells import cells
from seqbench.datamodules.synthetic import Synthetic
from seqbench.task import Task
from seqbench.train.module import SequenceModel

SPEECH = Task("made up", 20, 10, "GaussianMixture", "nats/step", "")


@pytest.fixture(scope="session")
def music():
    data = Synthetic()
    data.setup()
    return data


@pytest.fixture
def network(music):
    """A model by its unit's name; the head's weights are five times as large as they begin, so that states show."""

    def made(unit: str = "GRU", speech: bool = False, **options) -> SequenceModel:
        model = SequenceModel(cells()[unit](), SPEECH if speech else music.task, hidden=6, **options)
        with torch.no_grad():
            model.w["V"].mul_(5)
        return model.eval()

    return made
