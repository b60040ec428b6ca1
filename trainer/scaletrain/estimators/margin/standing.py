"""Where Newton's method stands.

Legend: P coordinates of a point, K steps.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from scaletrain.estimators.linalg import Solver

from .conjugate import ConjugateGradients
from .evaluation import Evaluation, Hessian


@dataclass(frozen=True, slots=True, kw_only=True)
class Curvature:
    """A Hessian, and how to sum it again."""

    point_P: Tensor
    level: int  # of the rows: 0: all; see `sampling.samples`
    how: Hessian
    scale: float  # of the sum: all rows by those of the level
    solver: Solver | ConjugateGradients

    @property
    def rank(self) -> int:
        return self.solver.rank if isinstance(self.solver, Solver) else len(self.point_P)

    def state(self) -> Tensor:
        return torch.cat([torch.tensor([self.level, self.how, self.scale], dtype=torch.float64), self.point_P])


class Step(NamedTuple):
    """From a point to the next, and by how much the gradient changed."""

    step_P: Tensor
    change_P: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A point and what is known there."""

    point_P: Tensor
    at: Evaluation
    certificate: float
    curvature: Curvature  # here, or at an earlier point
    hessian: Hessian  # how Hessians are summed from now on
    before: float  # the decrement before
    n_iter: int
    steps: tuple[Step, ...] = ()  # with a Hessian of an earlier point, since that one

    def steps_K2P(self) -> Tensor:
        """The steps as numbers, K of them."""
        pairs = [torch.stack(step) for step in self.steps]
        return torch.stack(pairs) if pairs else torch.zeros(0, 2, len(self.point_P), dtype=torch.float64)

    @property
    def is_stale(self) -> bool:
        return self.at.hessian is None

    @property
    def has_best_curvature(self) -> bool:
        """Whether another Hessian at this point would be no better."""
        return not self.is_stale and self.curvature.how is self.hessian
