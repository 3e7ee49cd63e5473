"""The chorales: the pinned digest from a parse of one's own, counts, tunes that do not leak, transposition by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from seqbench.datamodules import chorales
from seqbench.datamodules.chorales import BachChorales, Chorale, Note
from seqbench.task import SeqbenchError

pytestmark = pytest.mark.slow  # music21's corpus is parsed
DIGEST = "03b120764acfba08ce014cb7962046fedef18c70f56208666fa198d33444fafb"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """An empty cache; the first test that loads parses the corpus."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield patch


@pytest.fixture(scope="module")
def parsed(cache):
    return chorales.read_corpus()


@pytest.fixture(scope="module")
def data(cache, parsed):
    cache.setattr(chorales, "read_corpus", lambda: parsed)
    bach = BachChorales()
    bach.setup()
    return bach


def voice(*pitches: int, length: float = 1.0) -> list[Note]:
    return [Note(p, i * length, (i + 1) * length) for i, p in enumerate(pitches)]


def test_digest_and_counts(data):
    assert data.task.digest == DIGEST == chorales.digest_of(data.load())
    assert {split: len(s.lengths) for split, s in data.splits.items()} == data.counts
    assert sum(data.counts.values()) == 368
    assert max(int(s.lengths.max()) for s in data.splits.values()) == data.longest
    assert [p.name for p in chorales.cache_folder().iterdir()] == [chorales.cache_file().name]


def test_cache_is_read_and_mended(data, cache, monkeypatch):
    before = data.load()
    monkeypatch.setattr(chorales, "read_corpus", lambda: pytest.fail("parsed again"))
    again = data.load()
    assert all(torch.equal(a, b) for k in before for a, b in zip(before[k], again[k], strict=True))
    monkeypatch.undo()
    chorales.cache_file().write_bytes(b"PK\x03\x04 half")
    assert chorales.digest_of(data.load()) == DIGEST
    assert chorales.cache_file().stat().st_size > 10_000


def test_another_corpus_is_refused(data, parsed, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(chorales, "read_corpus", lambda: parsed[1:])
    with pytest.raises(SeqbenchError, match=r"install music21==10\.5\.1"):
        data.load()
    assert not list(tmp_path.iterdir())


def test_tunes_do_not_leak(parsed):
    splits = chorales.split_by_tune(parsed)
    tunes = [{chorales.opening(c) for c in pieces} for pieces in splits.values()]
    assert not tunes[0] & tunes[1]
    assert not (tunes[0] | tunes[1]) & tunes[2]
    rolls = [{chorales.roll(c).tobytes() for c in pieces} for pieces in splits.values()]
    assert not (rolls[0] & rolls[1])
    assert not (rolls[0] & rolls[2])
    assert not (rolls[1] & rolls[2])
    assert chorales.split_by_tune(parsed[::-1]) == splits


def test_four_voices_in_c(parsed, data):
    assert {len(c.voices) for c in parsed} == {4}
    frames = torch.cat([s.frames[:-1] for s in data.splits.values()])
    assert int(frames.sum(1).max()) == 4
    classes = torch.zeros(12, dtype=torch.int64).index_add_(0, (torch.arange(88) + 21) % 12, frames.sum(0))
    assert set(classes.topk(3).indices.tolist()) == {0, 2, 7}, "C, G and D sound most in C major and C minor"


def test_transposition_by_hand():
    scale = [2, 4, 6, 7, 9, 11, 13, 14]  # D major
    piece = Chorale("d", [voice(*[60 + s for s in scale], 66, 69, 74)] * 3 + [voice(*[48 + s for s in scale])], 2)
    assert chorales.find_tonic(piece) == 2
    moved = chorales.roll(piece)
    assert moved.shape == (11, 88)
    assert [int(np.flatnonzero(row).max()) + 21 for row in moved[:8]] == [60, 62, 64, 65, 67, 69, 71, 72]
    assert [chorales.shift_to_c(t) for t in range(12)] == [0, -1, -2, -3, -4, -5, 6, 5, 4, 3, 2, 1]


def test_two_of_three_decide_the_tonic():
    c_major = [voice(60, 64, 67, 72, 65, 67, 71, 72)] * 3
    on_c, on_g = voice(48, 52, 55, 48, 53, 55, 55, 48), voice(48, 52, 55, 48, 53, 55, 48, 55)
    assert chorales.find_tonic(Chorale("a", [*c_major, on_g], 0)) == 0
    assert chorales.find_tonic(Chorale("a", [*c_major, on_g], 7)) == 7
    assert chorales.find_tonic(Chorale("a", [*c_major, on_g], None)) == 0
    assert chorales.find_tonic(Chorale("a", [*c_major, on_c], 9)) == 0


def test_a_frame_is_what_sounds_at_the_quarter():
    soprano = [Note(72, 0, 0.5), Note(74, 0.5, 1), Note(76, 1, 2.5), Note(77, 2.5, 3), Note(72, 3, 4)]
    bass = voice(48, 55, 43, 48)
    rows = chorales.roll(Chorale("a", [soprano, bass, bass, bass], 0))
    assert [(np.flatnonzero(row) + 21).tolist() for row in rows] == [[48, 72], [55, 76], [43, 76], [48, 72]]


def test_every_chorale_has_one_note_a_voice(parsed):
    for piece in parsed:
        for notes in piece.voices:
            ordered = sorted(notes, key=lambda n: (n.on, n.off))
            assert all(a.off <= b.on + 1e-6 for a, b in itertools.pairwise(ordered)), piece.name
