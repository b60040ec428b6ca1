"""Logistic regression: Newton's method for two classes, preconditioned L-BFGS for more.

    minimise  l2/2 |w|^2 + sum_i c_i log(1 + exp(-y_i z_i))            two classes
              l2/2 |W|^2 + sum_i c_i (log sum_k exp z_ik - z_i,y(i))   more (softmax)

That is scikit-learn's LogisticRegression with C = 1/l2; the intercept is not penalised. c_i: weight of the row, times the weight
of its class. With fewer rows than features a direction takes few conjugate gradients, where the matrix of 300 x 5,000 takes seconds.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from scalejob.api.v1alpha1 import Linear
from scalejob.api.v1alpha1.workload import ClassWeight
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Part, Progress
from scaletrain.estimators.classes import Classes, count_classes
from scaletrain.estimators.decision import decision_values, set_fitted
from scaletrain.estimators.margin.certificates import mean_gradient
from scaletrain.estimators.margin.led import Options
from scaletrain.estimators.margin.losses import Logistic
from scaletrain.estimators.margin.margin import MarginProblem
from scaletrain.estimators.margin.newton import minimise
from scaletrain.estimators.margin.sums import Misled
from scaletrain.estimators.moments import Moments, guessed_moments, moments

from .multinomial import MultinomialProblem, minimise_multinomial

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

DEFAULT_L2 = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticResult:
    """One row of coefficients for two classes, else one for each class. Legend: K rows, D features."""

    coef_KD: np.ndarray  # float64
    intercept_K: np.ndarray
    n_iter: int
    objective: float
    gradient: float  # largest component of the gradient divided by the sum of costs
    converged: bool
    is_separable: bool  # the loss can be made 0, so that without l2 the coefficients have no finite optimum

    def arrays(self) -> dict[str, np.ndarray]:
        return {"coef": self.coef_KD, "intercept": self.intercept_K}

    def facts(self) -> Facts:
        names = ("n_iter", "objective", "gradient", "converged", "is_separable")
        facts: Facts = {name: getattr(self, name) for name in names}
        if self.is_separable:
            facts["warning"] = (
                "the classes can be separated: without l2 the coefficients have no finite optimum; the fit ended when the "
                "mean loss was below the tolerance"
            )
        elif not self.converged:
            facts["warning"] = (
                "the tolerance was not reached: raise maxIterations (sgd: epochs), scale the features, or raise l2"
            )
        return facts

    def decision(self, X_ND: Tensor) -> Tensor:
        """Decision values, float64: (N,) for two classes, else (N, K)."""
        return decision_values(X_ND, self.coef_KD, self.intercept_K)

    def to_sklearn(self, params: Linear, classes: np.ndarray | None) -> "LogisticRegression":
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - takes a second

        l2 = DEFAULT_L2 if params.l2 is None else params.l2
        model = LogisticRegression(
            C=1 / l2 if l2 else np.inf,
            fit_intercept=params.fit_intercept,
            class_weight="balanced" if params.class_weight is ClassWeight.BALANCED else None,
            tol=params.tolerance,
            max_iter=params.max_iterations,
        )
        set_fitted(model, self.coef_KD, self.intercept_K, classes)
        model.n_iter_ = np.array([self.n_iter], dtype=np.int32)
        return model


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> LogisticResult:
    return LogisticResult(
        coef_KD=arrays["coef"],
        intercept_K=arrays["intercept"],
        n_iter=facts["n_iter"],
        objective=facts["objective"],
        gradient=facts["gradient"],
        converged=facts["converged"],
        is_separable=facts["is_separable"],
    )


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Linear,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> LogisticResult:
    """InvalidData if the labels cannot be learned from. `seed` is not used: nothing is random."""
    classes = count_classes(comm, blocks, params.class_weight)
    l2 = DEFAULT_L2 if params.l2 is None else params.l2
    options = Options(
        tolerance=params.tolerance, max_iterations=params.max_iterations, metric="gradient", checkpoint=checkpoint
    )
    if classes.count > 2:
        x = moments(comm, blocks, weighted=False)
        data = _Data(comm=comm, blocks=blocks, x=x, classes=classes)
        return _more_classes(data, l2, params.fit_intercept, options, progress)

    def fit_with(x: Moments | None, name: str) -> LogisticResult:
        x = x or moments(comm, blocks, weighted=False, are_rough_enough=True)
        data = _Data(comm=comm, blocks=blocks, x=x, classes=classes)
        part = Part(whole=checkpoint, name=name, around=dict)
        return _two_classes(data, l2, params.fit_intercept, replace(options, checkpoint=part), progress)

    guess = None if _is_begun(checkpoint, MEASURED) else _guess(comm, blocks)
    if guess:
        with suppress(Misled):
            return fit_with(guess, GUESSED)
    return fit_with(None, MEASURED)


# Names of a fit's state in a checkpoint: of one whose sums were bounded by a sample, and of one where that was not possible.
GUESSED, MEASURED = "guessed", "measured"
MANY_BLOCKS = 16  # of which a sample is small
FEW_FEATURES = 256  # of which a matrix costs nothing


def _is_begun(checkpoint: Checkpoint, name: str) -> bool:
    return Part(whole=checkpoint, name=name, around=dict).resume() is not None


def _guess(comm: Comm, blocks: Blocks) -> Moments | None:
    """None where a pass over all rows costs next to nothing."""
    return guessed_moments(comm, blocks) if blocks.num_blocks >= MANY_BLOCKS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    comm: Comm
    blocks: Blocks
    x: Moments
    classes: Classes

    @property
    def cost(self) -> float:
        """Sum of the costs of all rows."""
        return float((self.classes.total_K * self.classes.weight_K).sum())


def _two_classes(data: _Data, l2: float, fit_intercept: bool, options: Options, progress: Progress) -> LogisticResult:
    problem = MarginProblem(
        comm=data.comm,
        blocks=data.blocks,
        x=data.x,
        positive=1,
        cost_positive=float(data.classes.weight_K[1]),
        cost_negative=float(data.classes.weight_K[0]),
        max_cost=data.classes.max_cost,
        l2=l2,
        intercept_l2=0.0,
        fit_intercept=fit_intercept,
        has_first_gradient=False,
        avoids_matrix=l2 > 0 and data.blocks.num_features > max(FEW_FEATURES, data.blocks.num_rows),
    )
    found = minimise(problem, Logistic(), mean_gradient, options, progress)
    is_separable = l2 == 0 and found.objective <= options.tolerance * data.cost
    return LogisticResult(
        coef_KD=found.coef_D.numpy()[None, :],
        intercept_K=np.array([found.intercept]),
        n_iter=found.n_iter,
        objective=found.objective,
        gradient=found.certificate,
        converged=found.converged and not is_separable,
        is_separable=is_separable,
    )


def _more_classes(data: _Data, l2: float, fit_intercept: bool, options: Options, progress: Progress) -> LogisticResult:
    problem = MultinomialProblem(
        comm=data.comm,
        blocks=data.blocks,
        x=data.x,
        classes=data.classes,
        cost=data.cost,
        l2=l2,
        fit_intercept=fit_intercept,
    )
    found = minimise_multinomial(problem, options, progress)
    is_separable = l2 == 0 and found.objective <= options.tolerance * data.cost
    return LogisticResult(
        coef_KD=found.coef_KD.numpy(),
        intercept_K=found.intercept_K.numpy(),
        n_iter=found.n_iter,
        objective=found.objective,
        gradient=found.certificate,
        converged=found.converged and not is_separable,
        is_separable=is_separable,
    )
