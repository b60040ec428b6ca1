"""Least squares with too many features for a Gram matrix: conjugate gradients on the normal equations, led by rank 0.

    (X'CX + l2 I) w = X'C y    in features about a shift near their means, with the intercept as one more column

The matrix is only multiplied with: each step is one pass over the rows (4 n d flops) and one collective of d + 1 numbers. It is
preconditioned by its diagonal. Steps find a correction that brings the residual, computed from the rows, down by RESTART; then
it is computed from the rows anew, so that rounding in the recurrence cannot feign convergence. From 0 on, the steps stay in the
row space, so that of many solutions the one found is of about the smallest norm in the scaled columns.

Legend: D features, P = D + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.estimators.base import Checkpoint, Progress, State
from scaletrain.estimators.leader import lead
from scaletrain.estimators.margin.conjugate import solve

from .least_squares import LeastSquares

ENOUGH = 1e-8  # residual of the normal equations by that of 0, lengths by the inverse of the diagonal
RESTART = 1e-3
MAX_STEPS, MAX_ROUNDS = 2_000, 10
MULTIPLY, RESIDUALS = 0.0, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WideSolution:
    """Equal on all ranks."""

    point_P: Tensor
    objective: float
    residual: float  # as ENOUGH
    n_iter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """After a round, with what the rows say of the point."""

    point_P: Tensor
    slope_P: Tensor  # half the negative gradient
    value: float
    rounds: int
    steps: int


def minimise_squares(rows: LeastSquares, l2: float, checkpoint: Checkpoint, progress: Progress) -> WideSolution:
    """Until the residual is within ENOUGH, or does not become smaller any more."""
    l2 = l2 / rows.scale
    diagonal_P = rows.squares()[:-1]
    diagonal_P[:-1] += l2
    saved = checkpoint.resume()

    def serve(request: Tensor) -> tuple[Tensor, float]:
        task, step, residual = request[:3].tolist()
        if step:
            progress(int(step), metric="residual", value=residual)
        if task == MULTIPLY:
            return rows.multiply(request[3:]), 0.0
        return rows.residuals(request[3:])

    def answer(ask: Callable[[Tensor], tuple[Tensor, float]]) -> Tensor:
        state, residual = _Rounds(ask, diagonal_P, l2, rows.free).run(saved, checkpoint)
        facts = [state.value * rows.scale, residual, state.steps]
        return torch.cat([torch.tensor(facts, dtype=torch.float64), state.point_P])

    size = len(diagonal_P)
    found = lead(rows.comm, serve, answer, request=3 + size, answer=3 + size)
    objective, residual, steps = found[:3].tolist()
    progress(int(steps), metric="residual", value=residual)
    return WideSolution(point_P=found[3:], objective=objective, residual=residual, n_iter=int(steps))


class _Rounds:
    """On rank 0."""

    def __init__(self, ask: Callable[[Tensor], tuple[Tensor, float]], diagonal_P: Tensor, l2: float, free: int) -> None:
        self._ask, self._diagonal_P, self._l2, self._free = ask, diagonal_P, l2, free
        self._steps, self._residual = 0, 1.0  # for progress

    def run(self, saved: State | None, checkpoint: Checkpoint) -> tuple[_State, float]:
        """The last state and its residual."""
        state = start = self._at(torch.zeros_like(self._diagonal_P), rounds=0)
        if saved:
            rounds, self._steps = saved["counts"].tolist()
            state = self._at(saved["point"], rounds=rounds)
        first = self._length(start.slope_P)
        while True:
            length = self._length(state.slope_P)
            self._residual = length / first if first else 0.0
            if self._residual <= ENOUGH or state.rounds == MAX_ROUNDS or self._steps >= MAX_STEPS:
                return state, self._residual
            following = self._round(state)
            if not self._length(following.slope_P) < length:
                return state, self._residual
            state = following
            counts = torch.tensor([state.rounds, state.steps])
            checkpoint.offer(
                state.steps, {"coef": state.point_P[:-1]}, lambda s=state, c=counts: {"point": s.point_P, "counts": c}
            )

    def _round(self, state: _State) -> _State:
        found = solve(
            self._multiply,
            self._diagonal_P[: self._free],
            state.slope_P[: self._free],
            enough=max(RESTART, ENOUGH / self._residual / 2),
            max_steps=MAX_STEPS - self._steps,
        )
        point_P = state.point_P.clone()
        point_P[: self._free] += found.x_P
        return self._at(point_P, rounds=state.rounds + 1)

    def _multiply(self, vector_F: Tensor) -> Tensor:
        self._steps += 1
        vector_P = torch.zeros_like(self._diagonal_P)
        vector_P[: self._free] = vector_F
        product_P, _ = self._ask(self._request(MULTIPLY, vector_P))
        product_P[:-1] += self._l2 * vector_P[:-1]
        return product_P[: self._free]

    def _at(self, point_P: Tensor, *, rounds: int) -> _State:
        slope_P, square = self._ask(self._request(RESIDUALS, point_P))
        coef_D = point_P[:-1]
        slope_P[:-1] -= self._l2 * coef_D
        value = square + self._l2 * float(coef_D @ coef_D)
        return _State(point_P=point_P, slope_P=slope_P, value=value, rounds=rounds, steps=self._steps)

    def _request(self, task: float, vector_P: Tensor) -> Tensor:
        return torch.cat([torch.tensor([task, self._steps, self._residual], dtype=torch.float64), vector_P])

    def _length(self, slope_P: Tensor) -> float:
        diagonal_F, slope_F = self._diagonal_P[: self._free], slope_P[: self._free]
        return float((slope_F**2 / diagonal_F)[diagonal_F > 0].sum()) ** 0.5
