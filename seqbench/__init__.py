"""seqbench: recurrent units compared fairly on polyphonic music and raw speech."""

__version__ = "0.1.0"
