"""Functional ANOVA against functions whose variances are known, and the trials that it is made for."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from seqbench import record
from seqbench.search.anova import GRID, forest, marginals, shares
from seqbench.search.design import Design, groups
from seqbench.search.findings import findings
from seqbench.search.trials import draw_trials, drawn_of

FLAGS = ["-c", "synthetic", "-c", "greff2015"]


def made_up(x: np.ndarray) -> np.ndarray:
    """2 x_0 + x_1 + 3 (x_0 - 1/2) (x_1 - 1/2), and nothing of x_2 and x_3."""
    return 2 * x[:, 0] + x[:, 1] + 3 * (x[:, 0] - 0.5) * (x[:, 1] - 0.5)


# Of x uniform in [0, 1] the variance is 1/12, and of the product 1/144.
VARIANCES = {(0,): 4 / 12, (1,): 1 / 12, (0, 1): 9 / 144}


@pytest.fixture(scope="module")
def trees():
    x = np.random.default_rng(0).random((1000, 4))
    return forest(x, made_up(x))


def test_shares_are_the_known_variances_within_two_percent(trees):
    whole = sum(VARIANCES.values())
    found = shares(trees)
    assert len(found) == 4 + 6
    for variables, share in found.items():
        assert share.mean() == pytest.approx(100 * VARIANCES.get(variables, 0) / whole, abs=2)


def test_marginals_are_the_means_over_all_others(trees):
    points = (np.arange(GRID) + 0.5) / GRID
    inner = slice(2, -2)  # a box at the edge of the range has the mean over all of it
    assert marginals(trees, (0,)).mean(0)[inner] == pytest.approx((2 * points + 0.5)[inner], abs=0.06)
    surface = marginals(trees, (1, 0)).mean(0)
    expected = made_up(np.array([[b, a, 0, 0] for a in points for b in points])).reshape(GRID, GRID)
    assert np.abs(surface - expected).mean() < 0.06


def test_findings_follow_from_the_known_variances(trees):
    """69% of the first variable, 17% of the second, 13% of both, nothing of the others."""
    held = {finding.text: finding.verdict for finding in findings(shares(trees), size=1, rate=0, momentum=2)}
    assert set(held.values()) == {"held"}
    turned = {finding.text: finding.verdict for finding in findings(shares(trees), size=0, rate=1, momentum=2)}
    assert turned["The rate matters most."] == turned["The hidden size comes second."] == "not held"
    (momentum,) = (f for f in findings(shares(trees), size=2, rate=0, momentum=1) if f.text.startswith("Momentum"))
    assert (momentum.verdict, momentum.trees) == ("not held", 0)
    crossed = {(0,): np.array([50.0] * 9 + [90.0]), (1,): np.array([9.0] * 10), (2,): np.zeros(10), (3,): np.zeros(10)}
    crossed[0, 1] = np.array([41.0] * 5 + [1.0] * 5)
    small = findings(crossed, size=1, rate=0, momentum=2)[-1]
    assert (small.verdict, small.trees) == ("undecided", 50)


def test_a_tree_is_summed_exactly():
    """Against its own predictions on a fine grid."""
    from sklearn.tree import DecisionTreeRegressor

    from seqbench.search.anova import _boxes

    x = np.random.default_rng(1).random((30, 2))
    grown = DecisionTreeRegressor(max_leaf_nodes=9).fit(x, made_up(np.hstack([x, x])))
    boxes = _boxes(grown.tree_, 2)
    points = (np.arange(400) + 0.5) / 400
    grid = np.array([[a, b] for a in points for b in points])
    values = grown.predict(grid).reshape(400, 400)
    assert boxes.whole == pytest.approx(values.var(), rel=0.02)
    assert boxes.variance((0,)) == pytest.approx(values.mean(1).var(), rel=0.02)
    assert boxes.variance((0, 1)) == pytest.approx(boxes.whole)


def test_trials_are_drawn_from_the_papers_ranges_and_sizes_in_bands():
    drawn = draw_trials("NP", 200, 10, 0)
    assert len(drawn) == 20
    assert [seed for group in drawn for seed in group.seeds] == list(range(200))
    shares = []
    for group in drawn:
        flags = dict(zip(group.flags[::2], group.flags[1::2], strict=True))
        model = {
            "optimizer": {"init_args": {"momentum": float(flags["--model.optimizer.momentum"])}},
            "input_noise": float(flags["--model.input_noise"]),
        }
        hidden = int(flags["--model.hidden"])
        assert 20 <= hidden <= 200
        shares += [drawn_of(rate, hidden, model) for rate in group.rates]
    found = np.array(shares)
    assert found.min() >= 0
    assert found.max() <= 1
    sizes = found[::10, 0]
    assert np.floor(20 * sizes + 0.3) == pytest.approx(np.arange(20), abs=1)  # sizes are whole numbers
    assert found[:, 1].mean() == pytest.approx(0.5, abs=0.08)
    assert np.abs(np.corrcoef(found[:, 1], found[:, 0])[0, 1]) < 0.2
    assert draw_trials("NP", 200, 10, 0) == drawn
    assert draw_trials("V", 200, 10, 0) != drawn
    assert draw_trials("NP", 200, 10, 1) != drawn


def test_a_sweep_of_trials_names_every_run_by_what_was_drawn(tmp_path):
    design = Design(FLAGS, ["NP"], [], 0, ["trials"], 2, trials=5)
    made = groups(design, "trials", tmp_path, {})
    assert [len(group.run_ids) for group in made] == [2, 2, 1]
    assert len({run_id for group in made for run_id in group.run_ids}) == 5
    command = made[1].command(design, tmp_path)
    assert command[command.index("--model.hidden") + 1] == made[1].flags[1]


@pytest.fixture
def trials(tmp_path) -> Path:
    """Records of 120 trials whose NLL follows from the rate, the size a little, and nothing else."""
    path = Path(__file__).parents[2] / "leaderboard" / "factory.py"
    spec = importlib.util.spec_from_file_location("made_up_records", path)
    factory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factory)
    for group in draw_trials("NP", 120, 4, 0):
        flags = dict(zip(group.flags[::2], group.flags[1::2], strict=True))
        for seed, rate in zip(group.seeds, group.rates, strict=True):
            one = factory.make("NP", seed, rate=rate)
            hidden, momentum = int(flags["--model.hidden"]), float(flags["--model.optimizer.momentum"])
            model = one.config["model"] | {
                "optimizer": {"class_path": "SGD", "init_args": {"momentum": momentum, "nesterov": True}},
                "input_noise": float(flags["--model.input_noise"]),
            }
            u = drawn_of(rate, hidden, model)
            nll = 8 + 3 * u[1] + u[0] if u[1] < 0.9 else 400.0  # far above the floor of 11.091
            cell = dataclasses.replace(one.cell, hidden=hidden)
            changed = dataclasses.replace(one, cell=cell, config=one.config | {"model": model}, best_valid=nll)
            record.save(changed, tmp_path / str(seed) / "record.json")
    return tmp_path


def test_the_rate_comes_first_and_one_that_breaks_all_is_no_worse_than_guessing(trials, seqbench, capsys):
    seqbench("importance", str(trials), "--json", "--into", str(trials / "marginals.svg"))
    (found,) = json.loads(capsys.readouterr().out)
    effects = {effect["of"]: effect for effect in found["effects"]}
    assert list(effects)[:2] == ["rate", "hidden size"]
    assert effects["rate"]["share"] > 75
    assert effects["hidden size"]["share"] == pytest.approx(9, abs=5)
    assert effects["input noise"]["share"] < 3
    assert effects["rate"]["low"] < effects["rate"]["share"] < effects["rate"]["high"]
    curve = found["curves"]["rate"]
    assert curve[0] < curve[-1] < 12
    assert len(found["map"]) == len(found["map"][0]) == GRID
    assert (trials / "marginals.svg").read_text().startswith("<?xml")
    findings = {finding["text"]: finding["verdict"] for finding in found["findings"]}
    assert findings["The rate matters most."] == "held"
    seqbench("importance", str(trials))
    told = capsys.readouterr().out
    assert "hidden size x rate" in told
    assert "NP on jsb: held, in 100% of the trees: The rate matters most." in told


def test_runs_of_a_grid_are_no_trials(trials, seqbench, capsys):
    """They have a momentum too, and a size that nobody drew."""
    one = record.load(trials / "0" / "record.json")
    model = {key: value for key, value in one.config["model"].items() if key != "input_noise"}
    for n in range(20):
        grid = dataclasses.replace(one, run_id=f"grid{n}", config=one.config | {"model": model}, best_valid=8.0)
        record.save(grid, trials / f"grid{n}" / "record.json")
    seqbench("importance", str(trials), "--json")
    assert json.loads(capsys.readouterr().out)[0]["trials"] == 120


def test_trials_that_learnt_nothing_explain_nothing(trials, refusal):
    for path in trials.glob("*/record.json"):
        record.save(dataclasses.replace(record.load(path), best_valid=50.0 + len(path.parent.name)), path)
    assert "no trial of NP on jsb beats the worst floor" in refusal("importance", str(trials))


def test_a_folder_without_trials_is_refused(tmp_path, refusal):
    assert "no records in" in refusal("importance", str(tmp_path))


def test_log_uniform_ends_are_reached():
    rates = [rate for group in draw_trials("V", 2000, 2000, 3) for rate in group.rates]
    assert math.log10(max(rates) / min(rates)) > 3.9
