"""A progress bar for what may take long."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

PATIENCE = 2.0  # seconds before a progress bar is worth a line

T = TypeVar("T")


def with_progress(items: Sequence[T], text: str) -> Iterator[T]:
    """The items, with a bar on a terminal's stderr once it takes long."""
    started = time.monotonic()
    with ExitStack() as stack:
        advance = None
        for done, item in enumerate(items):
            if advance is None and time.monotonic() - started > PATIENCE:
                from rich.console import Console
                from rich.progress import Progress

                console = Console(stderr=True)
                bar = stack.enter_context(Progress(console=console, transient=True, disable=not console.is_terminal))
                advance = (bar, bar.add_task(text, total=len(items), completed=done))
            yield item
            if advance is not None:
                advance[0].advance(advance[1])
