"""The canonical sets against the published counts, defects and floors; the floors against plain float64 loops."""

from __future__ import annotations

import itertools
import json
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from seqbench.datamodules.polyphonic import JSBChorales, read_mat
from seqbench.leaderboard.words import FLAWS
from seqbench.task import SeqbenchError

# name: sequences, frames, longest, lowest and highest MIDI note
TABLE = {
    "jsb": ((229, 76, 77), (13_807, 4_602, 4_725), 160, (43, 96)),
    "nottingham": ((694, 173, 170), (176_561, 45_513, 44_463), 1793, (31, 93)),
    "musedata": ((524, 135, 124), (245_202, 82_755, 64_339), 4273, (21, 105)),
    "piano_midi": ((87, 12, 25), (75_911, 8_540, 19_036), 3857, (21, 108)),
}
# name: note unigram with frame 1 and without, per-key Markov without
FLOORS = {
    "nottingham": (10.2525, 10.2613, 5.1532),
    "jsb": (11.0600, 11.0911, 10.4919),
    "musedata": (11.5107, 11.5153, 8.5592),
    "piano_midi": (11.0456, 11.0518, 8.2644),
}


@pytest.mark.parametrize("name", TABLE)
def test_counts(canonical, name):
    data = canonical(name)
    sequences, frames, longest, midi = TABLE[name]
    splits = [data.splits[split] for split in ("train", "valid", "test")]
    assert tuple(len(s.lengths) for s in splits) == tuple(data.counts.values()) == sequences
    assert tuple(int(s.lengths.sum()) for s in splits) == frames
    assert max(int(s.lengths.max()) for s in splits) == data.longest == longest
    keys = torch.stack([s.frames.amax(0) for s in splits]).amax(0).nonzero()
    assert (int(keys.min()) + 21, int(keys.max()) + 21) == midi


@pytest.mark.parametrize("name", FLOORS)
def test_floors(canonical, name):
    floors = canonical(name).floors()
    assert list(floors) == ["note unigram", "per-key Markov"]
    first, main, markov = FLOORS[name]
    assert floors["note unigram"].nll_first == pytest.approx(first, abs=5e-5)
    assert floors["note unigram"].nll == pytest.approx(main, abs=5e-5)
    assert floors["per-key Markov"].nll == pytest.approx(markov, abs=5e-5)


def plain_floors(train: list, test: list, unigram_clamp: float) -> list[tuple[float, float, float]]:
    """Both floors by loops over sequences, frames and keys: nll, nll_sequence, nll_first."""
    frames = sum(len(s) for s in train)
    keys = range(len(train[0][0]))
    share = [min(max(sum(f[k] for s in train for f in s) / frames, unigram_clamp), 1 - unigram_clamp) for k in keys]
    count = [[[0, 0], [0, 0]] for _ in keys]
    for s in train:
        for before, now in itertools.pairwise(s):
            for k in keys:
                count[k][before[k]][now[k]] += 1
    chain = [[(c[b][1] + 1) / (c[b][0] + c[b][1] + 2) for b in (0, 1)] for c in count]

    def nats(frame: list, probability: list) -> float:
        return -math.fsum(math.log(p if on else 1 - p) for on, p in zip(frame, probability, strict=True))

    results = []
    for markov in (False, True):
        total = first = scored = 0.0
        means = []
        for s in test:
            first += nats(s[0], share)
            inner = [nats(s[t], [chain[k][s[t - 1][k]] for k in keys] if markov else share) for t in range(1, len(s))]
            total += math.fsum(inner)
            scored += len(inner)
            if inner:
                means.append(math.fsum(inner) / len(inner))
        results.append((total / scored, math.fsum(means) / len(means), (total + first) / (scored + len(test))))
    return results


def test_floors_are_the_plain_loops(synthetic):
    rolls = synthetic.load()
    plain = plain_floors([r.tolist() for r in rolls["train"]], [r.tolist() for r in rolls["test"]], 1e-7)
    for (nll, sequence, first), score in zip(plain, synthetic.floors().values(), strict=True):
        assert (score.nll, score.nll_sequence) == (pytest.approx(nll, abs=2e-9), pytest.approx(sequence, abs=2e-9))
        assert score.nll_first == pytest.approx(first, abs=2e-9)


def test_known_defects(canonical):
    nottingham = canonical("nottingham").load()
    assert torch.equal(nottingham["train"][201], nottingham["valid"][3])
    assert torch.equal(nottingham["train"][267], nottingham["test"][99])
    unseen = {"jsb": [45], "nottingham": [37], "musedata": [97, 98, 99, 103, 105], "piano_midi": []}
    leading = []
    for name, notes in unseen.items():
        splits = canonical(name).splits
        missing = (splits["test"].frames.amax(0) > splits["train"].frames.amax(0)).nonzero().flatten() + 21
        assert missing.tolist() == notes
        leading += [int(r.any(1).int().argmax()) for rolls in canonical(name).load().values() for r in rolls]
    assert max(leading) == 215


