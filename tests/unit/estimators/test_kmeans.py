"""K-Means against scikit-learn, and its rules for the odd cases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as SklearnKMeans

from scalejob.api.v1alpha1 import KMeans
from scaletrain.comm import SoloComm
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.estimators import linalg
from scaletrain.estimators.kmeans import kmeans
from scaletrain.estimators.kmeans.assign import FEW_CENTERS, nearest
from scaletrain.estimators.kmeans.lloyd import Limits, lloyd
from scaletrain.estimators.kmeans.nearest import points
from tests.unit.estimators.builders import fit, make_blocks


def blobs(rng: np.random.Generator, n: int = 600, d: int = 3, centers: int = 5) -> np.ndarray:
    return rng.standard_normal((centers, d))[rng.integers(0, centers, n)] * 3 + rng.standard_normal((n, d))


def from_centers(folder: Path, first: np.ndarray, **fields: object) -> KMeans:
    """Parameters whose first centres lie in a file."""
    np.save(folder / "centers.npy", first)
    return KMeans(clusters=len(first), init="centers", centers_uri=str(folder / "centers.npy"), **fields)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e5])
@pytest.mark.parametrize("tolerance", [0.0, 1e-2])
def test_equals_scikit_learn_from_the_same_centers(rng, tmp_path, weighted, offset, tolerance):
    """Same labels, iterations and inertia, also far from the origin, by strict and by loose convergence."""
    X = blobs(rng) + offset
    weight = rng.integers(1, 4, len(X)).astype(float) if weighted else None
    params = from_centers(tmp_path, X[:7], tolerance=tolerance)
    peer = SklearnKMeans(7, init=X[:7], n_init=1, tol=tolerance, algorithm="lloyd").fit(X, sample_weight=weight)
    found = fit(kmeans, params, make_blocks(X, weight=weight))
    assert found.inertia == pytest.approx(peer.inertia_, rel=1e-9)
    assert found.n_iter == peer.n_iter_
    np.testing.assert_array_equal(found.labels(torch.from_numpy(X)), peer.labels_)
    np.testing.assert_allclose(found.centers_KD, peer.cluster_centers_, rtol=1e-9)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("clusters", [7, FEW_CENTERS + 1])
def test_moved_rows_are_added_up_in_slices(rng, monkeypatch, weighted, clusters):
    """Slices of any length find the same clusters."""
    X, params = blobs(rng), KMeans(clusters=clusters, tolerance=0)
    blocks = make_blocks(X, weight=rng.integers(0, 4, len(X)).astype(float) if weighted else None)
    at_once = fit(kmeans, params, blocks)
    monkeypatch.setattr(linalg, "CACHED_VALUES", 5 * X.shape[1])
    found = fit(kmeans, params, blocks)
    assert (found.n_iter, found.inertia) == (at_once.n_iter, pytest.approx(at_once.inertia, rel=1e-12))
    np.testing.assert_allclose(found.centers_KD, at_once.centers_KD, rtol=1e-12)


def test_float32_stays_float32(rng, tmp_path):
    """Centres have the dtype of the features, as in scikit-learn; inertia agrees to 1e-6."""
    X = blobs(rng).astype(np.float32)
    found = fit(kmeans, from_centers(tmp_path, X[:5]), make_blocks(X))
    peer = SklearnKMeans(5, init=X[:5].astype(float), n_init=1, algorithm="lloyd").fit(X.astype(float))
    assert found.centers_KD.dtype == np.float32
    assert found.inertia == pytest.approx(peer.inertia_, rel=1e-6)
    np.testing.assert_array_equal(found.labels(torch.from_numpy(X)), peer.labels_)


@pytest.mark.parametrize("unit", [2.0**-90, 2.0**90])
@pytest.mark.parametrize("clusters", [3, 40])
def test_squares_that_float32_cannot_hold_are_taken_in_float64(rng, unit, clusters):
    """Rows times a power of two: the same clusters."""
    X, params = blobs(rng).astype(np.float32), KMeans(clusters=clusters, init="random")
    one, other = fit(kmeans, params, make_blocks(X)), fit(kmeans, params, make_blocks(X * np.float32(unit)))
    assert other.inertia / unit / unit == pytest.approx(one.inertia, rel=1e-5)
    labels = one.labels(torch.from_numpy(X))
    np.testing.assert_array_equal(other.labels(torch.from_numpy(X * np.float32(unit))), labels)


def test_an_empty_cluster_moves_to_the_farthest_row(rng, tmp_path):
    """A first centre far from all rows gets a row, as in scikit-learn."""
    X = blobs(rng)
    first = np.vstack([X[:4], [[1e3, 1e3, 1e3], [-1e3, 1e3, 1e3]]])
    found = fit(kmeans, from_centers(tmp_path, first), make_blocks(X))
    peer = SklearnKMeans(6, init=first, n_init=1, algorithm="lloyd").fit(X)
    assert found.inertia == pytest.approx(peer.inertia_, rel=1e-9)
    assert found.num_distinct == 6


@pytest.mark.parametrize("clusters", [2, FEW_CENTERS + 1])
def test_a_row_between_two_centres_goes_to_the_lower_number(clusters):
    """Also by the other way of finding the nearest of many."""
    C = torch.full((clusters, 1), 9.0)
    C[:2, 0] = torch.tensor([1.0, -1.0])
    assert nearest(torch.zeros(3, 1), C).tolist() == [0, 0, 0]


def test_of_rows_equally_far_the_first_moves_and_leaves_its_cluster():
    """Four rows at distance 1: the empty cluster takes the first, and the mean of the others no longer counts it."""
    X = np.array([[-1.0], [1.0], [-1.0], [1.0]])
    data = points(SoloComm(), make_blocks(X, rows=1))
    limits = Limits(tolerance=0, max_iterations=1)
    found = lloyd(data, lambda: torch.tensor([[0.0], [9.0]], dtype=torch.float64), limits, lambda *_: None)
    np.testing.assert_allclose(found.C_KD[:, 0], [1 / 3, -1.0])


def test_fewer_distinct_rows_than_clusters_end_with_a_warning():
    """As in scikit-learn the fit succeeds; the facts say how many clusters have rows."""
    X = np.repeat([[0.0, 1.0], [5.0, 5.0]], 10, axis=0)
    found = fit(kmeans, KMeans(clusters=4), make_blocks(X, rows=3))
    assert found.inertia == 0
    assert "only 2 of 4 clusters have rows" in found.facts()["warning"]


def test_more_clusters_than_rows_are_refused():
    """Rows of weight 0 do not count."""
    X, weight = np.arange(10.0)[:, None], np.array([1.0] * 6 + [0.0] * 4)
    with pytest.raises(InvalidSpec, match="clusters is 7, but there are only 6 rows"):
        fit(kmeans, KMeans(clusters=7), make_blocks(X, weight=weight))


@pytest.mark.parametrize("init", ["k-means||", "random"])
def test_as_many_clusters_as_rows(init):
    """Each row is a cluster."""
    X = np.arange(12.0)[:, None] ** 2
    assert fit(kmeans, KMeans(clusters=12, init=init, tolerance=0), make_blocks(X, rows=5)).inertia == pytest.approx(0)


def test_seeding_is_as_good_as_scikit_learns(rng):
    """The mean inertia over seeds is within 3 percent of k-means++."""
    X = blobs(rng, n=2000, d=4, centers=12)
    mine = [fit(kmeans, KMeans(clusters=12), make_blocks(X), seed=seed).inertia for seed in range(3)]
    peer = [SklearnKMeans(12, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(3)]
    assert np.mean(mine) <= 1.03 * np.mean(peer)


@pytest.mark.parametrize("weight", [1e-200, 1e100])
def test_the_unit_of_weights_changes_nothing(rng, weight):
    """All weights times a number: the same centres."""
    X, params = rng.standard_normal((200, 3)), KMeans(clusters=4, init="random")
    one, other = (fit(kmeans, params, make_blocks(X, weight=np.full(200, w))) for w in (1.0, weight))
    assert other.centers_KD == pytest.approx(one.centers_KD)


def test_rows_of_weight_0_are_never_first_centers(rng):
    X, weight = np.vstack([np.full((50, 2), 100.0), blobs(rng, n=50, d=2)]), np.repeat([0.0, 1.0], 50)
    found = fit(kmeans, KMeans(clusters=10, init="random", max_iterations=1), make_blocks(X, weight=weight))
    assert found.centers_KD.max() < 50


def test_the_best_of_the_restarts_wins(rng):
    """More restarts never give a higher inertia, because the first one is among them."""
    X = blobs(rng)
    params = [KMeans(clusters=8, init="random", restarts=restarts) for restarts in (1, 5)]
    one, five = (fit(kmeans, p, make_blocks(X), seed=3) for p in params)
    assert five.inertia <= one.inertia
    assert (five.restart == 0) == (five.inertia == one.inertia)


def test_the_seed_decides(rng):
    X = blobs(rng)
    same, again, other = (fit(kmeans, KMeans(clusters=8), make_blocks(X), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(same.centers_KD, again.centers_KD)
    assert (same.centers_KD != other.centers_KD).any()


def test_the_scikit_learn_model_predicts_the_same(rng):
    """A fitted KMeans; what was saved gives the same result."""
    X, params = blobs(rng), KMeans(clusters=5)
    found = fit(kmeans, params, make_blocks(X))
    model = found.to_sklearn(params)
    np.testing.assert_array_equal(model.predict(X), found.labels(torch.from_numpy(X)))
    assert model.inertia_ == pytest.approx(-model.score(X))
    assert kmeans.restore(params, found.arrays(), found.facts()).facts() == found.facts()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (np.zeros((3, 2)), InvalidSpec, r"shape \(3, 3\).*holds float64 of shape \(3, 2\)"),
        (np.full((3, 3), np.nan), InvalidData, "NaN"),
        (np.array([["a"] * 3] * 3), InvalidSpec, "must hold numbers"),
        (None, InvalidData, "cannot read"),
    ],
)
def test_given_centers_that_do_not_fit_are_refused(rng, tmp_path, content, error, message):
    """The message names the field, the file and what came."""
    params = from_centers(tmp_path, np.zeros((3, 3)))
    if content is None:
        (tmp_path / "centers.npy").unlink()
    else:
        np.save(tmp_path / "centers.npy", content)
    with pytest.raises(error, match=message) as caught:
        fit(kmeans, params, make_blocks(blobs(rng)))
    assert "workload.kmeans.centersUri" in str(caught.value)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), clusters=st.integers(1, 9), rows=st.integers(1, 40))
def test_each_row_is_in_its_nearest_cluster_and_each_centre_is_a_mean(seed, clusters, rows):
    """What Lloyd's algorithm promises at convergence, for any data and blocks."""
    X = blobs(np.random.default_rng(seed), n=60)
    found = fit(kmeans, KMeans(clusters=clusters, tolerance=0, init="random"), make_blocks(X, rows=rows), seed=seed)
    square = ((X[:, None] - found.centers_KD) ** 2).sum(2)
    label = found.labels(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(square[np.arange(len(X)), label], square.min(1), atol=1e-9)
    for cluster in np.unique(label):
        np.testing.assert_allclose(found.centers_KD[cluster], X[label == cluster].mean(0), atol=1e-9)
    assert found.inertia == pytest.approx(square.min(1).sum())
