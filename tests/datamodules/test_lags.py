"""Long lags against descriptions of their own: an automaton for the grammar, the papers' formulas for the rest."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch
from numpy.random import RandomState

from seqbench.cells import find
from seqbench.datamodules.lag_numbers import Adding, Multiplication, SpikeDelays
from seqbench.datamodules.lag_symbols import Copying, TemporalOrder, TwoSequences
from seqbench.datamodules.lags import Lags
from seqbench.datamodules.reber import ContinualReber, EmbeddedReber, as_steps, embedded_string
from seqbench.task import Batch, SeqbenchError
from seqbench.train.module import SequenceModel

SMALL = {"sequences": 40, "test_sequences": 10}
# Reber's grammar as a regular expression, and wrapped (Hochreiter & Schmidhuber 1997, figures 3 and 4).
FOURTH = "(?:XT*VP)*(?:S|XT*VV)"
INNER = f"B(?:TS*X{FOURTH}|PT*V(?:V|P{FOURTH}))E"
EMBEDDED = f"B(?:T{INNER}T|P{INNER}P)E"
# As an automaton: a node's arcs, the two copies of the inner grammar told apart by a letter.
ARCS = {("b", "B"): "w", ("w", "T"): "t0", ("w", "P"): "p0", ("e", "E"): "b"}
for copy, last in (("t", "T"), ("p", "P")):
    arcs = ["0B1", "1T2", "1P3", "2S2", "2X4", "3T3", "3V5", "4X3", "4S6", "5P4", "5V6", "6E7"]
    ARCS |= {(copy + arc[0], arc[1]): copy + arc[2] for arc in arcs} | {(copy + "7", last): "e"}


class Same(EmbeddedReber):
    """A grammar of one string."""

    def sequence(self, number, g):
        return as_steps(embedded_string(RandomState(0)))


def loaded(kind: type[Lags], **options) -> Lags:
    data = kind(**SMALL | options)
    data.setup()
    return data


def sequences(data: Lags, split: str = "train") -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """x [T, I], y [T, K] and the steps that are scored, of each sequence alone."""
    found = []
    for n in range(len(data.splits[split].lengths)):
        batch = data.gather(split, torch.tensor([[n]]))
        found.append((batch.x[:, 0, 0], batch.y[:, 0, 0], batch.mask[:, 0, 0].nonzero().flatten()))
    return found


def symbols(x: torch.Tensor) -> list[int]:
    assert torch.equal(x.sum(1), torch.ones(len(x)))
    return x.argmax(1).tolist()


def string(x: torch.Tensor, y: torch.Tensor) -> str:
    ids = [*symbols(x), int(y[-1, 0])]
    assert ids[1:] == y[:, 0].long().tolist()
    return "".join("BTPSXVE"[i] for i in ids)


def legal(y: torch.Tensor) -> list[set[str]]:
    return [{"BTPSXVE"[i] for i in range(7) if int(bits) >> i & 1} for bits in y[:, 1].tolist()]


def follow(text: str) -> list[set[str]]:
    """By the automaton, what may come after each of the symbols."""
    node, found = "b", []
    for symbol in text:
        node = ARCS[node, symbol]
        found.append({s for at, s in ARCS if at == node})
    return found


def test_strings_are_of_the_grammar_and_none_of_train_is_tested():
    data = loaded(EmbeddedReber, sequences=100, test_sequences=50)
    texts = {}
    for split in ("train", "valid", "test"):
        texts[split] = []
        for x, y, scored in sequences(data, split):
            text = string(x, y)
            assert re.fullmatch(EMBEDDED, text)
            assert legal(y) == follow(text[:-1])
            assert scored.tolist() == list(range(len(text) - 1))
            texts[split].append(text)
    assert len(set(texts["train"])) > 20
    assert not set(texts["train"]) & (set(texts["test"]) | set(texts["valid"]))


def test_more_strings_than_the_grammar_has_new_ones_are_refused():
    with pytest.raises(SeqbenchError, match=r"fewer --data\.sequences"):
        Same(**SMALL).store()


def streams(data: ContinualReber, split: str, count: int) -> list[str]:
    """The symbols of each stream, its windows put together."""
    parts = sequences(data, split)
    x, y = (torch.stack([torch.cat([part[k] for part in parts[n::count]]) for n in range(count)]) for k in (0, 1))
    for n in range(count):
        assert legal(y[n]) == follow(string(x[n], y[n])[:-1])
    assert all(len(scored) == len(inputs) for inputs, _, scored in parts)
    return [string(x[n], y[n]) for n in range(count)]


def test_a_stream_is_strings_one_after_the_other_and_its_windows_follow_each_other():
    data = ContinualReber(batch_size=3, length=250, window=60, test_length=2300, test_sequences=2)
    data.setup()
    for split, count, length in (("train", 3, 250), ("valid", 2, 2300), ("test", 2, 2300)):
        for text in streams(data, split, count):
            assert len(text) == length + 1
            assert length - re.match(f"(?:{EMBEDDED})*", text).end() < 60  # the last string is cut off
    batches = [data.gather("train", index) for index in data.train_dataloader()]
    assert [batch.x.shape for batch in batches] == [(60, 1, 3, 7)] * 4 + [(10, 1, 3, 7)]
    assert data.task.carried
    whole = torch.cat([batch.x for batch in batches])
    assert ["".join("BTPSXVE"[i] for i in symbols(whole[:, 0, n])) for n in range(3)] == [
        text[:-1] for text in streams(data, "train", 3)
    ]
    assert [index.tolist() for index in data.test_dataloader()] == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_a_stream_is_scored_as_if_its_windows_were_one():
    """Against the same streams in one window, by a unit whose memory grows."""
    data = ContinualReber(batch_size=2, length=100, test_length=1100, test_sequences=2)
    data.setup()
    model = SequenceModel(find("LSTM1997")(), data.task, hidden=6, seed=3)
    parts = [model.score(data.gather("valid", index))[0] for index in data.evaluation("valid")]
    model.forget()
    once = [torch.cat([data.gather("valid", torch.tensor([[n + 2 * k]])).x for k in range(2)]) for n in range(2)]
    target = [torch.cat([data.gather("valid", torch.tensor([[n + 2 * k]])).y for k in range(2)]) for n in range(2)]
    x, y = torch.cat(once, 2), torch.cat(target, 2)
    batch = Batch(x, y, torch.ones(x.shape[:3], dtype=torch.bool), torch.tensor([[0, 1]]))
    torch.testing.assert_close(sum(parts), model.score(batch)[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("kind", "lowest"), [(Adding, -1), (Multiplication, 0)])
def test_marked_numbers_are_added_or_multiplied(kind, lowest):
    data = loaded(kind, sequences=400)
    first_drawn = 0
    for x, y, scored in sequences(data):
        T = len(x)
        assert 100 <= T <= 110
        assert lowest <= float(x[:, 0].min()) < float(x[:, 0].max()) <= 1
        assert x[0, 1] == x[-1, 1] == -1
        marked = (x[:, 1] == 1).nonzero().flatten().tolist()
        assert (x[:, 1] != 0).sum() == 2 + len(marked)
        numbers = x[marked, 0].tolist()
        if len(marked) == 1:  # the first pair was drawn: its mark stays -1
            first_drawn += 1
            numbers.append(0.0 if kind is Adding else 1.0)
        else:
            assert min(marked) <= 9
        assert max(marked) < T // 2
        expected = 0.5 + sum(numbers) / 4 if kind is Adding else numbers[0] * numbers[1]
        assert scored.tolist() == [T - 1]
        assert float(y[-1]) == pytest.approx(expected, abs=1e-6)
    assert 20 < first_drawn < 70  # one in ten


@pytest.mark.parametrize(("marks", "windows"), [(2, ((10, 20), (50, 60))), (3, ((10, 20), (33, 43), (66, 76)))])
def test_the_class_is_the_order_of_the_marks(marks, windows):
    data = loaded(TemporalOrder, marks=marks)
    assert data.task.target_size == 2**marks
    for x, y, scored in sequences(data):
        ids = symbols(x)
        assert 100 <= len(ids) <= 110
        assert (ids[0], ids[-1]) == (6, 7)
        places = [t for t, i in enumerate(ids) if i in (4, 5)]
        assert all(low <= t <= high for t, (low, high) in zip(places, windows, strict=True))
        assert int(y[-1]) == int("".join(str(ids[t] - 4) for t in places), 2)
        assert set(ids[1:-1]) == {0, 1, 2, 3, *(ids[t] for t in places)}
        assert scored.tolist() == [len(ids) - 1]


@pytest.mark.parametrize("noise", ["none", "symbols", "lags"])
def test_the_answer_is_the_symbol_at_the_beginning(noise):
    data = loaded(TwoSequences, lag=20, noise=noise)
    told, lengths = set(), set()
    for n, (x, y, scored) in enumerate(sequences(data)):
        ids = symbols(x)
        told.add(tuple(ids))
        lengths.add(len(ids))
        if noise == "lags":
            assert (ids[0], ids[-1]) == (21, 20)
            assert ids[1] - 22 == int(y[-1]) == n % 2
            assert len(ids) >= 23
            assert max(ids[2:-1]) < 20
        else:
            assert ids[0] - 19 == int(y[-1]) == n % 2
            assert len(ids) == 20
            assert max(ids[1:]) < 19
            assert noise == "symbols" or ids[1:] == list(range(19))
        assert scored.tolist() == [len(ids) - 1]
    assert len(told) == (2 if noise == "none" else 40)
    assert (len(lengths) > 5) == (noise == "lags")


def test_copying_asks_for_what_came_in_its_order():
    for x, y, scored in sequences(loaded(Copying, lag=15)):
        ids = symbols(x)
        assert ids[10:] == [8] * 14 + [9] + [8] * 10
        assert scored.tolist() == list(range(25, 35))
        assert y[scored, 0].tolist() == ids[:10]


def test_a_spike_tells_the_delay_since_the_last_one():
    for x, y, scored in sequences(loaded(SpikeDelays, delay=30, spikes=4)):
        spikes = x[:, 0].nonzero().flatten()
        assert spikes[0] == 0
        assert scored.tolist() == spikes[1:].tolist()
        delays = spikes.diff()
        assert 30 <= int(delays.min()) <= int(delays.max()) <= 39
        torch.testing.assert_close(y[scored, 0], (delays - 30) / 10)


PINNED = {
    "Adding": ("8b62d5e0b379", "8d431f8bf2bd"),
    "Multiplication": ("8a17a349114d", "ca5fb3bb0d80"),
    "SpikeDelays": ("d5db3155c4a1", "81390173f812"),
    "TemporalOrder": ("1bed53cfef8f", "fe5f9540e4b9"),
    "TwoSequences": ("bfe54a318a97", "cd2d6b97916d"),
    "Copying": ("4b1c0ec7c2a4", "5da38720ac8f"),
    "EmbeddedReber": ("aa80009003b4", "7aa18f90e4a2"),
    "ContinualReber": ("ce1a626430ac", "e7c51401e71d"),
}  # fmt: skip


def pinned(data: Lags) -> tuple[str, str]:
    content = b"".join(data.splits[split].frames.numpy().tobytes() for split in ("train", "valid", "test"))
    return hashlib.sha256(content).hexdigest()[:12], data.task.digest[:12]


def test_the_streams_are_the_same_everywhere():
    options = {"batch_size": 2, "length": 300, "test_length": 1500, "test_sequences": 2}
    data, more = ContinualReber(**options), ContinualReber(**options | {"length": 400})
    data.setup()
    more.setup()
    assert pinned(data) == PINNED["ContinualReber"]
    assert streams(more, "train", 2)[0].startswith(streams(data, "train", 2)[0])
    others = [ContinualReber(**options | change).task.digest for change in ({"window": 50}, {"data_seed": 1})]
    assert data.task.digest not in (more.task.digest, *others)


@pytest.mark.parametrize(
    "kind", [Adding, Multiplication, SpikeDelays, TemporalOrder, TwoSequences, Copying, EmbeddedReber]
)
def test_data_are_the_same_everywhere_and_more_of_them_begin_with_the_same(kind):
    data, more = loaded(kind), loaded(kind, sequences=50)
    assert pinned(data) == PINNED[kind.__name__]
    fewer = len(data.splits["train"].frames) - 1
    assert torch.equal(more.splits["train"].frames[:fewer], data.splits["train"].frames[:-1])
    assert data.task.digest not in (more.task.digest, kind(data_seed=1, **SMALL).task.digest)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Adding, {"length": 19}), (TemporalOrder, {"marks": 4}), (TwoSequences, {"lag": 1}),
        (TwoSequences, {"noise": "2a"}), (Copying, {"lag": 0}), (SpikeDelays, {"delay": 0}),
        (ContinualReber, {"length": 0}), (ContinualReber, {"window": 0}), (Adding, {"sequences": 0}),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(kind, options):
    with pytest.raises(SeqbenchError, match="give "):
        kind(**options)
