"""Generated data: the same for any number of ranks, with the truth that was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalejob.api.v1alpha1 import Blobs, ClassificationData, RegressionData, Synthetic
from scaletrain.data.blocks import own_blocks, rows_per_block
from scaletrain.data.split import held_back
from scaletrain.data.synthetic import SyntheticSource, recipe_for
from scaletrain.data.table import LabelKind

SPECS = {
    "blobs": Synthetic(blobs=Blobs(rows=5000, features=600, centers=4)),
    "classification": Synthetic(
        classification=ClassificationData(rows=5000, features=600, informative=5, redundant=3, classes=3)
    ),
    "regression": Synthetic(regression=RegressionData(rows=5000, features=600, informative=7, noise=0.1, bias=2.0)),
}


def source_of(spec: Synthetic, seed: int = 7, threads: int = 1) -> SyntheticSource:
    kind = LabelKind.NUMBER if spec.regression else LabelKind.CLASS
    return SyntheticSource.of(spec, seed, kind, threads)


def read(source: SyntheticSource, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All rows, read by `size` ranks."""
    length = rows_per_block(len(source.columns.features))
    tables = []
    for rank in range(size):
        own = own_blocks(source.num_rows, len(source.columns.features), rank, size)
        tables += source.read(range(own.start * length, min(own.stop * length, source.num_rows)))
    assert np.array_equal(np.concatenate([t.row_N for t in tables]), np.arange(source.num_rows))
    return np.concatenate([t.X_ND for t in tables]), np.concatenate([t.y_N for t in tables])


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("size", [2, 3, 50])
def test_ranks_together_hold_the_same_rows(name: str, size: int) -> None:
    """Split over ranks and drawn by several threads, the rows are those of one rank."""
    X_alone, y_alone = read(source_of(SPECS[name]), 1)
    X_split, y_split = read(source_of(SPECS[name], threads=3), size)
    assert np.array_equal(X_alone, X_split)
    assert np.array_equal(y_alone, y_split)


def test_another_seed_gives_other_rows() -> None:
    """The seed is all that tells two data sets of one recipe apart."""
    X_one, _ = read(source_of(SPECS["blobs"], seed=1), 1)
    X_two, _ = read(source_of(SPECS["blobs"], seed=2), 1)
    assert not np.array_equal(X_one, X_two)


def test_blobs_lie_around_their_centres() -> None:
    """The mean of the rows of a class is its centre, their deviation the one asked for."""
    source = source_of(Synthetic(blobs=Blobs(rows=20_000, features=3, centers=4, cluster_std=0.5)))
    X, y = read(source, 1)
    for k, centre in enumerate(source.recipe.center_CD):
        np.testing.assert_allclose(X[y == k].mean(0), centre, atol=0.05)
        np.testing.assert_allclose(X[y == k].std(0), 0.5, atol=0.02)


def test_regression_has_the_drawn_coefficients() -> None:
    """Least squares finds the truth again."""
    source = source_of(Synthetic(regression=RegressionData(rows=5000, features=6, informative=4, noise=0.01, bias=3.0)))
    X, y = read(source, 1)
    found, *_ = np.linalg.lstsq(np.c_[X, np.ones(len(X))].astype(np.float64), y, rcond=None)
    np.testing.assert_allclose(found, [*source.recipe.coef_D, 3.0], atol=0.01)
    assert np.count_nonzero(source.recipe.coef_D) == 4


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_classes_are_as_far_apart_as_asked(classes: int) -> None:
    """Any two class means have the distance classSep, as long as there is room for that."""
    spec = Synthetic(
        classification=ClassificationData(rows=10, features=8, informative=5, classes=classes, class_sep=2.5)
    )
    mean_CI = recipe_for(spec, 3).mean_CI
    distance = np.linalg.norm(mean_CI[:, None] - mean_CI[None], axis=2)
    np.testing.assert_allclose(distance[~np.eye(classes, dtype=bool)], 2.5)


def test_redundant_features_are_mixtures_of_the_informative_ones() -> None:
    """They add no rank; the noise features do."""
    spec = ClassificationData(rows=2000, features=10, informative=4, redundant=3, flip=0.0)
    X, _ = read(source_of(Synthetic(classification=spec)), 1)
    assert np.linalg.matrix_rank(X[:, :7].astype(np.float64), tol=1e-2) == 4
    assert np.linalg.matrix_rank(X.astype(np.float64), tol=1e-2) == 7


@given(st.integers(0, 10**6), st.integers(1, 5000), st.integers(1, 64))
def test_every_block_belongs_to_exactly_one_rank(num_rows: int, num_features: int, size: int) -> None:
    """Shares are contiguous, in the order of ranks, and differ by at most one block."""
    shares = [own_blocks(num_rows, num_features, rank, size) for rank in range(size)]
    num_blocks = -(-num_rows // rows_per_block(num_features))
    assert [block for share in shares for block in share] == list(range(num_blocks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(0, 2**40), st.integers(0, 2**53 - 1), st.integers(1, 100))
def test_whether_a_row_is_held_back_depends_on_its_number_only(first: int, seed: int, cut: int) -> None:
    """Cutting the rows elsewhere changes nothing."""
    row_N = np.arange(first, first + 100)
    parts = [held_back(part, 0.3, seed) for part in (row_N[:cut], row_N[cut:])]
    assert np.array_equal(np.concatenate(parts), held_back(row_N, 0.3, seed))


def test_the_fraction_held_back_is_the_one_asked_for() -> None:
    """Within what chance allows for 100,000 rows."""
    for fraction in (0.01, 0.2, 0.5):
        assert abs(held_back(np.arange(100_000), fraction, 5).mean() - fraction) < 0.005
