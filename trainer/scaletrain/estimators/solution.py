"""Where a two-class problem ended, and how a checkpoint keeps it while the next one is solved.

Legend: D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Where Newton's method ended. Equal on all ranks."""

    coef_D: Tensor
    intercept: float
    n_iter: int
    objective: float  # for the hinge: with the hinge itself, not the smooth one
    certificate: float  # what was compared with the tolerance
    converged: bool


def state_of(solutions: Sequence[Solution]) -> State:
    """What a checkpoint keeps of the problems that are solved."""
    if not solutions:
        return {}
    facts = [[s.intercept, s.n_iter, s.objective, s.certificate, s.converged] for s in solutions]
    return {
        "solved/coef": torch.stack([solution.coef_D for solution in solutions]),
        "solved/facts": torch.tensor(facts, dtype=torch.float64),
    }


def solutions_of(saved: State | None) -> list[Solution]:
    if not saved or "solved/coef" not in saved:
        return []
    return [
        Solution(
            coef_D=coef_D,
            intercept=intercept,
            n_iter=int(n_iter),
            objective=objective,
            certificate=certificate,
            converged=bool(converged),
        )
        for coef_D, (intercept, n_iter, objective, certificate, converged) in zip(
            saved["solved/coef"], saved["solved/facts"].tolist(), strict=True
        )
    ]
