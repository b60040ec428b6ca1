"""Conjugate gradients, preconditioned by the diagonal, for a positive semidefinite matrix that can only be multiplied with.

Each step is one multiplication (a pass over the rows and a collective) and a few operations on vectors, on rank 0.

Legend: P unknowns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_STEPS = 1000
ENOUGH = 0.1  # of the first residual: Newton's own steps do the rest


@dataclass(frozen=True, slots=True, kw_only=True)
class ConjugateGradients:
    """Solves H x = b for the coordinates that are free, roughly."""

    multiply: Callable[[Tensor], Tensor]  # H times a vector (P,)
    diagonal_P: Tensor  # of H
    free: int

    def solve(self, b_F: Tensor) -> Tensor:
        """x with |H x - b| at most ENOUGH |b|, lengths by the inverse of the diagonal. Uses collectives."""

        def multiply(vector_F: Tensor) -> Tensor:
            vector_P = torch.zeros_like(self.diagonal_P)
            vector_P[: self.free] = vector_F
            return self.multiply(vector_P)[: self.free]

        return solve(multiply, self.diagonal_P[: self.free], b_F, enough=ENOUGH).x_P


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """Where conjugate gradients ended."""

    x_P: Tensor
    residual: float  # by that of 0
    steps: int


def solve(
    multiply: Callable[[Tensor], Tensor], diagonal_P: Tensor, b_P: Tensor, *, enough: float, max_steps: int = MAX_STEPS
) -> Solved:
    """From x = 0 until the residual, in the norm of the inverse diagonal, is `enough` of the first one."""
    inverse_P = torch.where(diagonal_P > 0, 1 / diagonal_P.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    x_P, residual_P = torch.zeros_like(b_P), b_P.clone()
    direction_P = inverse_P * residual_P
    square = first = float(residual_P @ direction_P)
    steps = 0
    while square > enough**2 * first and steps < max_steps:
        product_P = multiply(direction_P)
        curvature = float(direction_P @ product_P)
        if not curvature > 0:
            break
        x_P = x_P + (square / curvature) * direction_P
        residual_P = residual_P - (square / curvature) * product_P
        scaled_P = inverse_P * residual_P
        before, square = square, float(residual_P @ scaled_P)
        direction_P = scaled_P + (square / before) * direction_P
        steps += 1
    return Solved(x_P=x_P, residual=(square / first) ** 0.5 if first else 0.0, steps=steps)
