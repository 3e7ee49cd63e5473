"""The mirror is where it was when the tests were called, whichever folder a test then works in."""

import os
from pathlib import Path

if (given := os.environ.get("SEQBENCH_MIRROR")) and "://" not in given:
    os.environ["SEQBENCH_MIRROR"] = str(Path(given).expanduser().absolute())
