"""Functional ANOVA by a forest: how much of the variance of a function each variable and each pair explains.

Hutter, Hoos & Leyton-Brown 2014 (ICML), with which Greff et al. 2015 weighed hyper-parameters. A tree is constant on
boxes, so its marginals over some variables, the others averaged out over their whole ranges, are exact sums over its
leaves. The forest is scikit-learn's. DeepCAVE cannot be installed on Python 3.11, and optuna's evaluator tells main
effects alone.
D variables in [0, 1], L leaves, S segments of a variable.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TREES = 100
EQUAL = 1e-12  # a tree's variance below which its leaves are equal but for rounding
GRID = 32  # points of a drawn marginal, a variable


@dataclass(frozen=True)
class Boxes:
    """A tree's leaves.

    Attributes:
        low: [L, D].
        high: [L, D].
        value: [L].
    """

    low: Array
    high: Array
    value: Array

    def marginal(self, variables: tuple[int, ...], points: list[Array]) -> Array:
        """The mean over all other variables, [S_1, ...], at the points [S] of each of one or two variables."""
        others = [d for d in range(self.low.shape[1]) if d not in variables]
        weighed = self.value * (self.high - self.low)[:, others].prod(1)  # [L]
        inside = [
            (self.low[:, d] <= at[:, None]) & (at[:, None] < self.high[:, d])
            for d, at in zip(variables, points, strict=True)
        ]
        first = inside[0] * weighed  # [S, L]
        return first.sum(1) if len(variables) == 1 else first @ inside[1].T.astype(float)

    def variance(self, variables: tuple[int, ...]) -> float:
        """Of that mean, over the whole ranges of these variables."""
        edges = [np.unique(np.concatenate([self.low[:, d], self.high[:, d]])) for d in variables]
        lengths = [np.diff(edge) for edge in edges]
        found = self.marginal(variables, [(edge[1:] + edge[:-1]) / 2 for edge in edges])
        weights = lengths[0] if len(variables) == 1 else np.outer(*lengths)
        mean = (weights * found).sum()
        return float((weights * (found - mean) ** 2).sum())

    @property
    def whole(self) -> float:
        """The variance of the tree."""
        volumes = (self.high - self.low).prod(1)
        mean = (volumes * self.value).sum()
        return float((volumes * (self.value - mean) ** 2).sum())


def forest(x: Array, y: Array, seed: int = 0) -> list[Boxes]:
    """Trees, each grown on a bootstrap sample of x [n, D] in [0, 1] and y [n]."""
    from sklearn.ensemble import RandomForestRegressor

    grown = RandomForestRegressor(TREES, random_state=seed).fit(x, y)
    return [_boxes(tree.tree_, x.shape[1]) for tree in grown.estimators_]


def _boxes(tree: Any, variables: int) -> Boxes:
    lows, highs, values = [], [], []
    stack = [(0, np.zeros(variables), np.ones(variables))]
    while stack:
        node, low, high = stack.pop()
        if tree.children_left[node] < 0:
            lows.append(low)
            highs.append(high)
            values.append(float(tree.value[node].item()))
            continue
        d, at = tree.feature[node], tree.threshold[node]
        below, above = high.copy(), low.copy()
        below[d] = above[d] = at
        stack += [(tree.children_left[node], low, below), (tree.children_right[node], above, high)]
    return Boxes(np.array(lows), np.array(highs), np.array(values))


def shares(trees: list[Boxes]) -> dict[tuple[int, ...], Array]:
    """What each variable and each pair explains of each tree's variance, beyond its parts: [trees], in percent."""
    D = trees[0].low.shape[1]
    trees = [tree for tree in trees if tree.whole > EQUAL * max(1.0, float(np.abs(tree.value).max())) ** 2]
    found: dict[tuple[int, ...], Array] = {}
    whole = np.array([tree.whole for tree in trees])
    for d in range(D):
        found[(d,)] = np.array([tree.variance((d,)) for tree in trees])
    for i, j in itertools.combinations(range(D), 2):
        both = np.array([tree.variance((i, j)) for tree in trees])
        found[(i, j)] = np.maximum(both - found[(i,)] - found[(j,)], 0)
    return {variables: 100 * value / whole for variables, value in found.items()}


def marginals(trees: list[Boxes], variables: tuple[int, ...]) -> Array:
    """Of one or two variables on a grid of GRID points each: [trees, GRID] or [trees, GRID, GRID]."""
    points = (np.arange(GRID) + 0.5) / GRID
    return np.array([tree.marginal(variables, [points] * len(variables)) for tree in trees])
