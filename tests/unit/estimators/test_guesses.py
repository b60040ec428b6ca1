"""Logistic regression bounds its sums by a sample where rows are many: rows that are not like it change nothing but the time."""

import numpy as np
import pytest

from scalejob.api.v1alpha1 import Linear
from scaletrain.data.blocks import rows_per_block
from scaletrain.errors import InvalidData
from scaletrain.estimators.linear import linear, logistic
from tests.unit.estimators.builders import fit, make_blocks, on_ranks, quiet
from tests.unit.estimators.test_ranks import many_rows, sha
from tests.unit.estimators.test_resume import Shelf
from tests.unit.estimators.test_single_precision import logistic_of

R = rows_per_block(1)
ELSEWHERE = slice(3 * R + 5, 3 * R + 9)  # rows of a block that is in no sample
PARAMS = Linear(task="classification")


def blocks_with(value: float):
    """`many_rows`, a few of which have another value."""
    X, y = many_rows()
    X[ELSEWHERE] = value
    return X, y, make_blocks(X, y, rows=R)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each pass that had to be made over all rows for bounds."""
    found, real = [], logistic.moments
    monkeypatch.setattr(logistic, "moments", lambda *args, **more: (found.append(True), real(*args, **more))[1])
    return found


@pytest.mark.parametrize(("value", "is_guess_good"), [(0.5, True), (100.0, True), (1e9, False)])
def test_outliers_that_no_sample_has_are_learned_from(value: float, is_guess_good: bool, measured: list[bool]) -> None:
    """The minimum of all rows, on 1 and 3 ranks alike."""
    X, y, blocks = blocks_with(value)
    found = fit(linear, PARAMS, blocks)
    assert bool(measured) != is_guess_good
    objective, gradient = logistic_of(X, y, found.coef_KD[0], float(found.intercept_K[0]))
    assert found.converged
    assert gradient <= 1.01e-6
    assert found.objective == pytest.approx(objective, rel=1e-10)
    assert set(on_ranks(3, blocks, lambda comm, mine: sha(fit(linear, PARAMS, mine, comm=comm)))) == {sha(found)}


def test_a_column_that_is_constant_in_the_sample_alone_counts(measured: list[bool]) -> None:
    X, y = many_rows()
    other = np.zeros(len(X), np.float32)
    other[ELSEWHERE] = [1, 2, 3, 4]
    both = np.column_stack([X, other])
    found = fit(linear, PARAMS, make_blocks(both, y, rows=R))
    assert measured
    assert abs(found.coef_KD[0, 1]) > 1e-3
    assert logistic_of(both, y, found.coef_KD[0], float(found.intercept_K[0]))[1] <= 1.01e-6


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_told_of_as_ever(value: float) -> None:
    with pytest.raises(InvalidData, match="features number 0"):
        fit(linear, PARAMS, blocks_with(value)[2])


def test_what_was_saved_before_a_guess_failed_is_forgotten() -> None:
    """The fit begins again with bounds that were measured, as the one did that was not disturbed."""
    _, _, good = blocks_with(0.5)
    _, _, bad = blocks_with(1e9)

    def run(blocks, saved=None):
        shelf = Shelf(saved)
        work = lambda comm, mine: logistic.fit(comm, mine, PARAMS, seed=0, progress=quiet, checkpoint=shelf)  # noqa: E731
        return on_ranks(1, blocks, work)[0], shelf

    want, undisturbed = run(bad)
    _, before = run(good)
    assert all(name.startswith("guessed/") for name in before.states[1])
    assert all(name.startswith("measured/") for name in undisturbed.states[1])
    for saved in (before.states[1], *undisturbed.states):
        assert sha(run(bad, saved)[0]) == sha(want)
