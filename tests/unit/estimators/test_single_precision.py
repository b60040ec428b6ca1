"""Fits that take their first steps in float32 end as if they had not: what they tell of the last point is float64."""

import numpy as np
import pytest

from scalejob.api.v1alpha1 import Linear, Svm
from scaletrain.data.blocks import rows_per_block
from scaletrain.estimators.linear import linear
from scaletrain.estimators.svm import svm
from tests.unit.estimators.builders import fit, make_blocks
from tests.unit.estimators.test_ranks import many_rows


def logistic_of(X: np.ndarray, y: np.ndarray, w: np.ndarray, b: float, l2: float = 1.0) -> tuple[float, float]:
    """The objective and the largest component of its mean gradient."""
    sign = np.where(y > 0, 1, -1)
    margin = sign * (X.astype(float) @ w + b)
    slope = -sign / (1 + np.exp(margin))
    gradient = [*(slope @ X.astype(float) + l2 * w), slope.sum()]
    return float(np.logaddexp(0, -margin).sum() + l2 * w @ w / 2), float(np.abs(gradient).max() / len(y))


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_the_objective_and_gradient_of_the_last_point_are_float64(steps: int) -> None:
    """Also where the steps ran out far from the minimum."""
    X, y = many_rows()
    found = fit(linear, Linear(task="classification", max_iterations=steps), make_blocks(X, y, rows=rows_per_block(1)))
    objective, gradient = logistic_of(X, y, found.coef_KD[0], float(found.intercept_K[0]))
    assert found.objective == pytest.approx(objective, rel=1e-12)
    assert found.gradient == pytest.approx(gradient, rel=1e-6, abs=1e-14)
    assert found.converged == (gradient <= 1e-6)


@pytest.mark.parametrize("offset", [0, 3, 1e3])
@pytest.mark.parametrize("unit", [1e-8, 1, 10])
def test_units_and_offsets_do_not_matter(offset: float, unit: float) -> None:
    """float32 is not used where it would lose digits: the minimum of the same rows in other units is found as well."""
    X, y = many_rows()
    moved = ((X.astype(float) + offset) * unit).astype(np.float32)
    params = Linear(task="classification", l2=0, tolerance=1e-7 * unit * (1 + offset))
    found = fit(linear, params, make_blocks(moved, y, rows=rows_per_block(1)))
    objective, _ = logistic_of(moved, y, found.coef_KD[0], float(found.intercept_K[0]), l2=0)
    want = fit(linear, params, make_blocks(moved.astype(float), y, rows=rows_per_block(1)))
    assert found.converged
    assert found.objective == pytest.approx(objective, rel=1e-10)
    assert found.objective <= want.objective * (1 + 1e-9)


def test_the_squared_hinge_tells_its_objective_in_float64() -> None:
    X, y = many_rows()
    found = fit(svm, Svm(), make_blocks(X, y, rows=rows_per_block(1)))
    w, b = found.coef_KD[0], float(found.intercept_K[0])
    short = np.maximum(0, 1 - np.where(y > 0, 1, -1) * (X.astype(float) @ w + b))
    assert found.objective[0] == pytest.approx(float(short @ short + (w @ w + b * b) / 2), rel=1e-12)
    assert found.converged


def test_a_constant_column_far_from_0_does_not_matter() -> None:
    """Its sums in float32 would be far beyond what bounds them."""
    X, y = many_rows()
    more = np.column_stack([X, np.full(len(X), 1e6, np.float32)])
    found = fit(linear, Linear(task="classification"), make_blocks(more, y, rows=rows_per_block(1)))
    want = fit(linear, Linear(task="classification"), make_blocks(X, y, rows=rows_per_block(1)))
    assert found.objective == pytest.approx(want.objective, rel=1e-9)
    assert found.coef_KD[0, 1] == 0
