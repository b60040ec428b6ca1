"""The estimators: exact, distributed fits over blocks. No I/O, no clock; collectives only through `Comm`.

`kmeans`, `linear` and `svm` hold a workload each, `margin` what linear classifiers share, and the modules here what all share.
"""

from importlib import import_module
from typing import cast

from scalejob.api.v1alpha1 import Workload

from .base import Estimator

# Modules are imported when they are used: a rank needs one of them.
ESTIMATORS = {
    "kmeans": "scaletrain.estimators.kmeans.kmeans",
    "linear": "scaletrain.estimators.linear.linear",
    "svm": "scaletrain.estimators.svm.kernels",
}


def estimator_for(workload: Workload) -> Estimator:
    """The estimator of the workload. Not for `command`, which is not a fit."""
    return cast(Estimator, import_module(ESTIMATORS[workload.name]))
