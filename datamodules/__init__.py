"""Data sets: files in, tensors out. Of the rest of the suite they import task, files and plugins alone.

`seqbench.datamodules.JSBChorales` and every other data set's class is imported on first use, so that importing this
package costs nothing. A data set is found because its file is here.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from seqbench import plugins

if TYPE_CHECKING:
    from seqbench.datamodules.base import SequenceData


@cache
def datasets() -> dict[str, type[SequenceData]]:
    """All data sets by their short names, in the order of names; imports every module of this package."""
    from seqbench.datamodules.base import SequenceData

    found: dict[str, type[SequenceData]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, SequenceData) and "name" in vars(value):
                found[value.name] = value
    return dict(sorted(found.items()))


def find(name: str) -> type[SequenceData]:
    """The data set of that class name, in upper or lower case, or at that import path; installed packages' too.

    Raises:
        SeqbenchError: there is none, and it names the nearest and all; or it cannot be imported.
    """
    from seqbench.datamodules.base import SequenceData

    ours = {kind.__name__: kind for kind in datasets().values()}
    found: type[SequenceData] = plugins.find(name, plugins.DATA, SequenceData, ours)
    return found


def __getattr__(attribute: str) -> type[SequenceData]:
    # Only class names are looked for: `from seqbench.datamodules import listing` asks here first and must not import
    # torch.
    if attribute[:1].isupper():
        for dataset in datasets().values():
            if dataset.__name__ == attribute:
                return dataset
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
