"""The parser through `fit` on made-up trees: it learns, its record's counts are those of what it predicts, groups."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import pytest
import torch

from seqbench import record
from seqbench.cells import find
from seqbench.datamodules import dependencies
from seqbench.datamodules.dependencies import EnglishWebTreebank
from seqbench.explain.explained import explain
from seqbench.leaderboard.checks import problems
from seqbench.model.embedding import embed
from seqbench.train import audit
from seqbench.train.fitting import run
from seqbench.train.loading import load_model
from seqbench.train.module import SequenceModel
from seqbench.train.optim import PerReplica


def trees(count: int, seed: int) -> str:
    """Phrases of a noun after up to three adjectives, each a child of the noun after it, round one verb, and a stop."""
    g = torch.Generator().manual_seed(seed)

    def draw(n: int) -> int:
        return int(torch.randint(n, (), generator=g))

    found = []
    for _ in range(count):
        phrases = [draw(4) for _ in range(1 + draw(4))]  # adjectives of each
        verb = sum(phrases[:1]) + 2
        words: list[tuple[str, str, int, str]] = []
        for number, adjectives in enumerate(phrases):
            noun = len(words) + adjectives + 1
            words += [(f"a{draw(3)}", "ADJ", noun, "amod")] * adjectives
            words.append((f"n{draw(3)}", "NOUN", verb, "nsubj" if not number else "dobj"))
            if not number:
                words.append((f"v{draw(3)}", "VERB", 0, "root"))
        words.append((".", "PUNCT", verb, "punct"))
        lines = [f"{i}\t{w}\t_\t{tag}\t_\t_\t{h}\t{r}\t_\t_" for i, (w, tag, h, r) in enumerate(words, 1)]
        found.append("\n".join(lines) + "\n\n")
    return "".join(found)


@pytest.fixture
def made_up(monkeypatch) -> None:
    """In the treebank's place."""
    texts = {"train": trees(120, 0), "valid": trees(20, 1), "test": trees(30, 2)}
    monkeypatch.setattr(dependencies, "_text", texts.__getitem__)


def fit(folder: Path, *flags: str) -> record.Record:
    words = ["fit", "-c", "ewt", "-c", "dozat2017_small", "--model.cell", "GRU", "--data.batch_size", "10"]
    words += ["--model.hidden", "12", "--model.embedding", "8", "--model.rate", "0.01", "--model.upward_dropout", "0"]
    run([*words, "--trainer.max_epochs", "8", "--run.dir", str(folder), *flags])
    (path,) = folder.glob("*/record.json")
    return record.load(path)


@pytest.mark.usefixtures("made_up")
def test_it_learns_and_its_record_counts_what_it_predicts(tmp_path):
    """Trees that a look ahead and back makes out: all but a few arcs are right after eight epochs."""
    written = fit(tmp_path)
    assert (written.task.score, written.task.looks_ahead) == ("labelled", True)
    assert written.test is not None
    assert written.test.counts["labelled"].share > 90
    assert written.test.nll < min(floor.nll for floor in written.floors.values())
    assert written.floors["parts of speech"].right is not None
    assert not [*audit.classes(written), *audit.task(written), *audit.sizes(written), *problems(written, ())]
    (checkpoint,) = tmp_path.glob("*/checkpoints/best.ckpt")
    model = load_model(checkpoint)
    data = EnglishWebTreebank().ready()
    batches = L.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu").predict(model, data)
    assert written.parameters.total == model.rows.shape[1]
    words = [dependencies.read(trees(30, 2))[n] for n in range(30)]
    for batch in batches:
        for slot, number in enumerate(batch["index"][0].tolist()):
            tree = words[number]
            said = batch["mean"][1 : len(tree) + 1, 0, slot].tolist()
            arcs = [said[i][0] == word.head for i, word in enumerate(tree)]
            both = [ok and data.names.relations[said[i][1]] == tree[i].relation for i, ok in enumerate(arcs)]
            counts = {name: (count.right[number], count.of[number]) for name, count in written.test.counts.items()}
            assert counts["arcs, all"] == (sum(arcs), len(tree))
            assert counts["labelled, all"] == (sum(both), len(tree))
            assert counts["arcs"] == counts["arcs, no PUNCT"] == (sum(arcs[:-1]), len(tree) - 1)
            assert counts["labelled"] == counts["labelled, no PUNCT"] == (sum(both[:-1]), len(tree) - 1)
    sentence = data.gather("test", torch.tensor([[0]])).x[:, 0, 0]
    assert data.spelled(sentence) == ["<root>", *(word.form for word in words[0])]
    held = explain(model, sentence.float().numpy())
    assert held.bidirectional
    assert held.norms.shape == (len(sentence), len(sentence))


@pytest.mark.usefixtures("made_up")
def test_a_parser_of_a_group_is_its_solo_run_to_the_bit():
    """Though each has other sentences beside it, of other lengths."""

    def trained(seeds: list[int], rates: list[float]) -> torch.Tensor:
        data = EnglishWebTreebank(10, "shuffled", seeds).ready()
        model = SequenceModel(
            find("LevyLSTM")(), data.task, seeds, rates, hidden=6, embedding=4, bidirectional=True,
            upward_dropout=0.3, optimizer=torch.optim.Adam,
        )  # fmt: skip
        optimizer = PerReplica(torch.optim.Adam([model.rows]), torch.tensor(rates).double(), model.alive, 5.0, True)
        for step, index in enumerate(data.train_dataloader()):
            batch = data.gather("train", index)
            nats, _ = model.sequence_nats(batch, model.noisy_weights(step), model.upward(step))
            nats.sum().backward()
            optimizer.step()
            model.rows.grad = None
        return model.rows.detach()

    group = trained([3, 1, 4], [0.01, 0.002, 0.02])
    for k, (seed, rate) in enumerate([(3, 0.01), (1, 0.002), (4, 0.02)]):
        assert torch.equal(trained([seed], [rate])[0], group[k])


def test_both_vectors_and_all_of_the_head_are_counted():
    model = SequenceModel(find("Tanh")(), EnglishWebTreebank().task, hidden=5, embedding=3, bidirectional=True)
    recurrent = 2 * (2 * 3 * 5 + 5 * 5 + 5)
    head = 10 * 600 + 600 + 201 * 200 + 101 * 47 * 101
    assert model.parameters_per_run.recurrent == recurrent
    assert model.parameters_per_run.total == recurrent + head + 8872 * 3 == model.rows.numel()


def test_a_word_and_its_part_of_speech_stand_side_by_side():
    model = SequenceModel(find("Tanh")(), EnglishWebTreebank().task, seed=[0, 1], hidden=5, embedding=3)
    E = model.w["E"]
    read = embed(torch.tensor([7, 8860]).view(1, 1, 1, 2), E)
    assert torch.equal(read[0, :, 0], torch.cat([E[:, 7], E[:, 8860]], -1))
