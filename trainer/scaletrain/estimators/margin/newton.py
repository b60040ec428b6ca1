"""Newton's method for two-class linear problems (`MarginProblem`), led by rank 0.

One pass and one collective give value and gradient at the full step, and the Hessian if it is asked for; only if that step is
refused (Armijo) a second pass tries 32 shorter ones at once. With many rows the first point is the minimum of a sample of them,
and the first Hessian that of the sample: a Hessian is kept as long as each step with it is much shorter than the one before.

With too many features for a Hessian (`limits.is_wide`), its diagonal is summed instead, and each direction is found by conjugate
gradients on rank 0, one pass and one collective of P numbers for each: truncated Newton, as LIBLINEAR (Lin, Weng and Keerthi
2008), with a line search in place of the trust region, as there since 2.40 (Galli and Lin 2022).

Squared hinge: Newton on the active rows (Keerthi and DeCoste 2005; the objective of LIBLINEAR -s 2). Logistic: IRLS.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Progress, State
from scaletrain.estimators.linalg import Solver, factor
from scaletrain.estimators.solution import Solution

from .armijo import ROUNDING, best_step, falls
from .certificates import Certify
from .conjugate import ConjugateGradients
from .led import Options, answer, check_size, led_solution
from .losses import MarginLoss
from .margin import Evaluation, Hessian, MarginProblem

SINGULAR = 1e-14  # relative; see `factor`
LOSE_DIGITS = 0.01  # a Hessian in float32 will do as long as condition * epsilon stays below
ROUGH = 1e-3  # tolerance for a sample of the rows: its own error is larger
SHORT, SLOW = 0.05, 0.1  # decrements: of a value, of the one before
ALMOST_GONE = 0.01  # of the first value: below, gradients are small everywhere, and only the point's own Hessian says what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curvature:
    """A Hessian, and how to sum it again."""

    point_P: Tensor
    level: int  # of the rows: 0: all; see `MarginProblem.samples`
    how: Hessian
    scale: float  # of the sum: all rows by those of the level
    solver: Solver | ConjugateGradients

    def state(self) -> Tensor:
        return torch.cat([torch.tensor([self.level, self.how, self.scale], dtype=torch.float64), self.point_P])


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """A point and what is known there."""

    point_P: Tensor
    at: Evaluation
    certificate: float
    curvature: _Curvature  # here, or at an earlier point
    hessian: Hessian  # how Hessians are summed from now on
    before: float  # the decrement before
    n_iter: int

    @property
    def is_stale(self) -> bool:
        return self.at.hessian is None


class _Task(IntEnum):
    """What the ranks are asked to compute."""

    EVALUATE = 0
    SEARCH = 1
    MULTIPLY = 2


HEADER = 5
Reply = Evaluation | Tensor
Ask = Callable[[Tensor], Reply]


def minimise(
    problem: MarginProblem, loss: MarginLoss, certify: Certify, options: Options, progress: Progress
) -> Solution:
    """Minimises a loss until certificate and Newton decrement (relative to the value) are within the tolerance."""
    size = len(problem.x.mean_D) + 1
    problems = [problem, *problem.samples()]
    report = options.reporter(progress)

    def serve(request: Tensor) -> Reply:
        task, level, hessian, step, certificate = request[:HEADER].tolist()
        point_P, vector_P = request[HEADER:].split(size)
        asked = problems[int(level)]
        if task == _Task.SEARCH:
            return asked.search(point_P, vector_P, loss)
        if task == _Task.MULTIPLY:
            return asked.multiply(point_P, vector_P, loss)
        if step and level == 0:
            report(int(step), certificate)
        return asked.evaluate(point_P, loss, Hessian(int(hessian)))

    def solve(ask: Ask) -> Tensor:
        levels = [_Newton(level, one, ask, certify) for level, one in enumerate(problems)]
        end, converged = _solve(levels, options)
        return answer(
            end.point_P,
            n_iter=end.n_iter,
            objective=end.at.value,
            certificate=end.certificate,
            converged=converged,
        )

    options.checkpoint.resume()  # on all ranks, before rank 0 leads
    return led_solution(problem, serve, solve, request=HEADER + 2 * size, report=report)


def _solve(levels: list["_Newton"], options: Options) -> tuple[_State, bool]:
    """Level by level up to all rows, which is where a checkpoint begins."""
    saved = options.checkpoint.resume()
    if saved:
        return levels[0].descend(levels[0].resumed(saved, levels), options)
    rough = replace(options, tolerance=max(options.tolerance, ROUGH), checkpoint=NO_CHECKPOINT)
    below = None
    for newton in reversed(levels[1:]):
        below, _ = newton.descend(newton.start(below), rough)
        below = newton.with_own_curvature(below)
    state = levels[0].start(below)
    levels[0].offer(state, options.checkpoint)
    return levels[0].descend(state, options)


class _Newton:
    """Steps from state to state for the rows of one level, on rank 0; `ask` makes all ranks compute."""

    def __init__(self, level: int, problem: MarginProblem, ask: Ask, certify: Certify) -> None:
        self._level, self._problem, self._ask, self._certify = level, problem, ask, certify
        self._size = len(problem.x.mean_D) + 1

    def descend(self, state: _State, options: Options) -> tuple[_State, bool]:
        """To the minimum, and whether it was reached."""
        tolerance = options.tolerance
        while True:
            direction_P, decrement = self.direction(state)
            seems_done = state.certificate <= tolerance and self._is_small(decrement, state, tolerance)
            converged = seems_done and not (state.is_stale and state.at.value <= ALMOST_GONE * state.at.first.value)
            if converged or state.n_iter >= options.max_iterations:
                return state, converged
            following = None
            if not seems_done and (not state.is_stale or decrement <= SLOW * state.before):
                following = self._step(state, direction_P, decrement)
                if following is None and not state.is_stale:
                    return state, False
            state = following or self._refreshed(state)
            self.offer(state, options.checkpoint)

    def start(self, below: _State | None) -> _State:
        """At the end of the level below if that is better than 0, with the Hessian from there; else at 0."""
        if below is None or not below.at.first.value:  # no row of the sample has a weight
            return self._fresh(torch.zeros(self._size, dtype=torch.float64), self._problem.first_hessian)
        if self._problem.is_wide:
            state = self._fresh(below.point_P, below.hessian)
        else:
            at = self._evaluate(below.point_P, Hessian.NONE)
            scale = below.curvature.scale * at.first.value / below.at.first.value
            state = self._state(below.point_P, at, replace(below.curvature, scale=scale), below.hessian)
        return state if state.at.value < state.at.first.value else self.start(None)

    def resumed(self, saved: State, levels: list["_Newton"]) -> _State:
        """What `offer` has kept, evaluated again to the same bits."""
        hessian, before, n_iter = saved["facts"].tolist()
        (level, how, scale), there_P = saved["curvature"][:3].tolist(), saved["curvature"][3:]
        point_P, how = saved["point"], Hessian(int(how))
        if int(level) == self._level and torch.equal(there_P, point_P):
            state = self._fresh(point_P, how)
        else:
            curvature = replace(levels[int(level)]._fresh(there_P, how).curvature, scale=scale)
            state = self._state(point_P, self._evaluate(point_P, Hessian.NONE), curvature, how)
        return replace(state, hessian=Hessian(int(hessian)), before=before, n_iter=int(n_iter))

    def offer(self, state: _State, checkpoint: Checkpoint) -> None:
        facts = torch.tensor([state.hessian, state.before, state.n_iter], dtype=torch.float64)
        rest = {"facts": facts, "curvature": state.curvature.state()}
        checkpoint.offer(state.n_iter, {"point": state.point_P}, lambda: rest)

    def direction(self, state: _State) -> tuple[Tensor, float]:
        """Newton's direction (collectives if it is found by conjugate gradients), and half its decrement: what the value can still fall by."""
        direction_P, free = torch.zeros_like(state.point_P), self._problem.free
        direction_P[:free] = state.curvature.solver.solve(-state.at.gradient_P[:free]) / state.curvature.scale
        return direction_P, -float(state.at.gradient_P @ direction_P) / 2

    def _is_small(self, decrement: float, state: _State, tolerance: float) -> bool:
        """Relative to the first value only where all loss is gone: without a penalty, or else but for rounding."""
        gone = ROUNDING if self._problem.l2 else tolerance
        return decrement <= tolerance * state.at.value or state.at.value <= gone * state.at.first.value

    def _step(self, state: _State, direction_P: Tensor, decrement: float) -> _State | None:
        """The state after the full step, or a shorter one; None if no step makes the value smaller."""
        state = replace(state, before=decrement)
        is_short = not self._problem.is_wide and decrement <= SHORT * state.at.value
        following = self._move(state, state.point_P + direction_P, Hessian.NONE if is_short else state.hessian)
        if falls(state.at.value, following.at.value, decrement):
            return following
        request = self._request(state.point_P, task=_Task.SEARCH, vector_P=direction_P)
        step = best_step(state.at.value, self._ask(request), decrement)
        return None if step is None else self._move(state, state.point_P + step * direction_P, state.hessian)

    def with_own_curvature(self, state: _State) -> _State:
        """With a Hessian of this level, which for the level above is cheap, and much closer to its own than one of fewer rows."""
        return state if state.curvature.level == self._level else self._refreshed(state)

    def _refreshed(self, state: _State) -> _State:
        """The same point with its own Hessian."""
        return replace(self._move(state, state.point_P, state.hessian), n_iter=state.n_iter)

    def _move(self, state: _State, point_P: Tensor, how: Hessian) -> _State:
        check_size(point_P, state.n_iter)
        at = self._evaluate(point_P, how, state)
        curvature = state.curvature if at.hessian is None else self._curvature(point_P, at.hessian, how)
        following = self._state(point_P, at, curvature, state.hessian)
        return replace(following, before=state.before, n_iter=state.n_iter + 1)

    def _fresh(self, point_P: Tensor, how: Hessian) -> _State:
        """At a point, with its own Hessian."""
        at = self._evaluate(point_P, how)
        return self._state(point_P, at, self._curvature(point_P, at.hessian, how), how)

    def _state(self, point_P: Tensor, at: Evaluation, curvature: _Curvature, hessian: Hessian) -> _State:
        """Where no step has been made."""
        return _State(
            point_P=point_P,
            at=at,
            certificate=self._certify(self._problem, at, point_P),
            curvature=curvature,
            hessian=self._needed(curvature.solver, hessian),
            before=float("inf"),
            n_iter=0,
        )

    def _curvature(self, point_P: Tensor, hessian: Tensor, how: Hessian) -> _Curvature:
        free = self._problem.free

        def multiply(vector_P: Tensor) -> Tensor:
            return self._ask(self._request(point_P, task=_Task.MULTIPLY, vector_P=vector_P))

        solver = (
            factor(hessian[:free, :free], SINGULAR)
            if hessian.ndim == 2
            else ConjugateGradients(multiply=multiply, diagonal_P=hessian, free=free)
        )
        return _Curvature(point_P=point_P, level=self._level, how=how, scale=1.0, solver=solver)

    def _needed(self, solver: Solver | ConjugateGradients, hessian: Hessian) -> Hessian:
        """PRECISE once rounding in the dtype of the features shows in the solution."""
        if isinstance(solver, ConjugateGradients):
            return hessian
        lost = solver.condition * torch.finfo(self._problem.x.dtype).eps > LOSE_DIGITS
        return Hessian.PRECISE if lost or solver.rank < self._problem.free else hessian

    def _evaluate(self, point_P: Tensor, how: Hessian, before: _State | None = None) -> Evaluation:
        told = (before.n_iter, before.certificate) if before else (0, 0.0)
        return self._ask(self._request(point_P, hessian=how, told=told))

    def _request(
        self,
        point_P: Tensor,
        *,
        task: _Task = _Task.EVALUATE,
        vector_P: Tensor | None = None,
        hessian: Hessian = Hessian.NONE,
        told: tuple[int, float] = (0, 0.0),
    ) -> Tensor:
        """As numbers. vector_P: the direction of a search, or what to multiply; told: step and certificate, for progress."""
        header = torch.tensor([task, self._level, hessian, *told], dtype=torch.float64)
        return torch.cat([header, point_P, torch.zeros_like(point_P) if vector_P is None else vector_P])
