"""Preparation gives what scikit-learn's transformers give, on any number of ranks the same bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from scalejob.api.v1alpha1 import Missing, Pca, Prepare, Scale
from scaletrain.comm import Comm, SoloComm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.table import Columns
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.prepare.preparation import Preparation, fit_preparation, num_steps
from scaletrain.prepare.steps import STEPS
from tests.ranks import on_ranks

NAMES = ("a", "b", "c", "d", "e", "f")
BLOCK = 37


def make_rows(num_rows: int = 500, missing: float = 0.0, seed: int = 0) -> np.ndarray:
    """Columns of different size and offset, one of them constant."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((num_rows, 5)) @ rng.standard_normal((5, 5)) * [1, 1e3, 1e-3, 5, 1] + [0, 1e6, 0, -7, 1]
    X = np.c_[X, np.full(num_rows, 4.2)]
    X[rng.random(X.shape) < missing] = np.nan
    return X


def quiet(step: int, **figures: object) -> None:
    """Progress that nobody follows."""


def blocks_of(comm: Comm, X: np.ndarray) -> Blocks:
    """Blocks of BLOCK rows, dealt to the ranks in turn: the order must not matter."""
    starts = range(0, len(X), BLOCK)
    blocks = [
        Block(row_N=torch.arange(s, min(s + BLOCK, len(X))), X_ND=torch.from_numpy(X[s : s + BLOCK].copy()))
        for s in list(starts)[comm.rank :: comm.size]
    ]
    return Blocks(blocks=blocks, num_rows=len(X), num_features=X.shape[1], num_blocks=len(starts))


def fit(X: np.ndarray, spec: Prepare, size: int = 1) -> list[Preparation]:
    columns = Columns(features=NAMES[: X.shape[1]], is_single=False, are_named=True)
    return on_ranks(size, lambda comm: fit_preparation(comm, blocks_of(comm, X), spec, columns, quiet))


def bits(preparation: Preparation) -> list[bytes]:
    return [value.tobytes() for step in preparation.steps for _, value in sorted(step.arrays().items())]


EVERYTHING = Prepare(missing=Missing.MEDIAN, scale=Scale.STANDARD, pca=Pca(components=3))


@pytest.mark.parametrize("size", [2, 3, 20])
def test_any_number_of_ranks_learns_the_same_bits(size: int) -> None:
    """Also if some ranks have no rows."""
    X = make_rows(missing=0.1)
    (alone,) = fit(X, EVERYTHING)
    assert {tuple(bits(one)) for one in fit(X, EVERYTHING, size)} == {tuple(bits(alone))}


@pytest.mark.parametrize("strategy", [Missing.MEAN, Missing.MEDIAN])
def test_imputed_values_are_those_of_simple_imputer(strategy: Missing) -> None:
    """The median exactly, the mean to rounding."""
    X = make_rows(missing=0.2)
    (fitted,) = fit(X, Prepare(missing=strategy))
    theirs = SimpleImputer(strategy=strategy).fit(X)
    np.testing.assert_allclose(fitted.steps[0].arrays()["statistics"], theirs.statistics_, rtol=1e-14)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=30), st.integers(1, 3))
def test_the_median_is_exact(values: list[float], size: int) -> None:
    """It is an order statistic, not an estimate: zeros of both signs, ties and extremes included."""
    X = np.array(values)[:, None]
    fitted = fit(X, Prepare(missing=Missing.MEDIAN), size)[0]
    assert fitted.steps[0].arrays()["statistics"][0] == np.median(X)


def test_standardised_features_are_those_of_standard_scaler() -> None:
    """Mean, variance, scale, and 1 as the scale of a constant column."""
    X = make_rows()
    (fitted,) = fit(X, Prepare(scale=Scale.STANDARD))
    theirs = StandardScaler().fit(X)
    found = fitted.steps[0].arrays()
    np.testing.assert_allclose(found["mean"], theirs.mean_, rtol=1e-13)
    np.testing.assert_allclose(found["var"], theirs.var_, rtol=1e-12, atol=1e-20)
    np.testing.assert_allclose(found["scale"], theirs.scale_, rtol=1e-12)
    assert found["scale"][5] == 1.0


def test_components_are_those_of_pca() -> None:
    """Same directions, same signs, same variances."""
    X = StandardScaler().fit_transform(make_rows()[:, :5])
    (fitted,) = fit(X, Prepare(pca=Pca(components=3)))
    ours, theirs = fitted.steps[0].to_sklearn(), PCA(n_components=3, svd_solver="covariance_eigh").fit(X)
    for name in ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8, atol=1e-12, err_msg=name)
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_)


