"""The workload `svm`: a support vector classifier, by its kernel."""

from collections.abc import Mapping

import numpy as np

from scalejob.api.v1alpha1 import Svm
from scalejob.api.v1alpha1.workload import SvmKernel
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Progress

from . import rbf, svm

KERNELS = {SvmKernel.LINEAR: svm, SvmKernel.RBF: rbf}

KernelResult = svm.SvmResult | rbf.RbfResult


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Svm,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> KernelResult:
    """InvalidSpec above the limit of features; InvalidData if the labels cannot be learned from."""
    return KERNELS[params.kernel].fit(comm, blocks, params, seed=seed, progress=progress, checkpoint=checkpoint)


def restore(params: Svm, arrays: Mapping[str, np.ndarray], facts: Facts) -> KernelResult:
    return KERNELS[params.kernel].restore(params, arrays, facts)
