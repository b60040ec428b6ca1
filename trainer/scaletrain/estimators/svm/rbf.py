"""The workload `svm` with the RBF kernel: the linear machine (`svm`) in the features of Nystroem (`nystroem`).

Its objective is that of scikit-learn's make_pipeline(Nystroem(), LinearSVC()); with as many landmarks as rows and the hinge
loss, that of SVC(kernel="rbf"). What is all-reduced, and the certificate, are the linear machine's, in R features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from scalejob.api.v1alpha1 import Svm
from scalejob.api.v1alpha1.workload import SvmKernel
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Progress

from . import svm
from .nystroem import Nystroem, fit_nystroem
from .svm import SvmResult

if TYPE_CHECKING:
    from sklearn.kernel_approximation import Nystroem as SklearnNystroem
    from sklearn.pipeline import Pipeline

DEFAULT_LANDMARKS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RbfResult:
    """A map and a linear machine behind it."""

    features: Nystroem
    machine: SvmResult

    def arrays(self) -> dict[str, np.ndarray]:
        return {**self.features.arrays(), **self.machine.arrays()}

    def facts(self) -> Facts:
        return {**self.machine.facts(), "gamma": self.features.gamma, "landmarks": len(self.features.landmarks_MD)}

    def decision(self, X_ND: Tensor) -> Tensor:
        """Decision values, float64: (N,) for two classes, else (N, K)."""
        return self.machine.decision(self.features.of(X_ND))

    def to_sklearn(self, params: Svm, classes: np.ndarray | None) -> "Pipeline":
        """A Pipeline of Nystroem and LinearSVC."""
        from sklearn.pipeline import Pipeline  # noqa: PLC0415 - takes a second

        linear = self.machine.to_sklearn(linear_params(params), classes)
        return Pipeline([("nystroem", self._sklearn_features()), ("svm", linear)])

    def _sklearn_features(self) -> "SklearnNystroem":
        """Without `component_indices_`: the landmarks are no rows."""
        from sklearn.kernel_approximation import Nystroem as SklearnNystroem  # noqa: PLC0415 - takes a second

        num_landmarks, num_features = self.features.landmarks_MD.shape
        model = SklearnNystroem(kernel="rbf", gamma=self.features.gamma, n_components=num_landmarks)
        model.components_ = self.features.landmarks_MD.copy()
        model.normalization_ = self.features.normalization_RM.copy()
        model.n_features_in_, model._n_features_out = num_features, len(self.features.normalization_RM)
        return model


def linear_params(params: Svm) -> Svm:
    """Of the linear machine in the features of the kernel."""
    return params.model_copy(update={"kernel": SvmKernel.LINEAR, "gamma": None, "landmarks": None})


def restore(params: Svm, arrays: Mapping[str, np.ndarray], facts: Facts) -> RbfResult:
    return RbfResult(
        features=Nystroem.restored(arrays, facts["gamma"]),
        machine=svm.restore(linear_params(params), arrays, facts),
    )


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Svm,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> RbfResult:
    """InvalidData if the labels cannot be learned from. A resumed fit finds the same landmarks again."""
    features = fit_nystroem(comm, blocks, params.gamma, params.landmarks or DEFAULT_LANDMARKS, seed)
    mapped = features.of_blocks(comm, blocks)
    machine = svm.fit(comm, mapped, linear_params(params), seed=seed, progress=progress, checkpoint=checkpoint)
    return RbfResult(features=features, machine=machine)
