"""The estimators: exact, distributed fits over blocks. No I/O, no clock; collectives only through `Comm`."""

from importlib import import_module
from typing import cast

from scalejob.api.v1alpha1 import Workload

from .base import Estimator

# Modules are imported when they are used: a rank needs one of them.
ESTIMATORS = {
    "kmeans": "scaletrain.estimators.kmeans",
    "linear": "scaletrain.estimators.linear",
    "svm": "scaletrain.estimators.kernels",
}


def estimator_for(workload: Workload) -> Estimator:
    """The estimator of the workload. Not for `command`, which is not a fit."""
    return cast(Estimator, import_module(ESTIMATORS[workload.name]))
