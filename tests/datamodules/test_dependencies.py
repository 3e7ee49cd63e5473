"""Dependency trees: what is read of CoNLL-U, the published treebank, floors by hand, and scores by another scorer."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from nltk.parse import DependencyEvaluator, DependencyGraph

from seqbench.datamodules import dependencies
from seqbench.datamodules.dependencies import (
    FILES,
    FOLDER,
    MARKS,
    ROOT,
    TAGGED,
    UNKNOWN,
    EnglishWebTreebank,
    Names,
    Word,
    numbered,
    read,
)
from seqbench.model.heads import head_for
from seqbench.task import SeqbenchError

CONLLU = """\
# sent_id = 1
# text = Don't ask -- me!
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tneg\t_\t_
3\task\task\tVERB\tVB\tMood=Imp\t0\troot\t_\t_
4\t--\t--\tPUNCT\t:\t_\t3\tpunct\t_\t_
4.1\tplease\t_\t_\t_\t_\t_\t_\t3:advmod\t_
5\tme\tI\tPRON\tPRP\t_\t3\tdobj\t_\tSpaceAfter=No
6\t!\t!\tSYM\tNFP\t_\t3\tpunct\t_\t_

1\tAsk\task\tVERB\tVB\tMood=Imp\t0\troot\t_\t_
2\t$--\t$\tPUNCT\t$\t_\t1\tnmod:npmod\t_\t_
"""


def test_words_alone_are_read():
    """No token of several words, no empty node; punctuation by characters (-- and !) and by UPOS (-- and $--)."""
    first, second = read(CONLLU)
    assert first == [
        Word("do", "AUX", 3, "aux", 0),
        Word("n't", "PART", 3, "neg", 0),
        Word("ask", "VERB", 0, "root", 0),
        Word("--", "PUNCT", 3, "punct", MARKS | TAGGED),
        Word("me", "PRON", 3, "dobj", 0),
        Word("!", "SYM", 3, "punct", MARKS),
    ]
    assert second == [Word("ask", "VERB", 0, "root", 0), Word("$--", "PUNCT", 1, "nmod:npmod", TAGGED)]


def test_words_that_train_has_once_are_unknown():
    trees = read(CONLLU)
    names = Names.of(trees)
    assert names.words[2:] == ["ask"]
    rows = numbered(trees, names)
    first = rows.frames[: rows.lengths[0]]
    assert first[:, 0].tolist() == [ROOT, UNKNOWN, UNKNOWN, 2, UNKNOWN, UNKNOWN, UNKNOWN]
    assert [(names.words + names.tags)[n] for n in first[:, 1].tolist()] == [
        "<root>", "AUX", "PART", "VERB", "PUNCT", "PRON", "SYM",
    ]  # fmt: skip
    assert [names.relations[n] for n in first[1:, 3].tolist()] == ["aux", "neg", "root", "punct", "dobj", "punct"]


def test_the_treebank_is_the_published_one(canonical):
    """Counts of its README; words scored without punctuation, counted apart: 21,943 by characters, 21,990 by UPOS."""
    data = canonical("ewt")
    words = {split: int((held.lengths - 1).sum()) for split, held in data.splits.items()}
    assert words == {"train": 204_586, "valid": 25_148, "test": 25_096}
    assert {split: len(held.lengths) for split, held in data.splits.items()} == data.counts
    assert max(int(held.lengths.max()) for held in data.splits.values()) == data.longest
    train = data.splits["train"].frames
    assert (int(train[:, 1].max()) + 1, int(train[:, 3].max()) + 1) == (data.vocabulary, data.relations)
    bits = data.splits["test"].frames[:-1, 4]
    assert [words["test"] - int((bits & rule).bool().sum()) for rule in (MARKS, TAGGED)] == [21_943, 21_990]
    first = data.gather("test", torch.tensor([[0, -1]]))
    assert first.x.dtype == torch.int64
    assert first.mask[:, 0].sum(0).tolist() == [int(data.splits["test"].lengths[0]) - 1, 0]
    assert not first.mask[0].any()
    assert data.task.looks_ahead
    rights = {name: round(score.right, 1) for name, score in data.floors().items()}
    assert rights == {"word before": 4.3, "parts of speech": 56.2}  # as docs/how-to/parser.md has them


def small() -> EnglishWebTreebank:
    """A made-up treebank, test with what train has not."""
    g = torch.Generator().manual_seed(0)

    def draw(n: int) -> int:
        return int(torch.randint(n, (), generator=g))

    def tree(n: int, tags: str) -> list[Word]:
        root = draw(n)
        heads = [0 if i == root else 1 + (i + 1 + draw(n - 1)) % n for i in range(n)]
        return [Word("ab"[draw(2)], tags[draw(len(tags))], head, "xyz"[draw(3)], draw(2)) for head in heads]

    trees = {"train": [tree(n, "NV") for n in (2, 5, 9, 15, 4, 2)], "test": [tree(n, "NVA") for n in (3, 17, 2)]}
    names = Names(["<unknown>", "<root>", "a", "b"], ["<root>", "A", "N", "V"], ["x", "y", "z"])
    data = EnglishWebTreebank()
    data.relations = 3
    data.splits = {split: numbered(sentences, names) for split, sentences in trees.items()}
    data.trees = trees
    return data


def test_floors_are_those_of_their_equations_by_dictionaries():
    data = small()
    arcs, seen, labels, relations = Counter(), Counter(), Counter(), Counter()

    def kind(tags: list[str], i: int, j: int) -> tuple[str, str, int]:
        return tags[i], tags[j], max(-10, min(10, j - i))

    def side(tags: list[str], i: int, j: int) -> tuple[str, str, bool]:
        return tags[i], tags[j], j > i

    def tagged(tree: list[Word]) -> list[str]:
        return ["<root>", *(word.tag for word in tree)]

    for tree in data.trees["train"]:
        tags = tagged(tree)
        for i, word in enumerate(tree, 1):
            seen.update(kind(tags, i, j) for j in range(len(tags)) if j != i)
            arcs[kind(tags, i, word.head)] += 1
            labels[side(tags, i, word.head), word.relation] += 1
            labels[word.tag, word.relation] += 1
            relations[word.relation] += 1
    trees = data.trees["train"]
    share = {r: (relations[r] + 1) / (sum(relations.values()) + 3) for r in "xyz"}
    near = sum(word.head == i for tree in trees for i, word in enumerate(tree)) / sum(map(len, trees))

    def of(like, relation: str) -> float:
        return (labels[like, relation] + share[relation]) / (sum(labels[like, r] for r in "xyz") + 1)

    found = {"word before": ([], [], []), "parts of speech": ([], [], [])}  # nats, sentences' means, right guesses
    for tree in data.trees["test"]:
        tags = tagged(tree)
        for i, word in enumerate(tree, 1):
            heads = [j for j in range(len(tags)) if j != i]
            by_tags = {j: (arcs[k] + 1) / (seen[k] + 2) for j in heads for k in [kind(tags, i, j)]}
            before = {j: near if j == i - 1 else (1 - near) / max(1, len(tree) - 1) for j in heads}
            for name, weights in (("word before", before), ("parts of speech", by_tags)):
                nats, _, right = found[name]
                like = {j: tags[i] if name == "word before" else side(tags, i, j) for j in heads}
                assert sum(of(like[word.head], r) for r in "xyz") == pytest.approx(1)
                p = weights[word.head] / sum(weights.values()) * of(like[word.head], word.relation)
                nats.append(-math.log(p))
                guess = max(heads, key=weights.__getitem__)
                relation = max("xyz", key=lambda r, of_guess=like[guess]: of(of_guess, r))
                if not word.punctuation:
                    right.append((guess, relation) == (word.head, word.relation))
        for nats, means, _ in found.values():
            means.append(sum(nats[-len(tree) :]) / len(tree))
    for name, score in data.floors().items():
        nats, means, right = found[name]
        assert score.nll == pytest.approx(sum(nats) / len(nats), abs=1e-8)
        assert score.nll_sequence == pytest.approx(sum(means) / len(means), abs=1e-8)
        assert score.right == pytest.approx(100 * sum(right) / len(right))


# What a parser says, from gold heads and relations of a sentence of n words.
SAID = {
    "gold": lambda heads, relations, g: (heads, relations),
    "shuffled": lambda heads, relations, g: (
        [heads[k] for k in torch.randperm(len(heads), generator=g).tolist()],
        [relations[k] for k in torch.randperm(len(heads), generator=g).tolist()],
    ),
    "heads right, relations shuffled": lambda heads, relations, g: (
        heads,
        [relations[k] for k in torch.randperm(len(heads), generator=g).tolist()],
    ),
    "each the word before": lambda heads, relations, g: (list(range(len(heads))), ["dep"] * len(heads)),
}


@pytest.mark.filterwarnings("ignore:The graph doesn't contain a node:UserWarning")
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_scores_are_those_of_nltks_scorer(canonical, said):
    """On the first 200 trees of the test file, which NLTK reads itself: it leaves out words that are all punctuation.

    Other rules by the same scorer: a word that is to count is named "w" there, one that is not ".".
    """
    data = canonical("ewt")
    blocks = dependencies._text("test").strip().split("\n\n")[:200]
    g = torch.Generator().manual_seed(0)
    answers = []
    for block in blocks:
        cells = [line.split("\t") for line in block.splitlines()]
        answers.append(said([int(cell[6]) for cell in cells], [cell[7] for cell in cells], g))
    head, batch = head_for(data.task), data.gather("test", torch.arange(len(blocks))[None])
    guesses = head.guesses(*speaking(head, answers, data.names.relations), batch.y, batch.steps)
    counted = [(int((right & of & batch.mask).sum()), int((of & batch.mask).sum())) for right, of in guesses]
    found = dict(zip(head.counts, counted, strict=True))
    for rule, name in (("eval.pl", ""), ("UPOS", ", no PUNCT"), ("all", ", all")):
        las, uas = by_nltk(blocks, answers, rule)
        for count, score in ((f"labelled{name}", las), (f"arcs{name}", uas)):
            right, of = found[count]
            assert right / of == pytest.approx(score, abs=1e-12), (rule, count)


def speaking(head, answers, relations: list[str]) -> tuple[torch.Tensor, SimpleNamespace]:
    """Hidden states and weights by which the head guesses just that: places and relations as ones among zeros."""
    T, A, L, K = 1 + max(len(heads) for heads, _ in answers), head.ARC, head.RELATION, head.target_size
    h = torch.zeros(T, 1, len(answers), head.outputs)
    for b, answer in enumerate(answers):
        for i, (j, relation) in enumerate(zip(*answer, strict=True), 1):
            h[i, 0, b, j] = h[i, 0, b, 2 * A + relations.index(relation)] = 1
    h[..., A : A + T] = torch.eye(T)[:, None, None]
    of_relation = torch.zeros(L + 1, K, L + 1)
    of_relation[range(K), range(K), L] = 1
    weights = {"V": torch.eye(head.outputs), "c": torch.zeros(1, head.outputs), "arc": torch.eye(A + 1, A)}
    weights["relation"] = of_relation.flatten(1)
    return h, SimpleNamespace(**{name: weight[None] for name, weight in weights.items()})


def by_nltk(blocks: list[str], answers, rule: str) -> tuple[float, float]:
    """LAS and UAS."""
    gold, parsed = [], []
    for block, (heads, relations) in zip(blocks, answers, strict=True):
        cells = [line.split("\t") for line in block.splitlines()]
        if rule != "eval.pl":
            for cell in cells:
                cell[1] = "." if rule == "UPOS" and cell[3] == "PUNCT" else "w"
        gold.append("\n".join("\t".join(cell) for cell in cells))
        for cell, head, relation in zip(cells, heads, relations, strict=True):
            cell[6:8] = str(head), relation
        parsed.append("\n".join("\t".join(cell) for cell in cells))
    graphs = ([DependencyGraph(text, top_relation_label="root") for text in texts] for texts in (parsed, gold))
    return DependencyEvaluator(*graphs).eval()


def test_without_files_and_without_internet_one_line_tells_all(alone, offline):
    with pytest.raises(SeqbenchError) as caught:
        EnglishWebTreebank().prepare_data()
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        f"{FOLDER}/{FILES['train']}",
        "SEQBENCH_MIRROR",
        "text/ud_ewt_v1.3/en-ud-train.conllu",
        "CC BY-SA 4.0",
    ):
        assert part in line
