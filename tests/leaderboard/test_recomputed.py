"""Every figure of the committed CSV and READMEs, computed again from the records by nothing of this suite's."""

import csv
import itertools
import json
import math
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "leaderboard"
RECORDS = sorted((BOARD / "records").glob("*.json"))
pytestmark = pytest.mark.skipif(not RECORDS, reason="leaderboard/records is empty: the board is being made anew")
CHUNG = {("jsb", "GRU"): 8.54, ("jsb", "LSTM"): 8.67, ("jsb", "Tanh"): 9.10, ("piano_midi", "GRU"): 8.82,
         ("piano_midi", "LSTM"): 9.03, ("piano_midi", "Tanh"): 9.03, ("nottingham", "GRU"): 3.23,
         ("nottingham", "LSTM"): 3.20, ("nottingham", "Tanh"): 3.13, ("musedata", "GRU"): 5.99,
         ("musedata", "LSTM"): 6.23, ("musedata", "Tanh"): 6.23}  # fmt: skip
PARSER = {"las": "labelled", "uas": "arcs", "las_all": "labelled, all", "uas_all": "arcs, all"}


def size(cell):
    if cell["budget"] is None:
        return "hidden sizes as given"
    where = "in all, output layer included" if cell["count"] == "total" else "in the recurrent layer"
    return f"{cell['budget']:,} parameters {where}"


def upper(D, s1, n1, s2, n2):
    """P(|s1 t(n1) + s2 t(n2)| > D), by the trapezoidal rule."""
    u = np.sinh(np.linspace(-12, 12, 8001))
    return 2 * np.trapezoid(scipy.stats.t.pdf(u, n1) * scipy.stats.t.sf((D - s1 * u) / s2, n2), u)


def half(level, s1, n1, s2, n2):
    """Where that is a level."""
    beyond = 1.01 * (s1 * scipy.stats.t.ppf(1 - level / 2, n1) + s2 * scipy.stats.t.ppf(1 - level / 2, n2))
    return scipy.optimize.brentq(lambda D: upper(D, s1, n1, s2, n2) - level, 0.0, beyond, xtol=1e-9)


def spread(values):
    """Standard error, and half the 95% t-interval of the mean; None of a single value, which has neither."""
    if len(values) == 1:
        return None, None
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return error, error * scipy.stats.t.ppf(0.975, len(values) - 1)


def shares(nats, frames):
    ratio = nats.sum() / frames.sum()
    return ratio + (nats - ratio * frames) / frames.mean()


class Unit:
    """The runs of a unit on a table, and those at its best rate."""

    def __init__(self, runs):
        self.all = runs
        by_rate = defaultdict(list)
        for run in runs:
            if run["status"] in ("finished", "diverged") and run["best_valid"] is not None:
                by_rate[run["rate"]].append(run)
        self.rates = {run["rate"] for run in runs if run["status"] in ("finished", "diverged")}
        self.best = []
        if not by_rate:
            return
        self.rate = min(by_rate, key=lambda rate: (*self.judged(by_rate[rate]), rate))
        self.best = sorted((run for run in by_rate[self.rate] if run["test"]), key=lambda run: run["seed"])
        self.nats = np.array([run["test"]["nats"] for run in self.best])
        self.frames = np.array(self.best[0]["test"]["frames"], dtype=float)
        self.nll = self.nats.sum(1) / self.frames.sum()
        self.weighted = (self.nats / self.frames).mean(1)
        # What the table ranks by: nats a frame, or guesses that are wrong in percent.
        self.loss, self.weights = self.nats, self.frames
        if score := runs[0]["task"].get("score"):
            counts = [run["test"]["counts"][score] for run in self.best]
            self.loss = np.array([100 * np.subtract(c["of"], c["right"], dtype=float) for c in counts])
            self.weights = np.array(counts[0]["of"], dtype=float)
        self.own = self.loss.sum(1) / self.weights.sum()

    @property
    def solved(self):
        return self.best[0]["task"].get("solved", 0)

    def solves(self, run):
        (count,) = run["test"]["counts"].values()
        return sum(count["right"]) >= run["task"]["solved"] * sum(count["of"])

    def judged(self, runs):
        """Of a rate, the lower the better: how many runs, how many solved validation, the mean of validation NLL."""
        return -len(runs), -sum(map(self.early, runs)), math.fsum(run["best_valid"] for run in runs) / len(runs)

    @staticmethod
    def early(run):
        epochs = len(run["curve"]["valid"]) * run["curve"]["every"]
        return bool(
            run["task"].get("solved")
            and run["status"] == "finished"
            and epochs < run["config"]["trainer"]["max_epochs"]
        )

    @staticmethod
    def clock(run):
        """Where a machine stood still for an hour, three usual epochs are counted."""
        each = np.diff(run["curve"]["seconds"], prepend=0)
        return np.cumsum(np.minimum(each, 3 * np.median(each)))

    def near(self, run):
        best = run["best_valid"]
        pairs = zip(self.clock(run), run["curve"]["valid"], strict=True)
        return next(s for s, v in pairs if v is not None and v <= best + 0.01 * abs(best))


