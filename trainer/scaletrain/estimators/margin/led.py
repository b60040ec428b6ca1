"""A two-class problem that rank 0 leads to its solution: what Newton's method and that of multipliers have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from scaletrain.errors import TrainerError
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Progress
from scaletrain.estimators.leader import lead
from scaletrain.estimators.solution import Solution

from .margin import MarginProblem

T = TypeVar("T")

TOO_LARGE = 1e100


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    tolerance: float
    max_iterations: int
    metric: str  # what progress calls the certificate
    first_step: int = 0  # steps of earlier problems, for progress
    checkpoint: Checkpoint = NO_CHECKPOINT

    def reporter(self, progress: Progress) -> Callable[[int, float], None]:
        """What tells of a step of this problem and its certificate."""
        return lambda step, certificate: progress(self.first_step + step, metric=self.metric, value=certificate)


def answer(point_P: Tensor, *, n_iter: int, objective: float, certificate: float, converged: bool) -> Tensor:
    """What `solve` returns, as numbers."""
    return torch.cat([point_P, torch.tensor([n_iter, objective, certificate, converged], dtype=torch.float64)])


def led_solution(
    problem: MarginProblem,
    serve: Callable[[Tensor], T],
    solve: Callable[[Callable[[Tensor], T]], Tensor],
    *,
    request: int,
    report: Callable[[int, float], None],
) -> Solution:
    """As `lead`, where `solve` returns an `answer`. Tells of the last step."""
    size = len(problem.x.mean_D) + 1
    found = lead(problem.comm, serve, solve, request=request, answer=size + 4)
    point_P, (n_iter, objective, certificate, converged) = found[:size], found[size:].tolist()
    report(int(n_iter), certificate)
    return Solution(
        coef_D=point_P[:-1],
        intercept=float(problem.intercept(point_P)) if problem.fit_intercept else 0.0,
        n_iter=int(n_iter),
        objective=objective,
        certificate=certificate,
        converged=bool(converged),
    )


def check_size(point_P: Tensor, n_iter: int) -> None:
    if not float(point_P.abs().max()) < TOO_LARGE:
        raise TrainerError(f"the coefficients are not finite, or too large, after {n_iter} steps")
