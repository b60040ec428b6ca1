"""The workload `linear` with `solver: sgd`: the exact solvers' objectives, minimised by mini-batches (`descent`).

It needs no matrix of features by features, so it is meant for very many features, and reads its rows in batches. Where the exact
solver can be used it is faster: sgd takes dozens of epochs.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import ClassWeight, Linear, LinearTask, Sgd
from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Progress
from scaletrain.estimators.classes import count_classes
from scaletrain.estimators.moments import Moments, max_target, moments, row_weights
from scaletrain.exact import sum_blocks

from . import iterated, logistic
from .descent import Minimum, Schedule, descend
from .iterated import IteratedRegression
from .logistic import DEFAULT_L2, LogisticResult
from .pointwise import Logit, Softmax, Square
from .stochastic import Costs, StochasticProblem

LEAST_BATCH, LARGEST_BATCH, BATCHES = 64, 16_384, 64

SgdResult = IteratedRegression | LogisticResult


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> SgdResult:
    module = {LinearTask.REGRESSION: iterated, LinearTask.CLASSIFICATION: logistic}[params.task]
    return module.restore(params, arrays, facts)


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Linear,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> SgdResult:
    """InvalidData if the labels cannot be learned from."""
    open_problem, result = TASKS[params.task]
    problem = open_problem(comm, blocks, params)
    schedule = _schedule(params, blocks.num_rows, seed)
    return result(problem, descend(problem, schedule, progress, checkpoint), params)


def _schedule(params: Linear, num_rows: int, seed: int) -> Schedule:
    sgd = params.sgd or Sgd()
    return Schedule(
        epochs=sgd.epochs,
        batch_rows=sgd.batch_rows or min(LARGEST_BATCH, max(LEAST_BATCH, num_rows // BATCHES)),
        learning_rate=sgd.learning_rate,
        tolerance=params.tolerance,
        seed=seed,
    )


def _classification(comm: Comm, blocks: Blocks, params: Linear) -> StochasticProblem:
    classes = count_classes(comm, blocks, params.class_weight)
    costs = Costs(
        class_K=classes.weight_K if params.class_weight is ClassWeight.BALANCED else None,
        total=float((classes.total_K * classes.weight_K).sum()),
        largest=classes.max_cost,
    )
    loss = Logit() if classes.count == 2 else Softmax(columns=classes.count)
    l2 = DEFAULT_L2 if params.l2 is None else params.l2
    x = moments(comm, blocks, weighted=False)
    return StochasticProblem.of(blocks, x, loss, costs, comm=comm, l2=l2, fit_intercept=params.fit_intercept)


def _logistic_result(problem: StochasticProblem, found: Minimum, params: Linear) -> LogisticResult:
    coef_KD, intercept_K = problem.coefficients(found.point_KP)
    is_separable = problem.l2 == 0 and found.value <= params.tolerance
    return LogisticResult(
        coef_KD=coef_KD.numpy(),
        intercept_K=intercept_K.numpy(),
        n_iter=found.epochs,
        objective=found.value * problem.costs.total,
        gradient=found.gradient,
        converged=found.converged and not is_separable,
        is_separable=is_separable,
    )


def _regression(comm: Comm, blocks: Blocks, params: Linear) -> StochasticProblem:
    weighted = moments(comm, blocks, weighted=True)
    x = moments(comm, blocks, weighted=False) if weighted.is_weighted else weighted
    loss = _standardised(comm, blocks, weighted, fit_intercept=params.fit_intercept)
    costs = Costs(class_K=None, total=weighted.weight, largest=weighted.max_weight)
    l2 = params.l2 or 0.0
    return StochasticProblem.of(blocks, x, loss, costs, comm=comm, l2=l2, fit_intercept=params.fit_intercept)


def _regression_result(problem: StochasticProblem, found: Minimum, params: Linear) -> IteratedRegression:
    coef_KD, intercept_K = problem.coefficients(found.point_KP)
    target = problem.loss
    assert isinstance(target, Square)
    return IteratedRegression(
        coef_D=(target.scale * coef_KD[0]).numpy(),
        intercept=target.shift + target.scale * float(intercept_K[0]),
        n_iter=found.epochs,
        objective=2 * found.value * problem.costs.total * target.scale**2,
        certificate=found.gradient,
        solver="sgd",
        converged=found.converged,
        weight=problem.costs.total,
    )


def _standardised(comm: Comm, blocks: Blocks, x: Moments, *, fit_intercept: bool) -> Square:
    """The target about its mean, in units of its spread: about 0 without an intercept."""
    peak = max_target(comm, blocks)
    bound = torch.tensor([x.weight * peak * 2], dtype=torch.float64)

    def total(term: Tensor, bound: Tensor) -> float:
        def partial(block: Block) -> list[Tensor]:
            return [(row_weights(block) @ term(block.y_N.to(torch.float64))).reshape(1)]

        return float(sum_blocks(comm, blocks, partial, [bound])[0]) / x.weight

    shift = total(lambda y_N: y_N, bound) if fit_intercept else 0.0
    scale = total(lambda y_N: (y_N - shift) ** 2, bound * peak * 2) ** 0.5 or 1.0
    return Square(shift=shift, scale=scale, peak=(peak + abs(shift)) / scale)


TASKS = {
    LinearTask.REGRESSION: (_regression, _regression_result),
    LinearTask.CLASSIFICATION: (_classification, _logistic_result),
}
