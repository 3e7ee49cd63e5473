"""Published test results, beside which a board's own rows stand. Typed by hand; the sources are named.

None of these is recomputed here, and none is quite comparable: each row names its convention. `known` says how well
a number is known: "read" in its source, or "recalled" from it without reading it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from seqbench.solving import Counted, counted


@dataclass(frozen=True)
class Published:
    """One published result.

    Attributes:
        unit: the unit's name.
        test: test NLL, in the unit of the board (nats a frame; nats a step for speech; nats a word); where the
            task ranks by right guesses, these in percent; None where runs that solve a task are counted.
        train: training NLL; None where the source gives none.
        hidden: hidden size; None where unknown.
        recurrent: parameters of the recurrent layer; None where unknown.
        source: who and when.
        link: where to read it.
        convention: what was averaged over what, and on which data.
        known: how well the number is known.
        elsewhere: on a corpus that cannot be had: no number here can be held against it.
        budget: parameters of the recurrent layer that the unit's size was chosen by; only units chosen by the same are
            held against it.
        counted: runs that solve a task, where these are counted.
    """

    unit: str
    test: float | None
    train: float | None
    hidden: int | None
    recurrent: int | None
    source: str
    link: str
    convention: str
    known: Literal["recalled", "read"]
    elsewhere: bool = False
    budget: int | None = None
    counted: Counted | None = None


REFERENCE = "Chung et al. 2014"  # whose results the units are held against, one by one
MUSIC, SPEECH = 20_000, 169_000  # their budgets
TANH, GRU, LSTM = ("tanh", 100, 20_100), ("GRU", 46, 20_200), ("LSTM", 36, 19_800)
SPEECH_TANH, SPEECH_GRU, SPEECH_LSTM = ("tanh", 400, 168_400), ("GRU", 227, 168_900), ("LSTM", 195, 169_100)


def _chung(
    size: tuple[str, int, int], train: float, test: float, convention: str, elsewhere: bool = False
) -> Published:
    unit, hidden, recurrent = size
    link, budget = "https://arxiv.org/abs/1412.3555", SPEECH if elsewhere else MUSIC
    return Published(unit, test, train, hidden, recurrent, REFERENCE, link, convention, "recalled", elsewhere, budget)


def _music(
    columns: int, tanh: tuple[float, float], gru: tuple[float, float], lstm: tuple[float, float]
) -> list[Published]:
    convention = f"not told whether frame- or sequence-weighted; rolls of {columns} columns, not 88; batch size 1"
    return [_chung(size, *nll, convention) for size, nll in ((TANH, tanh), (GRU, gru), (LSTM, lstm))]


def _speech(
    corpus: str, tanh: tuple[float, float], gru: tuple[float, float], lstm: tuple[float, float]
) -> list[Published]:
    convention = f"another corpus: Ubisoft {corpus}, not public, at an unknown scale; reference only"
    sizes = SPEECH_TANH, SPEECH_GRU, SPEECH_LSTM
    return [_chung(size, *nll, convention, True) for size, nll in zip(sizes, (tanh, gru, lstm), strict=True)]


def _tcn(unit: str, test: float, total: str) -> Published:
    source, link = "Bai et al. 2018", "https://arxiv.org/abs/1803.01271"
    convention = f"frame-weighted, frame 1 out; about {total} parameters in all"
    return Published(unit, test, None, None, None, source, link, convention, "read")


def _zaremba(size: str, hidden: int, test: float) -> Published:
    source, link = "Zaremba et al. 2014", "https://arxiv.org/abs/1409.2329"
    convention = f"{size} network, 2 x {hidden}, the last epoch's weights; perplexity {test}"
    return Published(f"LSTM, {size}", _nats(test), None, hidden, None, source, link, convention, "recalled")


def _levy(size: str, hidden: int, tests: dict[str, float]) -> list[Published]:
    """Of one run, but the LSTM's, whose mean is of five seeds."""
    source, link = "Levy et al. 2018", "https://arxiv.org/abs/1805.03716"
    convention = f"{size} network, 2 x {hidden}, with Zaremba's settings for all; from a perplexity"
    return [
        Published(f"{unit}, {size}", _nats(test), None, hidden, None, source, link, convention, "read")
        for unit, test in tests.items()
    ]


def _parser(unit: str, las: float) -> Published:
    source, link = "Levy et al. 2018", "https://arxiv.org/abs/1805.03716"
    convention = (
        "LAS; in the rows' order UAS 90.77, 90.70, 90.60 and 87.75; 3 layers, Dozat and Manning's settings for all, "
        "with GloVe's vectors, which ours lack; whether punctuation counts is not told; one run, of the LSTM the mean "
        "of five"
    )
    return Published(unit, las, None, 400, None, source, link, convention, "read")


def _mikolov(unit: str, test: float) -> Published:
    source, link = "Mikolov and Zweig 2012", "https://doi.org/10.1109/SLT.2012.6424228"
    return Published(unit, _nats(test), None, None, None, source, link, f"perplexity {test}", "recalled")


def _nats(perplexity: float) -> float:
    return round(math.log(perplexity), 6)


UBISOFT_A = _speech("A", (6.29, 6.44), (2.31, 3.59), (1.44, 2.70))
UBISOFT_B = _speech("B", (7.61, 7.62), (0.38, 0.88), (0.80, 1.26))

# train, test; Chung's rolls had one column per MIDI number from 1 to the data set's highest
PUBLISHED: dict[str, list[Published]] = {
    "jsb": [
        *_music(96, (8.82, 9.10), (6.94, 8.54), (8.15, 8.67)),
        *(_tcn(unit, test, "300k") for unit, test in (("LSTM", 8.45), ("GRU", 8.43), ("tanh", 8.91), ("TCN", 8.10))),
    ],
    "nottingham": [
        *_music(93, (3.22, 3.13), (2.79, 3.23), (3.08, 3.20)),
        *(_tcn(unit, test, "1M") for unit, test in (("LSTM", 3.29), ("GRU", 3.46), ("tanh", 4.05), ("TCN", 3.07))),
    ],
    "musedata": _music(105, (5.64, 6.23), (5.06, 5.99), (5.18, 6.23)),
    "piano_midi": _music(108, (5.64, 9.03), (4.93, 8.82), (6.49, 9.03)),
    "ptb": [
        _zaremba("small", 200, 114.5),
        _zaremba("medium", 650, 82.7),
        _zaremba("large", 1500, 78.4),
        *_levy("medium", 650, {"LevyLSTM": 83.9, "NoSRNN": 80.5, "NoSRNNOut": 81.6, "NoGates": 140.9}),
        *_levy("large", 1500, {"LevyLSTM": 78.8, "NoSRNN": 76.0, "NoSRNNOut": 78.5, "NoGates": 126.1}),
        _mikolov("5-gram, Kneser-Ney", 141.2),
        _mikolov("plain RNN", 124.7),
    ],
    "ewt": [
        _parser("LevyLSTM", 88.05),
        _parser("NoSRNN", 88.49),
        _parser("NoSRNNOut", 88.31),
        _parser("NoGates", 84.61),
    ],
    "fsdd_a": UBISOFT_A,
    "yesno_a": UBISOFT_A,
    "fsdd_b": UBISOFT_B,
    "yesno_b": UBISOFT_B,
}


def published(task: str, options: dict[str, Any]) -> list[Published]:
    """The results on a data set; for a task that can be solved, those on the very same one."""
    return PUBLISHED.get(task, []) + [
        Published(one.unit, None, None, None, None, one.source, one.link, one.where, "recalled", counted=one)
        for one in counted(task, options)
    ]
