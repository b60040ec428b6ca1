"""How far a point is from the minimum of a two-class linear problem: what solvers compare with the tolerance.

Legend: D features, P = D + 1.
"""

from collections.abc import Callable

from torch import Tensor

from .margin import Evaluation, MarginProblem

LOG_2 = 0.6931471805599453

# certificate = certify(problem, evaluation here, evaluation at 0, point)
Certify = Callable[[MarginProblem, Evaluation, Evaluation, Tensor], float]


def gradient_ratio(problem: MarginProblem, at: Evaluation, first: Evaluation, point_P: Tensor) -> float:
    """|gradient| by its value at 0, in the coordinates of the data."""
    start = float(problem.original_gradient(first.gradient_P)[: problem.free].norm())
    return float(problem.original_gradient(at.gradient_P)[: problem.free].norm()) / start if start else 0.0


def mean_gradient(problem: MarginProblem, at: Evaluation, first: Evaluation, point_P: Tensor) -> float:
    """The largest component of the gradient divided by the sum of costs, in the coordinates of the data."""
    cost = float(first.value) / LOG_2  # each row costs log 2 at 0
    return float(problem.original_gradient(at.gradient_P)[: problem.free].abs().max()) / cost


def duality_gap(problem: MarginProblem, at: Evaluation, first: Evaluation, point_P: Tensor) -> float:
    """(primal - dual) / primal for the hinge loss, with dual variables from the slopes of the smooth one.

    With a free intercept the dual variables of the two sides must have equal sums: the larger side is scaled down.
    """
    sum_positive, sum_negative = -float(at.positive_P[-1]), float(at.negative_P[-1])
    scale_positive = scale_negative = 1.0
    if problem.fit_intercept:
        smaller = min(sum_positive, sum_negative)
        scale_positive = smaller / sum_positive if sum_positive else 0.0
        scale_negative = smaller / sum_negative if sum_negative else 0.0
    v_D = -scale_positive * at.positive_P[:-1] - scale_negative * at.negative_P[:-1]
    dual = scale_positive * sum_positive + scale_negative * sum_negative - float(v_D @ v_D) / (2 * problem.l2)
    primal = hinge_objective(problem, at, point_P)
    return (primal - dual) / primal if primal else 0.0


def smoothing_gap(at: Evaluation, point_P: Tensor) -> float:
    """What the duality gap would be if the point were the minimum for the smooth hinge: sum of c (hinge - |slope| (1 - m))."""
    return at.hinge + float((at.positive_P - at.negative_P)[-1] - point_P @ (at.positive_P + at.negative_P))


def hinge_objective(problem: MarginProblem, at: Evaluation, point_P: Tensor) -> float:
    return at.hinge + problem.l2 * float(point_P[:-1] @ point_P[:-1]) / 2
