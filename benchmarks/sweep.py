"""A search of 10 rates against the same 10 runs one after the other by `seqbench fit`, same epochs, in one run.

    python benchmarks/sweep.py [--unit gru] [--epochs 40] [--rates 10] [--json]

Whole processes are timed, start-up and tests included, as a user waits for them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from seqbench.record import Record
from seqbench.search.design import draw_rates, records

CONFIGS = Path(__file__).parents[1] / "configs"


def test_nll(run: Record) -> float:
    """In nats/frame; of a run without test figures there is none to compare."""
    assert run.test is not None, f"{run.run_id} was not tested"
    return run.test.nll


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unit", default="gru")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rates", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    flags = ["-c", str(CONFIGS / "jsb.yaml"), "-c", str(CONFIGS / "chung2014.yaml")]
    flags += ["--trainer.max_epochs", str(options.epochs)]
    command = [sys.executable, "-m", "seqbench.cli"]
    unit = {"tanh": "Tanh", "gru": "GRU", "lstm": "LSTM"}[options.unit]
    with tempfile.TemporaryDirectory() as folder:
        together, apart = Path(folder, "together"), Path(folder, "apart")
        start = time.perf_counter()
        sweep = ["sweep", *flags, "--cells", options.unit, "--rates", str(options.rates), "--stages", "search"]
        subprocess.run([*command, *sweep, "--out", str(together)], check=True, capture_output=True)
        sweep_seconds = time.perf_counter() - start
        start = time.perf_counter()
        for rate in draw_rates(options.rates, 0):
            fit = ["fit", *flags, "--model.cell", unit, "--model.rate", str(rate), "--run.dir", str(apart)]
            subprocess.run([*command, *fit], check=True, capture_output=True)
        fit_seconds = time.perf_counter() - start
        one, other = records(together), records(apart)
    assert one.keys() == other.keys(), "not the same runs"
    worst = max(abs(test_nll(one[i]) - test_nll(other[i])) for i in one)
    result = {
        "unit": options.unit,
        "epochs": options.epochs,
        "runs": len(one),
        "sweep_seconds": round(sweep_seconds, 1),
        "fit_seconds": round(fit_seconds, 1),
        "ratio": round(sweep_seconds / fit_seconds, 3),
        "largest_difference_nats": worst,
    }
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