@pytest.fixture(scope="module")
def tables():
    found = defaultdict(lambda: defaultdict(list))
    for path in RECORDS:
        run = json.loads(path.read_text())
        key = (run["task"]["name"], run["task"]["digest"], run["config"]["run"].get("protocol", ""), size(run["cell"]))
        options = ", ".join(f"{name}={value}" for name, value in sorted(run["cell"]["options"].items()))
        found[key][run["cell"]["name"] + (f"({options})" if options else "")].append(run)
    return {key: {name: Unit(runs) for name, runs in units.items()} for key, units in found.items()}


@pytest.fixture(scope="module")
def rows():
    with (BOARD / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["kind"] == "unit"]


def key_of(row):
    return row["dataset"], row["digest"], row["protocol"], row["matching"]


def test_every_figure_of_the_csv(tables, rows):
    assert sorted((*key_of(row), row["unit"]) for row in rows) == sorted(
        (*key, name) for key, units in tables.items() for name in units
    )
    for row in (row for row in rows if row["n"] != "0"):
        unit = tables[key_of(row)][row["unit"]]
        runs, mean = unit.best, {}
        splits = {split: [run[split] for run in runs] for split in ("train", "valid")}
        values = {"test": unit.nll, "test_sequence": unit.weighted}
        for split, scores in splits.items():
            values |= {split: [s["nll"] for s in scores], f"{split}_sequence": [s["nll_sequence"] for s in scores]}
        for name, found in values.items():
            mean[name], (_, interval) = np.mean(found), spread(found)
            mean[f"{name}_interval"] = interval
        error = [spread(unit.nll)[0], spread(shares(unit.nats.mean(0), unit.frames))[0]]
        mean["pieces"] = half(0.05, error[0], len(runs) - 1, error[1], len(unit.frames) - 1) if len(runs) > 1 else None
        counts = [run["test"].get("counts", {}).get("guesses") for run in runs]
        if all(counts):
            mean["right"] = np.mean([100 * sum(c["right"]) / sum(c["of"]) for c in counts])
            if runs[0]["task"].get("vocabulary"):
                mean["perplexity"] = np.exp(np.mean(unit.nll))
        for column, name in PARSER.items():
            counts = [run["test"].get("counts", {}).get(name) for run in runs]
            mean[column] = np.mean([100 * sum(c["right"]) / sum(c["of"]) for c in counts]) if all(counts) else None
        published = CHUNG.get((row["dataset"], row["unit"])) if "in the recurrent" in row["matching"] else None
        single = np.sqrt(1 + 1 / len(runs)) * scipy.stats.t.ppf(0.975, len(runs) - 1)
        verdicts = set()
        for name, found in (("reference", unit.nll), ("reference_sequence", unit.weighted)):
            if published is not None:
                mean[name], mean[f"{name}_interval"] = np.mean(found) - published, single * np.std(found, ddof=1)
                beyond = abs(mean[name]) > mean[f"{name}_interval"]
                verdicts.add("undecided" if not beyond else "beaten" if mean[name] < 0 else "missed")
        mean |= {
            "n": len(runs), "hidden": runs[0]["cell"]["hidden"], "recurrent": runs[0]["parameters"]["recurrent"],
            "total": runs[0]["parameters"]["total"], "rate": unit.rate, "rates": len(unit.rates), "runs": len(unit.all),
            "epochs": np.mean([len(run["curve"]["valid"]) * run["curve"]["every"] for run in runs]),
            "seconds": np.mean([unit.clock(run)[-1] for run in runs]),
            "near_best": np.mean([unit.near(run) for run in runs]),
            "best_epoch": np.mean([run["best_epoch"] + 1 for run in runs]),
            "throughput": np.mean([
                run["curve"]["steps"] * len(run["curve"]["valid"]) * run["curve"]["every"] / unit.clock(run)[-1]
                for run in runs
            ]),
        }  # fmt: skip
        for name, value in mean.items():
            if value is None:
                assert row[name] == ""
                continue
            assert float(row[name]) == pytest.approx(value, rel=2e-3 if name == "pieces" else 1e-6, abs=2e-8), (
                row,
                name,
            )
        if published is None:
            assert row["reference"] == row["verdict"] == ""
        elif not row["verdict"].startswith("none"):
            assert row["verdict"] == (verdicts.pop() if len(verdicts) == 1 else "undecided")


