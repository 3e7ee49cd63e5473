"""Dependency trees: the Universal Dependencies English Web Treebank (EWT), version 1.3, as Levy et al. 2018 parse it.

At each step the unit reads a word and its part of speech (UPOS, the annotated one), at the first step the root of the
tree; of each word is asked which step is its head, and by which relation. The bytes are those of the treebank's tag
r1.3. Words are lower-cased, those that train has once only are unknown (Dozat and Manning 2017, arXiv 1611.01734); no
vectors from elsewhere are added, so figures are below those of papers that have them.
Shapes: T time, R replicas, B batch, n words of a sentence.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqbench.datamodules.base import SPLITS, SequenceData, Sequences, Split
from seqbench.datamodules.fetch import Source, content
from seqbench.datamodules.text import by_frequency
from seqbench.task import Batch, Score, SeqbenchError, Task

COMMIT = "8be9a61d9232342d8cd5675fc05d70c6de4aa806"
FOLDER = f"https://raw.githubusercontent.com/UniversalDependencies/UD_English-EWT/{COMMIT}"
FILES: dict[Split, str] = {"train": "en-ud-train.conllu", "valid": "en-ud-dev.conllu", "test": "en-ud-test.conllu"}
SHA256: dict[Split, str] = {
    "train": "7bb2f81e65b4fdf10bbf78afc7553a02fb35580a5554625014738e9585196104",
    "valid": "5454c19d5e9e651036d4c218e6f6b3e546c41b30c47e03564621282ba1db77ee",
    "test": "b2e847da5070ebabee0413ee3311fa57bf0d0432f4b4a919885f9dc833e30de1",
}
LICENCE = "The treebank is under CC BY-SA 4.0; the underlying texts are their authors'"
COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel")  # of CoNLL-U, those that are read
UNKNOWN, ROOT = 0, 1  # the first two ids
MARKS, TAGGED = 1, 2  # bits of a word's punctuation: by its characters, by its UPOS
FARTHEST = 10  # words between a word and its head that the floor tells apart


class Word(NamedTuple):
    """A word of a sentence.

    Attributes:
        form: in lower case.
        tag: its UPOS.
        head: the place of its head, counted from 1; 0: the root.
        relation: to its head, with its subtype ("nmod:poss").
        punctuation: MARKS where all its characters are of Unicode's categories P, TAGGED where its UPOS is PUNCT.
    """

    form: str
    tag: str
    head: int
    relation: str
    punctuation: int


class Names(NamedTuple):
    """What ids stand for: words and then tags at the inputs, the root's among both; relations at the targets."""

    words: list[str]
    tags: list[str]
    relations: list[str]

    @classmethod
    def of(cls, train: Sequence[Sequence[Word]]) -> Names:
        """Words that are there twice or more, the most frequent first."""
        words = [word for sentence in train for word in sentence]
        counts = Counter(word.form for word in words)
        known = [form for form in by_frequency([word.form for word in words]) if counts[form] > 1]
        tags, relations = (sorted({getattr(word, field) for word in words}) for field in ("tag", "relation"))
        return cls(["<unknown>", "<root>", *known], ["<root>", *tags], relations)


def read(text: str) -> list[list[Word]]:
    """The sentences of a text in CoNLL-U: its words alone, no tokens of several words and no empty nodes."""
    import conllu
    from tqdm import tqdm

    trees = conllu.parse_incr(io.StringIO(text), fields=COLUMNS)
    return [
        [_word(token) for token in tree if isinstance(token["id"], int)]
        for tree in tqdm(trees, "trees", delay=2, leave=False, disable=None)
    ]


def _word(token: dict[str, str | int]) -> Word:
    form, tag = str(token["form"]), str(token["upos"])
    marks = all(unicodedata.category(character).startswith("P") for character in form)
    punctuation = MARKS * marks + TAGGED * (tag == "PUNCT")
    return Word(form.lower(), tag, int(token["head"]), str(token["deprel"]), punctuation)