def write(path, rolls, **more):
    path.parent.mkdir(exist_ok=True)
    cell = np.empty((1, len(rolls)), dtype=object)
    cell[0] = rolls
    scipy.io.savemat(path, {f"{split}data": cell for split in ("train", "valid", "test")} | more)
    return path


def test_chorales_that_share_their_melody_with_one_of_train(canonical):
    """How many there are, and what they cost, is what the board says of JSB."""
    *counted, low, high = map(float, re.findall(r"[\d.]*\d", FLAWS["jsb"]))
    jsb = canonical("jsb").load()
    known = set().union(*map(melody, jsb["train"]))
    shared = np.array([not known.isdisjoint(melody(roll)) for roll in jsb["test"]])
    assert counted == [len(shared), shared.sum()]
    less = {"tanh": [], "gru": [], "lstm": [], "indrnn": []}
    for unit, found in less.items():
        for path in (Path(__file__).parents[2] / "leaderboard/records").glob(f"jsb-{unit}-*.json"):
            run = json.loads(path.read_text())
            if run["seed"]:  # at the three best rates
                nats, frames = np.array(run["test"]["nats"]), np.array(run["test"]["frames"])
                rest, some = (nats[which].sum() / frames[which].sum() for which in (~shared, shared))
                found.append(rest - some)
    if not any(less.values()):
        pytest.skip("leaderboard/records is empty: the board is being made anew")
    assert all(low < np.mean(found) < high for found in less.values())


def melody(roll, steps=16):
    """Each run of so many steps of the highest voice, repeated notes left out."""
    top = np.array([frame.nonzero().max() for frame in roll if frame.any()])
    intervals = [int(step) for step in np.diff(top) if step]
    return {tuple(intervals[k : k + steps]) for k in range(len(intervals) - steps + 1)}


def test_reads_what_was_written(tmp_path):
    rolls = [np.eye(3, 88, dtype=np.uint8), np.zeros((5, 88), np.uint8)]
    for got in read_mat(write(tmp_path / "a.mat", rolls)).values():
        assert all(np.array_equal(g.numpy(), r) for g, r in zip(got, rolls, strict=True))


@pytest.mark.parametrize("bad", [np.full((3, 88), 2), np.full((3, 88), 0.5), np.zeros((3, 87)), np.zeros((0, 88))])
def test_refuses_what_is_no_roll(tmp_path, bad):
    with pytest.raises(SeqbenchError, match="zeros and ones"):
        read_mat(write(tmp_path / "a.mat", [np.zeros((3, 88), np.uint8), bad]))


def test_refuses_what_is_no_mat(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"no such thing" * 50)
    with pytest.raises(SeqbenchError, match="not a canonical"):
        read_mat(tmp_path / "a.mat")
    (tmp_path / "b.mat").write_bytes(bytes(9 * 2**20))
    with pytest.raises(SeqbenchError, match="bytes"):
        read_mat(tmp_path / "b.mat")


@pytest.mark.faults("F15")
def test_a_mat_that_is_cut_short_is_told_in_one_line(tmp_path):
    good = write(tmp_path / "good.mat", [np.eye(3, 88, dtype=np.uint8)]).read_bytes()
    path = tmp_path / "a.mat"
    for end in range(0, len(good), 37):
        path.write_bytes(good[:end])
        with pytest.raises(SeqbenchError, match=r"^\S*/a\.mat is not a canonical .mat file [^\n]*$"):
            read_mat(path)


@pytest.mark.faults("F15")
def test_other_bytes_than_those_pinned_never_come_to_scipy(alone, tmp_path, monkeypatch):
    """Of a damaged .mat scipy 1.17's reader may crash, and no error could be told."""
    path = write(tmp_path / "polyphonic" / "JSB_Chorales.mat", [np.eye(3, 88, dtype=np.uint8)])
    monkeypatch.setenv("SEQBENCH_MIRROR", str(tmp_path))
    monkeypatch.setattr(scipy.io, "loadmat", lambda *arguments, **options: pytest.fail("read"))
    with pytest.raises(SeqbenchError, match=f"{path} .SEQBENCH_MIRROR. has sha256"):
        JSBChorales().load()


@pytest.mark.faults("F15")
def test_a_mat_that_unpacks_to_more_than_any_set_is_refused_before_it_does(tmp_path):
    path = tmp_path / "bomb.mat"
    scipy.io.savemat(path, {"traindata": np.zeros(160 * 2**20, np.uint8)}, do_compression=True)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(SeqbenchError, match=r"bomb\.mat .*unpacks to more"):
        read_mat(path)
    assert tracemalloc.get_traced_memory()[1] < 300 * 2**20
    tracemalloc.stop()
