"""How far a point is from the minimum of a two-class linear problem: what solvers compare with the tolerance.

Legend: D features, P = D + 1.
"""

from collections.abc import Callable

from torch import Tensor

from .evaluation import Evaluation
from .margin import MarginProblem

LOG_2 = 0.6931471805599453

# certificate = certify(problem, evaluation here, point)
Certify = Callable[[MarginProblem, Evaluation, Tensor], float]


def gradient_ratio(problem: MarginProblem, at: Evaluation, point_P: Tensor) -> float:
    """|gradient| by its value at 0, in the coordinates of the data."""
    start = float(problem.original_gradient(at.first.gradient_P)[: problem.free].norm())
    return float(problem.original_gradient(at.gradient_P)[: problem.free].norm()) / start if start else 0.0


def mean_gradient(problem: MarginProblem, at: Evaluation, point_P: Tensor) -> float:
    """The largest component of the gradient divided by the sum of costs, in the coordinates of the data."""
    cost = float(at.first.value) / LOG_2  # each row costs log 2 at 0
    return float(problem.original_gradient(at.gradient_P)[: problem.free].abs().max()) / cost if cost else 0.0
