"""The leaderboard: a pure function of JSON records; imports seqbench.record and seqbench.task alone, and no torch."""