def numbered(sentences: Sequence[Sequence[Word]], names: Names) -> Sequences:
    """Each sentence [1 + n, 5] int32, the root first: ids of word and tag; the head, relation's id and punctuation."""
    words, tags, relations = ({name: number for number, name in enumerate(kind)} for kind in names)
    first = len(words)  # id of a tag
    rows = [
        [(ROOT, first, 0, 0, 0)]
        + [
            (words.get(w.form, UNKNOWN), first + tags[w.tag], w.head, relations[w.relation], w.punctuation)
            for w in sentence
        ]
        for sentence in sentences
    ]
    return Sequences.pack([torch.tensor(sentence, dtype=torch.int32) for sentence in rows])


class EnglishWebTreebank(SequenceData[Sequences]):
    """Sentences of weblogs, newsgroups, emails, reviews and answers, each with its tree.

    A sequence is a sentence with its root, so one step longer than it has words; its words are scored. Arguments are
    those of SequenceData; 90 sentences have about 1,500 words.

    Attributes:
        names: what the ids stand for, known after `setup`.
    """

    name = "ewt"
    title = "UD English EWT 1.3"
    origin = "github.com/UniversalDependencies/UD_English-EWT; CC BY-SA 4.0"
    counts: ClassVar[dict[str, int]] = {"train": 12_543, "valid": 2002, "test": 2077}
    longest = 160
    input_size = 2
    file = "text/ud_ewt_v1.3/en-ud-train.conllu"
    vocabulary = 8872  # 8,852 words and 17 parts of speech; unknown words, and the root's two
    relations = 47
    names: Names

    @property
    def task(self) -> Task:
        digest = hashlib.sha256(" ".join(("dependencies 1", *SHA256.values())).encode()).hexdigest()
        return Task(
            self.name, 2, self.relations, "Biaffine", "nats/word", digest,
            vocabulary=self.vocabulary, score="labelled", looks_ahead=True,
        )  # fmt: skip

    def prepare_data(self) -> None:
        for split in SPLITS:
            _text(split)

    def store(self) -> dict[Split, Sequences]:
        trees = {split: read(_text(split)) for split in SPLITS}
        self.names = Names.of(trees["train"])
        return {split: numbered(sentences, self.names) for split, sentences in trees.items()}

    def gather(self, split: Split, index: Tensor) -> Batch:
        frames, present, lengths = self.splits[split].gather(index)
        x, y = frames.long().split([2, 3], -1)
        mask = present.clone()
        mask[0] = False  # nobody asks for the root's head
        return Batch(x, y, mask, index.to(frames.device), lengths)

    def spelled(self, x: Tensor) -> list[str]:
        return [self.names.words[id_] for id_ in x[:, 0].long().tolist()]

    def floors(self) -> dict[str, Score]:
        """Needs `setup`. Frequencies are the train split's; what is guessed is the likeliest.

        "word before": the word before is the head as often as in train (before the first word is the root), all others
            alike; a relation by how frequent it is with the word's part of speech.
        "parts of speech": a head j of word i by how often two words of their parts of speech, so far apart (up to 10),
            are dependent and head, of all such pairs, as a share of what all of the sentence have; a relation by how
            frequent it is between two such parts of speech, the head before or after.
        """
        cpu = torch.device("cpu")
        train, test = (_pairs(self.splits[split].to(cpu)) for split in ("train", "test"))
        kinds = int(max(train.kind.max(), test.kind.max())) + 1
        arcs, seen = (np.bincount(kind, minlength=kinds) for kind in (train.kind[train.arc], train.kind))
        near = train.before[train.arc].mean()
        others = np.maximum(test.candidates - 1, 1)[test.word]
        weights = {
            "word before": (np.where(test.before, near, (1 - near) / others), train.tag, test.tag),
            "parts of speech": (((arcs + 1) / (seen + 2))[test.kind], train.side, test.side),
        }
        return {
            name: _scored(test, weight, of_test, _relations(train, of_train, int(of_test.max()), self.relations))
            for name, (weight, of_train, of_test) in weights.items()
        }


