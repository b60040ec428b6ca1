"""Mini-batches against the exact solvers: the same optimum, by a path that does not depend on ranks."""

from itertools import chain

import numpy as np
import pytest
import torch

from scalejob.api.v1alpha1 import Linear, Sgd
from scaletrain.comm import SoloComm
from scaletrain.errors import InvalidData
from scaletrain.estimators.linear import linear
from scaletrain.estimators.linear.batches import Batches, Plan
from tests.unit.estimators.builders import fit, make_blocks, on_ranks

TASKS = {"regression": 1, "two classes": 2, "three classes": 3}


def params(name: str, *, solver: str = "sgd", **fields) -> Linear:
    task = "regression" if name == "regression" else "classification"
    return Linear(task=task, solver=solver, **{"l2": 1.0, **fields})


def problem(rng: np.random.Generator, name: str, n: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated features of different units and offsets; weights with zeros."""
    Z = rng.standard_normal((n, 6)) @ (np.eye(6) + 0.4)
    score = Z @ np.linspace(-1, 1, 6) + rng.logistic(size=n)
    y = {"regression": 100 + 5 * score, "two classes": (score > 0.5) * 1, "three classes": np.digitize(score, [-1, 1])}
    return Z * [1, 10, 0.1, 3, 1, 1] + [0, 50, 1, 0, -2, 0], y[name], rng.integers(0, 3, n).astype(float)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_objective_is_the_exact_solvers(rng, name, fit_intercept):
    """To 1e-6, with weights; coefficients agree to 1e-3 of the largest."""
    X, y, weight = problem(rng, name)
    blocks = make_blocks(X, y, weight, rows=256)
    fields = {"fit_intercept": fit_intercept, "tolerance": 1e-5}
    found = fit(linear, params(name, sgd=Sgd(epochs=200), **fields), blocks)
    exact = fit(linear, params(name, solver="exact", fit_intercept=fit_intercept, tolerance=1e-9), blocks)
    assert found.converged
    assert found.objective == pytest.approx(exact.objective, rel=1e-6)
    want = exact.arrays()
    for key, value in found.arrays().items():
        assert value == pytest.approx(want[key], abs=1e-3 * max(1, np.abs(want[key]).max()))


def test_class_weights_count_as_in_the_exact_solver(rng):
    """classWeight: balanced."""
    X, y, weight = problem(rng, "two classes")
    blocks = make_blocks(X, y, weight, rows=512)
    found, exact = (
        fit(linear, params("two classes", solver=solver, class_weight="balanced", sgd=sgd), blocks)
        for solver, sgd in (("sgd", Sgd(epochs=200)), ("exact", None))
    )
    assert found.objective == pytest.approx(exact.objective, rel=1e-6)


@pytest.mark.parametrize("rate", [20.0, 100.0])
def test_steps_that_are_too_long_are_halved(rng, rate):
    """The objective is never worse than at the beginning, and the fit gets there in the end."""
    X, y, _ = problem(rng, "regression")
    blocks = make_blocks(X, y, rows=512)
    found = fit(linear, params("regression", sgd=Sgd(learning_rate=rate, epochs=100), tolerance=1e-4), blocks)
    assert found.converged
    assert fit(linear, params("regression", sgd=Sgd(learning_rate=rate, epochs=1)), blocks).n_iter == 1


def test_a_fit_that_runs_out_of_epochs_says_so(rng):
    """With a warning in the facts."""
    X, y, _ = problem(rng, "regression")
    result = fit(linear, params("regression", sgd=Sgd(epochs=2), tolerance=1e-9), make_blocks(X, y))
    assert (result.n_iter, result.converged) == (2, False)
    assert "epochs" in result.facts()["warning"]


def test_constant_columns_get_no_coefficient(rng):
    """Without a penalty as well, however large they are."""
    X, y, _ = problem(rng, "regression", 400)
    X[:, 1] = 1e6
    assert fit(linear, params("regression", l2=0.0, tolerance=1e-4), make_blocks(X, y)).coef_D[1] == 0


@pytest.mark.parametrize("name", TASKS)
def test_the_scikit_learn_model_predicts_the_same(rng, name):
    """That of the exact solver's class."""
    X, y, _ = problem(rng, name, 500)
    chosen = params(name, sgd=Sgd(epochs=3))
    result = fit(linear, chosen, make_blocks(X, y))
    model = result.to_sklearn(chosen, None)
    decide = model.predict if name == "regression" else model.decision_function
    assert decide(X) == pytest.approx(result.decision(torch.from_numpy(X)).numpy())
    restored = linear.restore(chosen, result.arrays(), result.facts())
    assert restored.facts() == result.facts()


def test_one_class_is_refused(rng):
    """As by the exact solver."""
    with pytest.raises(InvalidData, match="one class"):
        fit(linear, params("two classes"), make_blocks(rng.standard_normal((9, 2)), np.zeros(9, dtype=np.int64)))


def steps(batches: Batches, plan: Plan, epoch: int) -> list[list[int]]:
    return [
        [row for block in batches.of(epoch, step).blocks for row in block.row_N.tolist()]
        for step in range(plan.num_steps)
    ]


def test_an_epoch_uses_each_row_once_in_batches_of_about_one_size(rng):
    """Another epoch takes them in another order."""
    blocks = make_blocks(rng.standard_normal((7000, 2)), rows=1500)
    plan = Plan.of(SoloComm(), blocks, 2048, seed=1)
    first, second = (steps(Batches(blocks, plan), plan, epoch) for epoch in (0, 1))
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(7000))
    assert first != second
    assert all(500 <= len(batch) <= 2200 for batch in first)


def test_a_batch_has_rows_from_all_over_the_data(rng):
    """From each of as many parts of the data as it has blocks, so that each rank has work."""
    blocks = make_blocks(rng.standard_normal((16_000, 1)), rows=1000)
    plan = Plan.of(SoloComm(), blocks, 4096, seed=1)
    for batch in steps(Batches(blocks, plan), plan, 3):
        assert {row // 4000 for row in batch} == {0, 1, 2, 3}


def test_batches_are_the_same_on_any_number_of_ranks(rng):
    """Together the ranks have the rows that one has, and none has them twice."""
    blocks = make_blocks(rng.standard_normal((5000, 1)), rows=500)

    def work(comm, mine):
        plan = Plan.of(comm, mine, 1024, seed=1)
        return steps(Batches(mine, plan), plan, 2)

    (want,) = on_ranks(1, blocks, work)
    parts = on_ranks(3, blocks, work)
    assert [sorted(chain(*step)) for step in zip(*parts, strict=True)] == [sorted(step) for step in want]
