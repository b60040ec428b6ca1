"""The workload `linear`: least squares or logistic regression, by its task."""

from collections.abc import Mapping

import numpy as np

from scalejob.api.v1alpha1 import Linear
from scalejob.api.v1alpha1.workload import LinearTask
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks

from . import logistic, regression
from .base import NO_CHECKPOINT, Checkpoint, Facts, Progress
from .limits import check_features

TASKS = {LinearTask.REGRESSION: regression, LinearTask.CLASSIFICATION: logistic}

LinearResult = regression.RegressionResult | logistic.LogisticResult


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
    check_features(blocks.num_features, "linear")
    return TASKS[params.task].fit(comm, blocks, params, seed=seed, progress=progress, checkpoint=checkpoint)


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> LinearResult:
    return TASKS[params.task].restore(params, arrays, facts)
