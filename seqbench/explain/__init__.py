"""What a trained unit holds of the past: arrays, pictures, a page, and the command `seqbench explain`."""

from seqbench.explain.explained import Explained, explain
from seqbench.explain.memory import Held, Memory

__all__ = ["Explained", "Held", "Memory", "explain"]
