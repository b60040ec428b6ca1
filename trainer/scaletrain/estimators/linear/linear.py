"""The workload `linear`: least squares or logistic regression, by its task and solver."""

from collections.abc import Mapping
from types import ModuleType

import numpy as np

from scalejob.api.v1alpha1 import Linear, LinearSolver, LinearTask
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Progress
from scaletrain.estimators.limits import check_features

from . import elastic, iterated, logistic, regression, sgd

# By task, solver, and whether there is an l1.
SOLVERS = {
    (LinearTask.REGRESSION, LinearSolver.EXACT, False): regression,
    (LinearTask.REGRESSION, LinearSolver.EXACT, True): elastic,
    (LinearTask.CLASSIFICATION, LinearSolver.EXACT, False): logistic,
    (LinearTask.REGRESSION, LinearSolver.SGD, False): sgd,
    (LinearTask.CLASSIFICATION, LinearSolver.SGD, False): sgd,
}

LinearResult = regression.RegressionResult | iterated.IteratedRegression | logistic.LogisticResult


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Linear,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> LinearResult:
    """InvalidSpec above the limit of features; InvalidData if the labels cannot be learned from."""
    if params.solver is LinearSolver.EXACT:
        check_features(blocks.num_features, "linear")
    return _solver(params).fit(comm, blocks, params, seed=seed, progress=progress, checkpoint=checkpoint)


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> LinearResult:
    return _solver(params).restore(params, arrays, facts)


def _solver(params: Linear) -> ModuleType:
    return SOLVERS[params.task, params.solver, bool(params.l1)]
