"""Any folder of texts as a set for language models."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from torch import Tensor

from seqbench.datamodules.base import SPLITS, Split
from seqbench.datamodules.text import Text, by_frequency, numbered, text_digest, words
from seqbench.task import SeqbenchError

TRAIN, VALID = 0.8, 0.1  # shares of the lines; what is left is test


class TextFolder(Text):
    """All .txt files below a folder, hidden ones left out, one after the other in the order of their names.

    The first 80% of all lines are train, the next 10% valid, the rest test: of a book the end is predicted from what
    was learnt of its beginning.

    Args:
        root: The folder.
        level: "words": what white space parts, and <eos> at the end of every line; "characters".
        most: How many kinds of words there are at most, the most frequent ones of train; all others are <unk>.
        batch_size: As in Text.
        seeds: As in Text.
        window: As in Text.

    Raises:
        SeqbenchError: as in Text; `task` raises it where the folder cannot be used.
    """

    name = "text_folder"
    title = "A folder of texts"
    origin = "your own, --data.root DIR"
    longest = 20
    places = ("root",)

    def __init__(
        self,
        batch_size: int = 20,
        seeds: list[int] | None = None,
        *,
        window: int = 20,
        root: str = "",
        level: Literal["words", "characters"] = "words",
        most: int = 10_000,
    ) -> None:
        super().__init__(batch_size, seeds, window=window)
        if level not in ("words", "characters") or most < 2:
            raise SeqbenchError(f"level is {level!r}, most {most}: give words or characters, and 2 words or more")
        self.root, self.level, self.most = Path(root).expanduser() if root else None, level, most

    @property
    def unit(self) -> str:  # type: ignore[override]
        return f"nats/{self.level.removesuffix('s')}"

    @property
    def vocabulary(self) -> int:
        return len(self._read[0])

    @property
    def digest(self) -> str:
        known, splits = self._read
        texts = (hashlib.sha256("\0".join(splits[split]).encode()).hexdigest() for split in SPLITS)
        return text_digest(self.unit, str(len(known)), *texts)

    def tokens(self) -> dict[Split, Tensor]:
        known, splits = self._read
        return numbered(splits, known, unknown=known.index("<unk>"))

    @cached_property
    def _read(self) -> tuple[list[str], dict[Split, Sequence[str]]]:
        """What tokens there are, "<unk>" among them, and the splits' own."""
        lines = _lines(self.root)
        ends = [0, round(TRAIN * len(lines)), round((TRAIN + VALID) * len(lines)), len(lines)]
        texts = ["".join(f"{line}\n" for line in lines[a:b]) for a, b in itertools.pairwise(ends)]
        splits: dict[Split, Sequence[str]] = {
            split: words(text) if self.level == "words" else text for split, text in zip(SPLITS, texts, strict=True)
        }
        kinds = [kind for kind in by_frequency(splits["train"]) if kind != "<unk>"]
        known = kinds[: self.most - 1] if self.level == "words" else kinds
        return [*known, "<unk>"], splits


def _lines(root: Path | None) -> list[str]:
    """Of all texts, without those that have nothing in them."""
    if root is None or not root.is_dir():
        raise SeqbenchError(f"root is {str(root or '')!r}, no folder: give your texts as --data.root DIR")
    paths = sorted(
        path for path in root.rglob("*.txt") if path.is_file() and not path.relative_to(root).as_posix().startswith(".")
    )
    if not paths:
        raise SeqbenchError(f"{root} has no .txt files: give --data.root another folder")
    found = []
    for path in paths:
        try:
            found += [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise SeqbenchError(f"{path} is no text in UTF-8 ({error}): convert it or move it away") from error
    return found