def test_units_without_a_figure_are_those_that_diverged_in_every_run(tables, rows):
    without = {(*key_of(row), row["unit"]): row for row in rows if row["n"] == "0"}
    lost = {(*key, name): unit for key, units in tables.items() for name, unit in units.items() if not unit.best}
    assert without.keys() == lost.keys()
    for key, row in without.items():
        assert {run["status"] for run in lost[key].all} == {"diverged"}
        assert (row["test"], row["letters"], row["incomplete"]) == ("", "", "diverged in every run")


def pairs(units):
    """Difference and simultaneous half width of every two units of a table."""
    level = 0.05 / max(1, len(units) * (len(units) - 1) // 2)
    found = {}
    for (a, one), (b, other) in itertools.combinations(units.items(), 2):
        difference = one.loss.mean(0) - other.loss.mean(0)
        error, pieces = spread(shares(difference, one.weights))[0], len(one.weights) - 1
        if len(one.best) == 1:  # says nothing of other seeds
            width = error * scipy.stats.t.ppf(1 - level / 2, pieces)
        else:
            v = [spread(unit.own)[0] ** 2 for unit in (one, other)]
            degrees = int(sum(v) ** 2 / sum(w**2 / (len(one.best) - 1) for w in v) + 1e-9)
            width = half(level, np.sqrt(sum(v)), degrees, error, pieces)
        found[a, b] = difference.sum() / one.weights.sum(), width
    return found


def test_letters_and_gaps_and_the_readmes(tables, rows):
    texts = [(BOARD / "README.md").read_text(), (ROOT / "README.md").read_text()]
    for key, units in tables.items():
        told = {row["unit"]: set(row["letters"]) for row in rows if key_of(row) == key and row["letters"]}
        ranked = {name: units[name] for name in sorted(told, key=lambda name: units[name].own.mean())}
        best = next(iter(ranked))
        for (a, b), (difference, width) in pairs(ranked).items():
            assert bool(told[a] & told[b]) == (abs(difference) <= width), (key, a, b)
            if a == best and not units[a].solved:  # these tables have counts of runs in place of gaps
                shown = re.compile(r"[+−](\d+\.\d{3}) ± (\d+\.\d{3})")
                near = [(float(d), float(w)) for d, w in shown.findall(texts[0])]
                assert any(abs(d + difference) < 6e-4 and abs(w - width) < 6e-4 for d, w in near), (key, b)
        for name, unit in ranked.items():
            if unit.solved:
                told = f"{sum(map(unit.solves, unit.best))} of {len(unit.best)}"
                assert any(line.count(f"| {name} |") and f"| {told} |" in line for line in texts[0].splitlines())
                continue
            interval = spread(unit.nll)[1]
            shown = f"| {name} | {unit.nll.mean():.3f}" + (f" ± {interval:.3f} |" if interval else " |")
            assert shown in texts[0]
            if (key[0], name) in CHUNG and key[2:] == ("chung2014", "20,000 parameters in the recurrent layer"):
                weighted, theirs = spread(unit.weighted)[1], CHUNG[key[0], name]
                shown += f" {unit.weighted.mean():.3f} ± {weighted:.3f} | {theirs:.2f} (recalled) | {len(unit.best)} |"
                assert shown in texts[1]
