"""seqbench: recurrent units compared fairly on music, raw speech, text and long lags.

Everything is imported when it is first used, so that `import seqbench` imports no torch:

    seqbench.Recurrent("GRU", 88, 48)                                      # a layer, as torch.nn.GRU
    seqbench.fit("bach", "chung2014", "quick", **{"model.cell": "GRU"})    # a run, as `seqbench fit`; its records
    seqbench.data("bach").train[0]                                         # a sequence, an array [T, 88]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seqbench.record import Record
from seqbench.task import SeqbenchError

__version__ = "0.1.0"
__all__ = ["Cell", "LinearCell", "Record", "Recurrent", "SeqbenchError", "State", "Weight", "data", "fit"]

if TYPE_CHECKING:
    from seqbench.cells import Cell, LinearCell, State, Weight
    from seqbench.datamodules.arrays import data
    from seqbench.model.recurrent import Recurrent
    from seqbench.train.fitting import fit
else:
    _PLACES = dict.fromkeys(("Cell", "LinearCell", "State", "Weight"), "seqbench.cells")
    _PLACES |= {"data": "seqbench.datamodules.arrays", "fit": "seqbench.train.fitting"}
    _PLACES |= {"Recurrent": "seqbench.model.recurrent"}

    def __getattr__(name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_PLACES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
