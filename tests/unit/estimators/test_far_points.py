"""Newton's method for two classes where its own steps lead nowhere, and sums where a bound is far above what is summed."""

import numpy as np
import pytest

from scalejob.api.v1alpha1 import Linear, Svm
from scaletrain.data.blocks import rows_per_block
from scaletrain.estimators.linear import linear
from scaletrain.estimators.svm import svm
from tests.unit.estimators.builders import fit, make_blocks, on_ranks
from tests.unit.estimators.test_ranks import many_rows, sha
from tests.unit.estimators.test_single_precision import logistic_of

R = rows_per_block(1)


def enough_rows() -> tuple[np.ndarray, np.ndarray]:
    """For a sample of them to be looked at first."""
    X, y = many_rows()
    return X[: 17 * R], y[: 17 * R]


@pytest.mark.parametrize("l2", [0.0, 1.0])
def test_a_class_that_no_sample_has_is_learned_of(l2: float) -> None:
    """One class alone leads far from the minimum of all rows, to where their Hessian is almost 0."""
    X, y = enough_rows()
    y[:] = 0
    y[3 * R + 1 : 3 * R + 4001] = 1
    found = fit(linear, Linear(task="classification", l2=l2, tolerance=1e-8), make_blocks(X, y, rows=R))
    objective, gradient = logistic_of(X, y, found.coef_KD[0], float(found.intercept_K[0]), l2)
    assert found.converged
    assert gradient <= 1.01e-8
    assert found.objective == pytest.approx(objective, rel=1e-9)


def test_rows_that_outweigh_all_others_by_far_do_not_end_the_fit() -> None:
    """By rounding a direction may lead upwards then."""
    X, y = enough_rows()
    three = np.column_stack([np.roll(X[:, 0], shift) for shift in range(3)])
    three[5:7] *= np.float32(1e17)
    found = fit(linear, Linear(task="classification"), make_blocks(three, y, rows=R))
    assert found.objective < len(y) * np.log(2)


@pytest.mark.parametrize("c", [1.0, 1e3, 1e8])
def test_an_objective_far_below_the_bound_of_its_sum_keeps_its_digits(c: float) -> None:
    """Of classes that can be separated; equal on 1 and 3 ranks."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1647, 2))
    y = (X @ [10, 1] > 0).astype(np.int64)
    params = Svm(c=c, tolerance=1e-8)
    blocks = make_blocks(X, y, rows=32)
    found = fit(svm, params, blocks)
    w, b = found.coef_KD[0].astype(np.longdouble), np.longdouble(found.intercept_K[0])
    short = np.maximum(0, 1 - (2 * y - 1) * (X.astype(np.longdouble) @ w + b))
    assert found.objective[0] == pytest.approx(float(c * (short @ short) + (w @ w + b * b) / 2), rel=1e-9)
    assert set(on_ranks(3, blocks, lambda comm, mine: sha(fit(svm, params, mine, comm=comm)))) == {sha(found)}