class _Pairs(NamedTuple):
    """All words of a split against all that may be their heads, [pairs], sentence by sentence, word by word.

    Attributes:
        word: [pairs], its number in the split.
        tag: [pairs], an id of its part of speech.
        side: [pairs], of both parts of speech, and of which comes first.
        kind: [pairs], of both parts of speech and how far they are apart.
        before: [pairs] bool, whether it is the place before the word.
        arc: [pairs] bool, whether it is the head.
        relation: [pairs], of the word to its own head.
        candidates: [words of the split], how many pairs each word has.
        counted: [words of the split] bool, whether it is no punctuation by its characters.
        words: [sentences].
    """

    word: np.ndarray
    tag: np.ndarray
    side: np.ndarray
    kind: np.ndarray
    before: np.ndarray
    arc: np.ndarray
    relation: np.ndarray
    candidates: np.ndarray
    counted: np.ndarray
    words: np.ndarray


def _pairs(split: Sequences) -> _Pairs:
    rows = split.frames.numpy()[:-1]
    tags = rows[:, 1] - rows[0, 1]  # the root's is 0
    kinds = int(tags.max()) + 1
    parts: list[tuple[np.ndarray, ...]] = []
    done = 0
    for start, length in zip(split.starts.tolist(), split.lengths.tolist(), strict=True):
        i, j = (place.ravel() for place in np.mgrid[1:length, :length])
        i, j = i[i != j], j[i != j]
        own, tag = rows[start : start + length], tags[start : start + length]
        both = tag[i] * kinds + tag[j]
        apart = np.clip(j - i, -FARTHEST, FARTHEST) + FARTHEST
        kind = both * (2 * FARTHEST + 1) + apart
        parts.append((done + i - 1, tag[i], 2 * both + (j > i), kind, j == i - 1, own[i, 2] == j, own[i, 3]))
        done += length - 1
    columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
    counted = rows[rows[:, 0] != ROOT, 4] & MARKS == 0
    return _Pairs._make([*columns, np.bincount(columns[0]), counted, split.lengths.numpy() - 1])


def _relations(train: _Pairs, like: np.ndarray, most: int, relations: int) -> np.ndarray:
    """ln of a distribution [what a pair is like, K], up to `most`, from what pairs are like [pairs]: train's counts,
    and one more, shared out as all of train's are (each of these with one more than was seen).
    """
    shares = np.bincount(train.relation[train.arc], minlength=relations) + 1.0
    table = np.zeros((max(int(like.max()), most) + 1, relations))
    np.add.at(table, (like[train.arc], train.relation[train.arc]), 1)
    return np.log((table + shares / shares.sum()) / (table.sum(1, keepdims=True) + 1))


def _scored(test: _Pairs, weight: np.ndarray, like: np.ndarray, relations: np.ndarray) -> Score:
    """Of heads by their weights [pairs] within a sentence, and of relations by what a pair is like [pairs]."""
    right = test.relation[test.arc]
    nats = np.log(np.bincount(test.word, weight)) - np.log(weight[test.arc]) - relations[like[test.arc], right]
    ends = test.candidates.cumsum()
    guess = np.array([a + weight[a:b].argmax() for a, b in zip(ends - test.candidates, ends, strict=True)])
    labelled = test.arc[guess] & (relations[like[guess]].argmax(1) == right)
    means = [part.mean() for part in np.split(nats, test.words.cumsum()[:-1])]
    return Score(
        nll=round(float(nats.mean()), 9),
        nll_sequence=round(float(np.mean(means)), 9),
        nll_first=None,
        right=round(100 * float(labelled[test.counted].mean()), 9),
    )


def _text(split: Split) -> str:
    name = FILES[split]
    try:
        return content(Source(f"text/ud_ewt_v1.3/{name}", f"{FOLDER}/{name}", SHA256[split])).decode()
    except SeqbenchError as error:
        raise SeqbenchError(f"{error}. {LICENCE}") from error
