"""Inertia from the sums of the clusters: as right as that of a pass over all rows, which is taken where it would not be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scalejob.api.v1alpha1 import KMeans
from scaletrain.comm import SoloComm
from scaletrain.estimators.kmeans import inertia, lloyd
from scaletrain.estimators.kmeans.kmeans import about_shift, fit_from
from scaletrain.estimators.kmeans.nearest import points
from scaletrain.estimators.kmeans.rows import Rows
from tests.unit.estimators.builders import make_blocks, quiet


def fit_from_rows(X: np.ndarray, first: np.ndarray, weight: np.ndarray | None = None, **fields):
    data = points(SoloComm(), make_blocks(X, weight=weight, rows=64))
    params = KMeans(clusters=len(first), **fields)
    return fit_from(lambda data, _: about_shift(torch.from_numpy(first).double(), data), data, params, quiet)


@pytest.fixture
def passes_for_inertia(monkeypatch) -> list[float]:
    """One entry for each pass that inertia takes."""
    seen, by_rows = [], inertia._of_rows
    monkeypatch.setattr(inertia, "_of_rows", lambda *args: seen.append(by_rows(*args)) or seen[-1])
    return seen


def squares(X: np.ndarray, found) -> np.ndarray:
    return ((X[:, None] - found.centers_KD.astype(float)) ** 2).sum(2).min(1)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_inertia_from_sums_keeps_its_digits_over_300_iterations(rng, weighted, offset, passes_for_inertia):
    """A loop that never ends: a third of the rows moves back and forth, in fractions that no sum holds exactly."""
    X = rng.standard_normal((900, 5)) / 3 + offset
    weight = rng.uniform(0, 1, len(X)) if weighted else None
    data = points(SoloComm(), make_blocks(X, weight=weight, rows=100))
    first = torch.from_numpy(X[:6]) - data.shift_D
    at = lloyd._Iterate.started(first)
    rows, sums = Rows(data, 6), at.sums
    for number in range(300):
        step = first + 0.3 * torch.from_numpy(rng.standard_normal(first.shape)) if number < 299 else first
        at = replace(at, before_KD=at.C_KD, C_KD=step)
        sums = sums.plus(*lloyd._changes(data, at, rows)[0])
    found = inertia.inertia(data, first, sums, rows.label, 300)
    square = ((X[:, None] - X[:6]) ** 2).sum(2).min(1)
    assert found == pytest.approx(square.sum() if weight is None else weight @ square, rel=1e-11)
    assert not passes_for_inertia


@pytest.mark.parametrize("spread", [1e-3, 1e-6, 1e-10])
def test_inertia_of_tight_clusters_keeps_its_digits(rng, spread, passes_for_inertia):
    """In a pass, because the terms of the sums cancel."""
    center = rng.standard_normal((5, 3))
    X = np.repeat(center, 40, axis=0) + spread * rng.uniform(-1, 1, (200, 3))
    found = fit_from_rows(X, X[::40])
    np.testing.assert_allclose(found.inertia, squares(X, found).sum(), rtol=1e-9)
    assert len(passes_for_inertia) == 1


def test_a_row_of_weight_0_far_away_costs_inertia_no_digits(rng):
    """Its square is in no sum, but in the bound of the sums."""
    X = np.vstack([rng.standard_normal((300, 2)), [[1e5, 1e5]]])
    weight = np.append(np.ones(300), 0.0)
    found = fit_from_rows(X, X[[0, 1, 2, 300]], weight)
    assert found.inertia == pytest.approx(weight @ squares(X, found), rel=1e-9)


def test_clusters_of_rows_without_weight_are_distinct(rng):
    """As in scikit-learn, which counts labels."""
    X = np.vstack([rng.standard_normal((50, 2)), np.full((5, 2), 100.0)])
    weight = np.append(np.ones(50), np.zeros(5))
    found = fit_from_rows(np.vstack([X, X[:1]]), X[[0, 1, 52]], np.append(weight, 1.0), max_iterations=1)
    assert found.num_distinct == len(np.unique(found.labels(torch.from_numpy(X))))


def test_a_far_row_of_little_weight_costs_inertia_no_digits(rng):
    """Alone in its cluster it adds nothing; but the weights of clusters are kept to a part of all weights, times its square."""
    X = np.vstack([rng.standard_normal((60, 5)), np.full((1, 5), 1e4)])
    weight = np.append(rng.uniform(0, 1000, 60), 1e-6)
    found = fit_from_rows(X, X[[0, 1, 2, 60]], weight)
    assert found.inertia == pytest.approx(weight @ squares(X, found), rel=1e-9)
