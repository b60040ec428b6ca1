"""Moments of the features are those of numpy, whether or not a sample of the rows is like all of them."""

import numpy as np
import pytest
import torch

from scaletrain.comm import SoloComm
from scaletrain.errors import InvalidData
from scaletrain.estimators.moments import Moments, moments
from tests.unit.estimators.builders import make_blocks, on_ranks

ROWS = 1 << 14  # of a block: the second one is not in the sample


def make_rows(rng: np.random.Generator) -> np.ndarray:
    """Two blocks; the columns differ in size and offset, and the last is constant."""
    X = rng.standard_normal((ROWS + 500, 4)) * [1, 1e-20, 1e6, 0] + [0.5, 1e-20, 1e9, 0.1]
    return X.astype(np.float32)


def of(X: np.ndarray) -> Moments:
    return moments(SoloComm(), make_blocks(X, rows=ROWS), weighted=False)


def check(x: Moments, X: np.ndarray) -> None:
    X = X.astype(np.float64)
    np.testing.assert_allclose(x.mean_D, X.mean(0), rtol=1e-12)
    np.testing.assert_allclose(x.square_D, ((X - X.mean(0)) ** 2).sum(0), rtol=1e-9, atol=1e-20)
    assert (x.peak_D.numpy() >= np.abs(X).max(0)).all()
    assert x.weight == len(X)


def check_bounds(X: np.ndarray) -> None:
    """Rough moments bound the lengths of the columns and the values, and are not far from them."""
    x = moments(SoloComm(), make_blocks(X, rows=ROWS), weighted=False, are_rough_enough=True)
    X = X.astype(np.float64)
    for shift_D in (x.mean_D.numpy(), np.zeros(X.shape[1])):
        lengths_D, bounds_D = np.linalg.norm(X - shift_D, axis=0), x.lengths(torch.from_numpy(shift_D)).numpy()[:-1]
        assert (lengths_D <= bounds_D).all()
        assert (bounds_D <= 1.02 * lengths_D + 1e-6 * np.abs(X).max(0)).all()
    assert (np.abs(x.mean_D.numpy() - X.mean(0)) <= 1e-3 * X.std(0)).all()
    assert (x.peak_D.numpy() >= np.abs(X).max(0)).all()
    assert x.is_constant_D.tolist() == of(X).is_constant_D.tolist()


@pytest.mark.parametrize("offset", [0, 0.2, 1, 3, 10, 1e3])
def test_rough_moments_bound_the_rows(rng: np.random.Generator, offset: float) -> None:
    """Around 0, a little away, and where float32 about 0 would lose all digits."""
    check_bounds((rng.standard_normal((ROWS + 500, 3)) * [1, 1e-3, 50] + offset).astype(np.float32))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda X: X, id="rows like the sample"),
        pytest.param(lambda X: X * 1e3, id="rows beyond it"),
        pytest.param(lambda X: X + np.float32(1), id="rows elsewhere, where the sample is constant"),
        pytest.param(lambda X: X * np.float32(1e-6), id="rows far below it"),
    ],
)
def test_the_rest_of_the_rows_may_be_anything(rng: np.random.Generator, change) -> None:
    """The sample makes the sums fast; it does not decide what they are."""
    X = make_rows(rng)
    X[ROWS:] = change(X[ROWS:])
    check(of(X), X)
    check_bounds(X)


def test_any_number_of_ranks_finds_the_same_bits(rng: np.random.Generator) -> None:
    """Also ranks that have no row of the sample."""
    blocks = make_blocks(make_rows(rng), rows=1_000)
    found = [
        on_ranks(size, blocks, lambda comm, mine: moments(comm, mine, weighted=False).square_D.tolist())
        for size in (1, 3)
    ]
    assert [found[0][0]] * 3 == found[1]


def test_a_constant_column_is_found(rng: np.random.Generator) -> None:
    """By its sum of squares, which is 0 to the bit."""
    assert of(make_rows(rng)).is_constant_D.tolist() == [False, False, False, True]


def test_a_bad_value_outside_the_sample_is_named(rng: np.random.Generator) -> None:
    """The error does not depend on where the value is."""
    X = make_rows(rng)
    X[-1, 2] = np.nan
    with pytest.raises(InvalidData, match="NaN or infinite values in features number 2"):
        of(X)
