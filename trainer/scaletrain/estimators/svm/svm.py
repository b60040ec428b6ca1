"""Linear support vector classification, one class against the rest above two classes.

    squaredHinge  1/2 (|w|^2 + b^2) + C sum_i s_i max(0, 1 - y_i z_i)^2     scikit-learn's LinearSVC
    hinge         1/2 |w|^2 + C sum_i s_i max(0, 1 - y_i z_i)               scikit-learn's SVC(kernel="linear")

s_i: weight of the row, times the weight of its class. Above two classes, as in LinearSVC, only the rows of the class itself
get its class weight; the rest count 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import Svm
from scalejob.api.v1alpha1.workload import ClassWeight, SvmLoss
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Part, Progress
from scaletrain.estimators.classes import Classes, count_classes
from scaletrain.estimators.decision import decision_values, set_fitted
from scaletrain.estimators.limits import check_features, check_hinge
from scaletrain.estimators.margin.certificates import gradient_ratio
from scaletrain.estimators.margin.led import Options
from scaletrain.estimators.margin.losses import SquaredHinge
from scaletrain.estimators.margin.margin import MarginProblem
from scaletrain.estimators.margin.newton import minimise
from scaletrain.estimators.moments import Moments, moments
from scaletrain.estimators.solution import Solution, solutions_of, state_of

from .multipliers import minimise_hinge

if TYPE_CHECKING:
    from sklearn.svm import LinearSVC

CERTIFICATES = {SvmLoss.SQUARED_HINGE: "gradient", SvmLoss.HINGE: "gap"}
SKLEARN_LOSS = {SvmLoss.SQUARED_HINGE: "squared_hinge", SvmLoss.HINGE: "hinge"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SvmResult:
    """One row of coefficients for two classes, else one for each class. Legend: K rows, D features."""

    coef_KD: np.ndarray  # float64
    intercept_K: np.ndarray
    n_iter: tuple[int, ...]
    objective: tuple[float, ...]
    certificate: tuple[float, ...]  # squaredHinge: gradient norm by its first value; hinge: relative duality gap
    converged: bool
    loss: str

    def arrays(self) -> dict[str, np.ndarray]:
        return {"coef": self.coef_KD, "intercept": self.intercept_K}

    def facts(self) -> Facts:
        facts: Facts = {
            "n_iter": list(self.n_iter),
            "objective": list(self.objective),
            CERTIFICATES[SvmLoss(self.loss)]: list(self.certificate),
            "converged": self.converged,
        }
        if not self.converged:
            facts["warning"] = "the tolerance was not reached: raise maxIterations, scale the features, or lower C"
        return facts

    def decision(self, X_ND: Tensor) -> Tensor:
        """Decision values, float64: (N,) for two classes, else (N, K)."""
        return decision_values(X_ND, self.coef_KD, self.intercept_K)

    def to_sklearn(self, params: Svm, classes: np.ndarray | None) -> "LinearSVC":
        """A LinearSVC. With the hinge loss its coefficients are those of SVC(kernel="linear"), whose intercept is free."""
        from sklearn.svm import LinearSVC  # noqa: PLC0415 - takes a second

        model = LinearSVC(
            loss=SKLEARN_LOSS[params.loss],
            C=params.c,
            fit_intercept=params.fit_intercept,
            class_weight="balanced" if params.class_weight is ClassWeight.BALANCED else None,
            tol=params.tolerance,
            max_iter=params.max_iterations,
        )
        set_fitted(model, self.coef_KD, self.intercept_K, classes)
        model.n_iter_ = max(self.n_iter)
        return model


def restore(params: Svm, arrays: Mapping[str, np.ndarray], facts: Facts) -> SvmResult:
    return SvmResult(
        coef_KD=arrays["coef"],
        intercept_K=arrays["intercept"],
        n_iter=tuple(facts["n_iter"]),
        objective=tuple(facts["objective"]),
        certificate=tuple(facts[CERTIFICATES[params.loss]]),
        converged=facts["converged"],
        loss=params.loss.value,
    )


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Svm,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> SvmResult:
    """InvalidSpec above the limit of features; InvalidData if the labels cannot be learned from. `seed` is not used."""
    check_features(blocks.num_features, "svm")
    if params.loss is SvmLoss.HINGE:
        check_hinge(blocks.num_features)
    classes = count_classes(comm, blocks, params.class_weight)
    x = moments(comm, blocks, weighted=False)
    solutions = solutions_of(checkpoint.resume())
    positives = range(classes.count) if classes.count > 2 else [1]
    for positive in positives[len(solutions) :]:
        problem = _problem(comm, blocks, params, (x, classes), positive)
        steps = sum(solution.n_iter for solution in solutions)
        part = Part(whole=checkpoint, name=f"class-{positive}", around=partial(state_of, solutions), steps=steps)
        solutions.append(_solve(problem, params, _options(params, steps, part), progress))
    return SvmResult(
        coef_KD=torch.stack([solution.coef_D for solution in solutions]).numpy(),
        intercept_K=np.array([solution.intercept for solution in solutions]),
        n_iter=tuple(solution.n_iter for solution in solutions),
        objective=tuple(solution.objective for solution in solutions),
        certificate=tuple(solution.certificate for solution in solutions),
        converged=all(solution.converged for solution in solutions),
        loss=params.loss.value,
    )


def _problem(comm: Comm, blocks: Blocks, params: Svm, data: tuple[Moments, Classes], positive: int) -> MarginProblem:
    x, classes = data
    return MarginProblem(
        comm=comm,
        blocks=blocks,
        x=x,
        positive=positive,
        cost_positive=params.c * float(classes.weight_K[positive]),
        cost_negative=params.c * (float(classes.weight_K[0]) if classes.count == 2 else 1.0),
        max_cost=params.c * classes.max_cost,
        l2=1.0,
        intercept_l2=float(params.fit_intercept and params.loss is SvmLoss.SQUARED_HINGE),
        fit_intercept=params.fit_intercept,
    )


def _options(params: Svm, steps: int, checkpoint: Checkpoint) -> Options:
    return Options(
        tolerance=params.tolerance,
        max_iterations=params.max_iterations,
        metric=CERTIFICATES[params.loss],
        first_step=steps,
        checkpoint=checkpoint,
    )


def _solve(problem: MarginProblem, params: Svm, options: Options, progress: Progress) -> Solution:
    if params.loss is SvmLoss.HINGE:
        return minimise_hinge(problem, options, progress)
    return minimise(problem, SquaredHinge(), gradient_ratio, options, progress)
