"""Text: words on both axes, of a part of a long sequence."""

import json

import numpy as np
import pytest
import torch

from seqbench.cells import cells
from seqbench.explain import explain
from seqbench.explain.figures import pictures
from seqbench.explain.page import svg
from seqbench.task import SeqbenchError, Task
from seqbench.train.module import SequenceModel

LETTERS = Task("made_up", 1, 26, "Categorical", "nats/character", "", vocabulary=26, carried=True)
NUMBERS = Task("made_up", 7, 26, "Categorical", "nats/character", "")


def model(unit, task, **options):
    found = SequenceModel(cells()[unit](), task, hidden=7, layers=2, recurrence="loop", **options)
    with torch.no_grad():
        found.rows.mul_(4)
    return found


@pytest.mark.parametrize("unit", ["LSTM", "Tanh"])
def test_tokens_are_what_their_embedding_is(unit):
    """The same weights over the embeddings themselves; with noise left out."""
    text = model(unit, LETTERS, seed=[0, 1], rate=[1, 1])
    ids = np.random.default_rng(0).integers(0, 26, (30, 1))
    plain = model(unit, NUMBERS, seed=[0, 1], rate=[1, 1])
    with torch.no_grad():
        for name, weight in plain.w.items():
            weight.copy_(text.w[name])
        x = text.w["E"][1][torch.as_tensor(ids[:, 0])].numpy()
    for layer in (0, 1):
        assert np.array_equal(explain(text, ids, 1, layer).norms, explain(plain, x, 1, layer).norms)


@pytest.mark.parametrize("unit", ["LSTM", "LRU", "Tanh", "IndRNN"])
def test_a_part_is_what_the_whole_has_there(unit):
    found = model(unit, LETTERS)
    ids = np.random.default_rng(0).integers(0, 26, (50, 1))
    told = [chr(97 + n) for n in ids[:, 0]]
    whole, part = explain(found, ids, tokens=told), explain(found, ids, steps=(20, 33), tokens=told)
    assert np.allclose(part.norms, whole.norms[20:33, 20:33], rtol=1e-6)
    assert part.tokens == told[20:33]
    assert (part.memory is None) == (unit in ("Tanh", "IndRNN"))
    if part.memory is not None:
        assert np.array_equal(part.memory.weights(3), whole.memory.weights(3)[20:33, 20:33])
        assert np.array_equal(part.held.half_lives, whole.held.half_lives, equal_nan=True)
    for steps in ((-1, 3), (3, 3), (40, 51)):
        with pytest.raises(SeqbenchError, match="0:50"):
            explain(found, ids, steps=steps)


def test_words_stand_on_both_axes_and_signs_for_blanks():
    told = ["the", "antidisestablishmentarian", " ", "\n", "<unk>"]
    found = explain(model("LSTM", LETTERS), np.arange(5)[:, None], tokens=told)
    drawn = list(pictures(found, None))
    text = svg(drawn[0])
    for shown in ("the", "antidisestab…", "␣", "↵", "&lt;unk&gt;"):
        assert text.count(f">{shown}</text>") == 2, shown
    heat = drawn[0].heats[0]
    assert heat.rows == [f"context {token}".strip() for token in told]
    assert heat.columns == [f"time {token}".strip() for token in told]


def test_the_command_draws_a_texts_first_steps_or_those_asked_for(fit, seqbench, refusal, tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    lines = ["the cat sat on the mat", "a dog lay under a cat", "the mat lay on the dog"] * 30
    (tmp_path / "texts/some.txt").write_text("\n".join(lines))
    seqbench("fit", "-c", "text_folder", "--data.root", "texts", "--data.batch_size", "2", "--model.cell", "GRU",
             "--model.hidden", "4", "--trainer.max_epochs", "1")  # fmt: skip
    (run,) = tmp_path.glob("runs/text_folder-*")
    capsys.readouterr()
    command = ["explain", str(run / "checkpoints/best.ckpt"), "--json", "--out"]
    seqbench(*command, "seen")
    assert json.loads(capsys.readouterr().out)["steps"] == 40
    assert "test sequence 0, steps 0 to 39" in (tmp_path / "seen/index.html").read_text()
    seqbench(*command, "part", "--steps", "3:9")
    capsys.readouterr()
    drawn = (tmp_path / "part/weights.svg").read_text()
    assert [drawn.count(f">{word}</text>") for word in ("cat", "sat", "on", "mat", "dog", "lay")] == [0, 0, 2, 2, 2, 0]
    assert "give A:B" in refusal(*command, "part", "--steps", "9:3")
    assert "the sequence has 0:" in refusal(*command, "part", "--steps", "3:9000")


@pytest.mark.parametrize("unit", ["LSTM", "Tanh"])
@pytest.mark.parametrize("layer", [0, 1])
def test_both_directions_are_two_triangles(unit, layer):
    """Below the diagonal: what a model whose directions are exchanged holds of the sequence from its end."""
    task = Task("made_up", 1, 26, "Categorical", "nats/character", "", vocabulary=26, looks_ahead=True)
    both, exchanged = model(unit, task, bidirectional=True), model(unit, task, bidirectional=True)
    with torch.no_grad():
        for name, weight in both.w.items():
            if name not in ("E", "V", "c"):
                other = name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"
                reads_both = name.startswith("W_l1")  # one after the other, exchanged
                exchanged.w[other].copy_(weight.roll(7, 1) if reads_both else weight)
            else:
                exchanged.w[name].copy_(weight)
    ids = np.random.default_rng(0).integers(0, 26, (12, 1))
    found, turned = explain(both, ids, 0, layer), explain(exchanged, ids[::-1].copy(), 0, layer)
    assert np.allclose(found.norms, turned.norms[::-1, ::-1], rtol=1e-5)
    assert (np.triu(found.norms, 1) > 0).any()
    assert (np.tril(found.norms, -1) > 0).any()
    part = explain(both, ids, 0, layer, (3, 8))
    assert np.allclose(part.norms, found.norms[3:8, 3:8], rtol=1e-5)
    if unit == "LSTM":
        squares = sum(found.memory.weights(k) ** 2 for k in range(14))
        assert np.allclose(found.norms**2, squares, rtol=1e-4)
        assert sorted(found.units, key=lambda name: (len(name), name))[-1] == "6 backwards"
        half = [found.held.half_lives, np.roll(turned.held.half_lives, 7)]
        assert np.allclose(*half)
    assert next(pictures(found, None)).name == "weights"