def test_the_restored_transformers_do_what_the_steps_did() -> None:
    """What `load` gives prepares new rows as the job prepared its own."""
    X = make_rows(missing=0.1)
    (fitted,) = fit(X, EVERYTHING)
    view = fitted.view(Block(row_N=torch.arange(len(X)), X_ND=torch.from_numpy(X))).numpy()
    for step in fitted.steps:
        restored = STEPS[step.kind].restore(step.arrays(), step.facts())
        X = restored.to_sklearn().transform(X)
    np.testing.assert_allclose(X, view, atol=1e-12)


@pytest.mark.parametrize(
    ("is_single", "spec", "want"),
    [
        (True, Prepare(), torch.float32),
        (False, Prepare(), torch.float64),
        (False, Prepare(missing=Missing.MEAN), torch.float64),
        (False, Prepare(scale=Scale.STANDARD), torch.float32),
    ],
)
def test_float64_is_kept_unless_the_features_are_standardised(
    is_single: bool, spec: Prepare, want: torch.dtype
) -> None:
    """Precision is never lost silently."""
    X = make_rows().astype(np.float32 if is_single else np.float64)
    columns = Columns(features=NAMES, is_single=is_single, are_named=True)

    def prepared(comm: Comm) -> Blocks:
        blocks = blocks_of(comm, X)
        return fit_preparation(comm, blocks, spec, columns, quiet).apply(blocks)

    assert {block.X_ND.dtype for block in on_ranks(1, prepared)[0].blocks} == {want}


def test_single_precision_is_left_where_squares_would_overflow() -> None:
    """float32 ends at 3e38."""
    X = make_rows().astype(np.float32)
    X[3, 2] = -1e20
    columns = Columns(features=NAMES, is_single=True, are_named=True)
    for size in (1, 3):
        fitted = on_ranks(size, lambda comm: fit_preparation(comm, blocks_of(comm, X), Prepare(), columns, quiet))
        assert {preparation.dtype for preparation in fitted} == {torch.float64}


def test_a_column_without_a_value_is_named() -> None:
    """There is no mean of nothing."""
    X = make_rows()
    X[:, 1] = np.nan
    with pytest.raises(InvalidData, match="no mean of columns without a value in the training rows: b"):
        fit(X, Prepare(missing=Missing.MEAN))


def test_more_components_than_features_are_refused() -> None:
    """With the numbers that decide."""
    with pytest.raises(InvalidSpec, match=r"components is 7: at most 6 with 6 features and 500 training rows"):
        fit(make_rows(), Prepare(pca=Pca(components=7)))


def test_each_step_is_told() -> None:
    """With as many steps as were announced."""
    spec = Prepare(missing=Missing.MEDIAN, scale=Scale.STANDARD, pca=Pca(components=2))
    told: list[int] = []
    columns = Columns(features=NAMES, is_single=False, are_named=True)
    comm = SoloComm()
    fit_preparation(comm, blocks_of(comm, make_rows()), spec, columns, lambda step, **_: told.append(step))
    assert told == [1, 2, 3] == list(range(1, num_steps(spec) + 1))


def single_rows() -> np.ndarray:
    """float32 columns of different size, far from 0."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((3000, 6)) * [1, 2, 3, 4, 5, 6] + [0, 1e3, -7, 1, 50, 0]).astype(np.float32)


@pytest.mark.parametrize("order", ["as they are", "sorted"])
def test_components_of_single_precision_are_those_of_double(order: str) -> None:
    """One pass in float32 is enough, and where a sample is not like all rows, float64 is taken."""
    X = single_rows()
    X = X[X[:, 1].argsort()] if order == "sorted" else X
    fitted = fit(X, Prepare(pca=Pca(components=3)))[0].steps[0].to_sklearn()
    theirs = PCA(n_components=3, svd_solver="covariance_eigh").fit(X.astype(np.float64))
    np.testing.assert_allclose(fitted.explained_variance_, theirs.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(fitted.components_, theirs.components_, atol=1e-5)
    np.testing.assert_allclose(fitted.mean_, theirs.mean_, rtol=1e-6)


def test_a_component_too_small_for_single_precision_is_that_of_double() -> None:
    """Two columns that agree in four digits."""
    X = single_rows()[:, [0, 0, 2]]
    X[:, 1] += np.float32(1e-4) * single_rows()[:, 5]
    fitted = fit(X, Prepare(pca=Pca(components=3)))[0].steps[0].to_sklearn()
    theirs = PCA(n_components=3, svd_solver="covariance_eigh").fit(X.astype(np.float64))
    np.testing.assert_allclose(fitted.explained_variance_, theirs.explained_variance_, rtol=1e-6)


def test_any_number_of_ranks_finds_the_same_bits_in_single_precision() -> None:
    """Of means, components and variances."""
    spec = Prepare(pca=Pca(components=3))
    assert {tuple(bits(one)) for size in (1, 2, 5) for one in fit(single_rows(), spec, size)} == {
        tuple(bits(fit(single_rows(), spec)[0]))
    }
