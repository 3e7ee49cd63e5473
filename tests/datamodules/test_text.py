"""Text as streams: what is scored, in which order, floors by hand, and folders of one's own."""

from __future__ import annotations

import hashlib
import lzma
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from seqbench.datamodules import penn
from seqbench.datamodules.penn import FOLDER, PennTreebank
from seqbench.datamodules.text import Streams, by_frequency, words
from seqbench.datamodules.text_folder import TextFolder
from seqbench.task import SeqbenchError


def test_the_penn_treebank_is_the_published_one(canonical):
    """82,429 words scored, as Zaremba et al.'s code does; floors counted apart: unigram 639.3, Kneser-Ney 186.5."""
    data = canonical("ptb")
    assert {split: len(streams.ids) for split, streams in data.splits.items()} == {
        "train": 929_589, "valid": 73_760, "test": 82_430,
    }  # fmt: skip
    assert int(data.splits["test"].lengths.sum()) == 82_429
    assert {split: len(streams.lengths) for split, streams in data.splits.items()} == data.counts
    assert len(data.train_dataloader()) == 2323
    # TensorFlow's version reads valid in 20 streams too, and drops what is over: it scores other words.
    assert int(Streams.cut(data.splits["valid"].ids, 20, 20, rest=False).lengths.sum()) == 73_600
    assert int(data.splits["valid"].lengths.sum()) == 73_759
    assert set(data.splits["train"].ids.tolist()) == set(range(10_000))
    perplexity = {name: math.exp(score.nll) for name, score in data.floors().items()}
    assert perplexity == {"unigram": pytest.approx(639.3, abs=0.05), "bigram": pytest.approx(186.5, abs=0.05)}


def test_its_characters_are_the_published_ones(canonical):
    """The git blob of ptb.char.test.txt, which others publish with "_" for a blank and a blank after each character."""
    data = canonical("ptb_chars")
    assert {split: len(streams.ids) for split, streams in data.splits.items()} == {
        "train": 5_017_482, "valid": 393_042, "test": 442_423,
    }  # fmt: skip
    assert {split: len(streams.lengths) for split, streams in data.splits.items()} == data.counts
    known = by_frequency(data.split_up(penn._text("train")))
    text = "".join(known[n] for n in data.splits["test"].ids.tolist()).replace(" ", "_")
    content = "".join(f"{c} " for c in text).encode()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert blob == "4e866a8573cdd7d0ce6af45c034055adecc3bbd4"


