"""Any folder of texts as a set for language models."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from seqbench.datamodules.base import SPLITS, Split
from seqbench.datamodules.folder import find_files, read_list, refuse_copies, refuse_empty
from seqbench.datamodules.text import Text, by_frequency, numbered, text_digest, words
from seqbench.task import SeqbenchError

TRAIN, VALID = 0.8, 0.1  # shares of the lines; what is left is test


class TextFolder(Text):
    """All .txt files below a folder, hidden ones left out, one after the other in the order of their names.

    The first 80% of all lines are train, the next 10% valid, the rest test: of a book the end is predicted from what
    was learnt of its beginning.

    Args:
        root: The folder.
        files: A text file with the splits instead: a line a file, `train NAME`, `valid NAME` or `test NAME`, its name
            as seen from the folder; files without a line are left out.
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
    places = ("root", "files")

    def __init__(
        self,
        batch_size: int = 20,
        seeds: list[int] | None = None,
        *,
        window: int = 20,
        root: str = "",
        files: str = "",
        level: Literal["words", "characters"] = "words",
        most: int = 10_000,
    ) -> None:
        super().__init__(batch_size, seeds, window=window)
        if level not in ("words", "characters") or most < 2:
            raise SeqbenchError(f"level is {level!r}, most {most}: give words or characters, and 2 words or more")
        self.root, self.files = Path(root).expanduser() if root else None, files
        self.level, self.most = level, most

    @property
    def unit(self) -> str:  # type: ignore[override]
        return f"nats/{self.level.removesuffix('s')}"

    @property
    def vocabulary(self) -> int:
        return len(self._read[0])

    @property
    def known(self) -> Sequence[str]:
        return self._read[0]

    @property
    def between(self) -> str:
        return " " if self.level == "words" else ""

    @property
    def digest(self) -> str:
        known, splits = self._read
        texts = (hashlib.sha256("\0".join(splits[split]).encode()).hexdigest() for split in SPLITS)
        return text_digest(self.unit, str(len(known)), *texts)

    def tokens(self) -> dict[Split, Tensor]:
        known, splits = self._read
        return numbered(splits, known, unknown=known.index("<unk>"))

    def report(self) -> dict[str, Any]:
        """kinds of tokens, and the share of test's that are <unk>."""
        unknown = (self.splits["test"].ids == self.vocabulary - 1).double().mean()
        return {"kinds": self.vocabulary, "unknown": round(float(unknown), 6)}

    @cached_property
    def _read(self) -> tuple[list[str], dict[Split, Sequence[str]]]:
        """What tokens there are, "<unk>" among them, and the splits' own."""
        lines = self._parted()
        refuse_empty(lines, "line")
        texts = {split: "".join(f"{line}\n" for line in lines[split]) for split in SPLITS}
        splits: dict[Split, Sequence[str]] = {
            split: words(text) if self.level == "words" else text for split, text in texts.items()
        }
        kinds = [kind for kind in by_frequency(splits["train"]) if kind != "<unk>"]
        known = kinds[: self.most - 1] if self.level == "words" else kinds
        return [*known, "<unk>"], splits

    def _parted(self) -> dict[Split, list[str]]:
        """Each split's lines: of the files that are listed for it, or a part of all."""
        names = find_files(self.root, {".txt"}, "texts")
        assert self.root is not None, "it was looked into"
        if not self.files:
            lines = [line for name in names for line in _lines(self.root / name)]
            ends = [0, round(TRAIN * len(lines)), round((TRAIN + VALID) * len(lines)), len(lines)]
            return {split: lines[a:b] for split, (a, b) in zip(SPLITS, itertools.pairwise(ends), strict=True)}
        known = read_list(Path(self.files).expanduser())
        if missing := sorted(known.keys() - set(names)):
            raise SeqbenchError(f"{self.files} names {missing[0]}, which is no text below {self.root}: correct it")
        texts = {name: _lines(self.root / name) for name in names if name in known}
        refuse_copies(
            {name: hashlib.sha256("\n".join(text).encode()).hexdigest() for name, text in texts.items()}, known
        )
        return {split: [line for name in texts if known[name] == split for line in texts[name]] for split in SPLITS}


def _lines(path: Path) -> list[str]:
    """Of a text, without those that have nothing in them."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SeqbenchError(f"{path} is no text in UTF-8 ({error}): convert it or move it away") from error
