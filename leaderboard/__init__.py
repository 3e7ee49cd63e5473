"""The leaderboard: a pure function of JSON records; imports no torch."""