@pytest.mark.parametrize(
    ("tokens", "streams", "steps", "rest"),
    [(101, 1, 10, True), (101, 1, 10, False), (101, 4, 6, False), (101, 4, 8, True), (7, 1, 10, True)],
)
def test_windows_go_on_where_the_one_before_ended(tokens, streams, steps, rest):
    ids = torch.arange(tokens)
    cut = Streams.cut(ids, streams, steps, rest)
    batches = [cut.gather(index) for index in torch.arange(len(cut.lengths)).view(-1, 1, streams)]
    for s in range(streams):
        read = [batch.x[batch.mask[:, 0, s], 0, s, 0] for batch in batches]
        told = [batch.y[batch.mask[:, 0, s], 0, s, 0] for batch in batches]
        scored = tokens // streams - 1 if rest else (tokens // streams - 1) // steps * steps
        first = s * (tokens // streams)
        assert torch.cat([*read, ids[:0]]).tolist() == list(range(first, first + scored))
        assert torch.cat([*told, ids[:0]]).tolist() == list(range(first + 1, first + scored + 1))


def test_an_empty_slot_has_nothing_scored():
    cut = Streams.cut(torch.arange(41), 2, 5, rest=False)
    batch = cut.gather(torch.tensor([[3, -1]]))
    assert batch.mask[:, 0].sum(0).tolist() == [5, 0]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two texts of a hundred lines, of which the second has a word that the first has not."""
    g = torch.Generator().manual_seed(0)
    lines = [" ".join("abcdefg"[i] * 2 for i in torch.randint(7, (6,), generator=g)) for _ in range(200)]
    lines[190] += " new"
    root = tmp_path / "texts"
    (root / "later").mkdir(parents=True)
    (root / "first.txt").write_text("\n".join(lines[:100]))
    (root / "later" / "second.txt").write_text("\n".join([*lines[100:], "", ""]))
    (root / ".hidden.txt").write_text("no")
    return root


def test_a_folder_of_texts(folder):
    data = TextFolder(4, window=5, root=str(folder))
    data.setup()
    assert {split: len(s.ids) for split, s in data.splits.items()} == {"train": 160 * 7, "valid": 140, "test": 141}
    assert data.vocabulary == 9  # seven words, <eos> and <unk>
    assert (data.splits["test"].ids == 8).sum() == 1
    assert not (data.splits["train"].ids == 8).any()
    assert all(math.isfinite(score.nll) for score in data.floors().values())
    characters = TextFolder(4, window=5, root=str(folder), level="characters")
    characters.setup()
    assert characters.task.unit == "nats/character"
    assert (characters.splits["test"].ids == characters.vocabulary - 1).sum() == 2  # n and w
    few = TextFolder(4, window=5, root=str(folder), most=4)
    few.setup()
    assert few.vocabulary == 4
    assert (few.splits["train"].ids == 3).any()


def test_a_list_says_which_file_is_which_split(folder, tmp_path):
    (folder / "third.txt").write_text("aa bb\ncc\n")
    (folder / "left out.txt").write_text("zz")
    files = tmp_path / "list.txt"
    files.write_text("train later/second.txt\nvalid first.txt\n\ntest third.txt\n")
    data = TextFolder(4, window=5, root=str(folder), files=str(files))
    data.setup()
    assert {split: len(s.ids) for split, s in data.splits.items()} == {"train": 701, "valid": 700, "test": 5}
    assert data.report() == {"kinds": 10, "unknown": 0}  # seven words, "new", <eos> and <unk>
    files.write_text("train later/second.txt\nvalid fourth.txt\n")
    with pytest.raises(SeqbenchError, match=r"names fourth\.txt, which is no text"):
        TextFolder(root=str(folder), files=str(files)).setup()
    files.write_text("train later/second.txt\nvalid first.txt\n")
    with pytest.raises(SeqbenchError, match="the test split has no lines"):
        TextFolder(root=str(folder), files=str(files)).setup()
    files.write_text("\n")
    with pytest.raises(SeqbenchError, match=r"list\.txt names no file"):
        TextFolder(root=str(folder), files=str(files)).setup()
    (folder / "copy.txt").write_bytes((folder / "first.txt").read_bytes())
    files.write_text("\ufefftrain first.txt\nvalid later/second.txt\ntest copy.txt\n")
    with pytest.raises(SeqbenchError, match="are the same file in two splits"):
        TextFolder(root=str(folder), files=str(files)).setup()


def test_a_mark_of_byte_order_is_no_word(folder):
    had = TextFolder(4, window=5, root=str(folder)).known
    first = folder / "first.txt"
    first.write_text(first.read_text(), encoding="utf-8-sig")
    assert TextFolder(4, window=5, root=str(folder)).known == had


def test_written_tokens_are_lines_wherever_one_ends(folder):
    data = TextFolder(4, window=5, root=str(folder))
    a, end = (data.known.index(token) for token in ("aa", "<eos>"))
    for ids, text in (([end, a, a, end, end, a], "aa aa\n\naa"), ([a, end], "aa"), ([a, a], "aa aa"), ([end], "")):
        assert data.written(torch.tensor(ids)[:, None]) == text


def test_sampling_begins_though_no_end_of_a_line_is_known(tmp_path):
    (tmp_path / "a.txt").write_text("a a b b c c d d\n" * 40)
    data = TextFolder(2, window=5, root=str(tmp_path), most=4)
    assert "<eos>" not in data.known
    assert data.spelled(data.start) == ["<unk>"]


def test_a_folder_is_known_by_what_it_holds(folder):
    digest = TextFolder(root=str(folder)).task.digest
    moved = folder.rename(folder.parent / "elsewhere")
    assert TextFolder(root=str(moved)).task.digest == digest
    assert TextFolder(root=str(moved), most=5).task.digest != digest
    assert TextFolder(root=str(moved), level="characters").task.digest != digest
    (moved / "first.txt").write_text("other words")
    assert TextFolder(root=str(moved)).task.digest != digest


def test_the_bigram_is_a_distribution_and_that_of_the_equation(folder):
    """Interpolated Kneser-Ney, by dictionaries."""
    data = TextFolder(4, window=5, root=str(folder))
    data.setup()
    train, test = data.splits["train"].ids.tolist(), data.splits["test"].ids.tolist()
    pairs, V = Counter(pairwise(train)), data.vocabulary
    before = {w: max(1, len({u for u, v in pairs if v == w})) for w in range(V)}

    def p(u: int, w: int) -> float:
        count = sum(n for (a, _), n in pairs.items() if a == u)
        low = before[w] / sum(before.values())
        kinds = len({b for a, b in pairs if a == u})
        return max(pairs[u, w] - 0.75, 0) / count + 0.75 * kinds / count * low if count else low

    for u in range(V):
        assert sum(p(u, w) for w in range(V)) == pytest.approx(1)
    nats = -math.fsum(math.log(p(u, w)) for u, w in pairwise(test)) / (len(test) - 1)
    assert data.floors()["bigram"].nll == pytest.approx(nats, abs=1e-8)


@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (lambda root: None, {"root": "nowhere"}, "give your texts as --data.root DIR"),
        (lambda root: [path.unlink() for path in root.rglob("*.txt")], {}, r"has no texts \(\.txt\)"),
        (lambda root: (root / "bad.txt").write_bytes(b"\xff\xfe"), {}, "bad.txt is no text in UTF-8"),
        (lambda root: None, {"batch_size": 500}, "smaller --data.batch_size"),
        (lambda root: None, {"level": "letters"}, "give words or characters"),
        (lambda root: None, {"window": 0}, "window is 0"),
    ],
)
def test_what_is_refused(folder, make, options, told):
    make(folder)
    with pytest.raises(SeqbenchError, match=told):
        TextFolder(**{"root": str(folder)} | options).setup()


def test_without_files_and_without_internet_one_line_tells_all(alone, offline):
    with pytest.raises(SeqbenchError) as caught:
        PennTreebank().prepare_data()
    line = str(caught.value)
    assert "\n" not in line
    for part in (f"{FOLDER}/ptb.train.txt", "SEQBENCH_MIRROR", "text/ptb/ptb.train.txt", "LDC99T42"):
        assert part in line


@pytest.mark.parametrize("content", [lzma.compress(b"another text"), b"no archive"])
def test_a_packed_file_is_held_against_what_was_pinned(alone, content):
    path = alone / "text/ptb/ptb.train.txt.xz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(SeqbenchError, match=r"ptb\.train\.txt.*replace or delete it"):
        PennTreebank().prepare_data()


def test_words():
    assert words(" a b \n c\n") == ["a", "b", "<eos>", "c", "<eos>"]
