"""`python -m seqbench.search.child fit ...`: the command line, in a process that ends with the one that started it.

A sweep that is killed must leave no trainings behind: the next call would train beside them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of linux/prctl.h

if __name__ == "__main__":
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execv(sys.executable, [sys.executable, "-m", "seqbench.cli", *sys.argv[1:]])  # the signal stays set
