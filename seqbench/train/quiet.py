"""What Lightning tells at every start and a user can do nothing about."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def only_warnings() -> None:
    """Lightning tells no tips and no list of accelerators."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


@contextmanager
def quiet() -> Iterator[None]:
    """Within it nothing is told that cannot be mended."""
    only_warnings()
    with warnings.catch_warnings():
        # Lightning 2.6 with torch 2.11, at every start.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        # Nothing is logged within an epoch.
        warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging")
        # A resumed run that is to be longer is another run; one to be overwritten was asked for.
        warnings.filterwarnings("ignore", message="The dirpath has changed|Checkpoint directory", category=UserWarning)
        yield
