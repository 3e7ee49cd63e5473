"""`seqbench.data`: splits as arrays."""

import numpy as np
import pytest

import seqbench
from seqbench.datamodules import Synthetic


def test_rolls_are_those_that_the_set_is_made_of():
    data = seqbench.data("synthetic")
    loaded = Synthetic().load()
    for split in ("train", "valid", "test"):
        arrays = getattr(data, split)
        assert len(arrays) == len(loaded[split])
        for array, roll in zip(arrays, loaded[split], strict=True):
            assert np.array_equal(array, roll)
            assert array.dtype == np.float32
    assert np.array_equal(data.train[-1], loaded["train"][-1])
    assert [len(roll) for roll in data.train[2:4]] == [len(roll) for roll in loaded["train"][2:4]]
    with pytest.raises(IndexError):
        data.train[48]


def test_targets_are_the_next_frames_of_music():
    data = seqbench.data("synthetic", sequences=9)
    assert len(data.train) == 9
    for roll, target in zip(data.train, data.train.targets, strict=True):
        assert np.array_equal(roll[1:], target)


def test_speech_has_inputs_and_the_samples_that_follow(voices, alone):
    data = seqbench.data("wav_folder", root=str(voices([2000] * 12)))
    x, y = data.train[0], data.train.targets[0]
    assert (x.shape, y.shape) == ((48, 20), (48, 10))
    assert np.array_equal(x[1:, 10:], y[:-1])


def test_unknown_name():
    with pytest.raises(seqbench.SeqbenchError, match="did you mean jsb"):
        seqbench.data("jsbb")


def test_a_task_scored_at_its_end_is_there_as_a_whole():
    """Temporal order (Hochreiter and Schmidhuber 1997): 100 to 110 symbols, the answer at the last."""
    data = seqbench.data("temporal_order")
    x, y, scored = data.train[0], data.train.targets[0], data.train.scored[0]
    assert len(x) == len(y) == len(scored)
    assert 100 <= len(x) <= 110
    assert list(np.flatnonzero(scored)) == [len(x) - 1]
    assert (x.sum(1) == 1).all()
