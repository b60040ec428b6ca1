"""Newton's method for two-class linear problems (`MarginProblem`), led by rank 0.

One pass and one collective give value, gradient and Hessian at the full step; only if that step is refused (Armijo) a second
pass tries 16 shorter ones at once. With many rows the first point is the minimum of a sample of them.

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

from scaletrain.errors import TrainerError

from .armijo import best_step, falls
from .base import NO_CHECKPOINT, Checkpoint, Progress, State
from .certificates import Certify
from .conjugate import ConjugateGradients
from .leader import lead
from .linalg import Solver, factor
from .losses import MarginLoss
from .margin import Evaluation, Hessian, MarginProblem
from .solution import Solution

SINGULAR = 1e-14  # relative; see `factor`
LOSE_DIGITS = 0.01  # a Hessian in float32 will do as long as condition * epsilon stays below
ROUGH = 1e-3  # tolerance for a sample of the rows
SHORT, SLOW = 0.05, 0.1  # decrements: of a value, of the one before
TOO_LARGE = 1e100


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    tolerance: float
    max_iterations: int
    metric: str  # what progress calls the certificate
    first_step: int = 0  # steps of earlier problems, for progress
    first_P: Tensor | None = None  # where to begin, if that is better than 0
    checkpoint: Checkpoint = NO_CHECKPOINT


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """A point and what is known there."""

    point_P: Tensor
    at: Evaluation
    first: Evaluation  # at 0
    certificate: float
    solver: Solver | ConjugateGradients  # of the Hessian here, or at an earlier point
    summed: Hessian  # how the Hessian here was summed
    hessian: Hessian  # how Hessians are summed from now on
    n_iter: int


def minimise(
    problem: MarginProblem, loss: MarginLoss, certify: Certify, options: Options, progress: Progress
) -> Solution:
    """Minimises a loss until certificate and Newton decrement (relative to the value) are within the tolerance.

    If the curvature is continuous, a Hessian is kept for the next steps once steps are short, as long as they go on to be
    ten times shorter each.
    """
    if problem.is_large and not options.checkpoint.resume():
        options = replace(options, first_P=_rough_minimum(problem, loss, certify, options))
    return _minimise(problem, loss, certify, options, progress)


def _rough_minimum(problem: MarginProblem, loss: MarginLoss, certify: Certify, options: Options) -> Tensor:
    """Of a sample of the rows: a sample's own error is larger than the tolerance."""
    rough = replace(options, tolerance=max(options.tolerance, ROUGH), checkpoint=NO_CHECKPOINT)
    found = _minimise(problem.sample(), loss, certify, rough, lambda *_, **__: None)
    return problem.point(found.coef_D, found.intercept)


def _minimise(
    problem: MarginProblem, loss: MarginLoss, certify: Certify, options: Options, progress: Progress
) -> Solution:
    def solve(newton: "_Newton") -> tuple[_State, bool]:
        state, saved = newton.begin(hessian=problem.first_hessian, point_P=options.first_P)
        before = float(saved["before"]) if saved and "before" in saved else float("inf")
        while True:
            direction_P, decrement = newton.direction(state)
            converged = state.certificate <= options.tolerance and _is_small(decrement, state, options.tolerance)
            if converged or state.n_iter >= options.max_iterations:
                return state, converged
            is_stale = state.at.hessian is None
            if is_stale and decrement > SLOW * before:
                state, before = newton.refresh(state), float("inf")
                continue
            keep = loss.is_smooth and not problem.is_wide and decrement <= SHORT * state.at.value
            following = newton.step(state, direction_P, decrement, Hessian.NONE if keep else state.hessian)
            if following is None and not is_stale:
                return state, False
            state, before = following or newton.refresh(state), decrement
            newton.offer(state, {"before": torch.tensor(before, dtype=torch.float64)})

    return _lead(problem, loss, certify, solve, options, progress)


def _is_small(decrement: float, state: _State, tolerance: float) -> bool:
    """Relative to the first value only where all loss is gone, as it can be without a penalty."""
    return decrement <= tolerance * state.at.value or state.at.value <= tolerance * state.first.value


class _Newton:
    """Steps from state to state, on rank 0; `ask` makes all ranks evaluate or search."""

    def __init__(
        self,
        problem: MarginProblem,
        ask: Callable[[Tensor], Evaluation | Tensor],
        certify: Certify,
        checkpoint: Checkpoint,
    ) -> None:
        self._problem, self._ask, self._certify, self._checkpoint = problem, ask, certify, checkpoint

    def begin(self, *, hessian: Hessian, point_P: Tensor | None = None) -> tuple[_State, State | None]:
        """The state of an earlier attempt, and what else was kept with it; or that of `start`, and None."""
        saved = self._checkpoint.resume()
        if saved:
            return self._resumed(saved), saved
        state = self.start(hessian=hessian, point_P=point_P)
        self.offer(state, {})
        return state, None

    def offer(self, state: _State, more: State) -> None:
        """Only where the Hessian is that of the point can all be evaluated again, to the same bits."""
        facts = torch.tensor([state.summed, state.hessian, state.n_iter], dtype=torch.float64)
        rest = None if state.at.hessian is None else lambda: {"facts": facts, **more}
        self._checkpoint.offer(state.n_iter, {"point": state.point_P}, rest)

    def _resumed(self, saved: State) -> _State:
        point_P, (summed, hessian, n_iter) = saved["point"], saved["facts"].tolist()
        first = self._ask(_request(torch.zeros_like(point_P)))
        at = self._ask(_request(point_P, hessian=Hessian(int(summed))))
        state = self._state(point_P, at, first, hessian=Hessian(int(summed)))
        return replace(state, hessian=Hessian(int(hessian)), n_iter=int(n_iter))

    def start(self, *, hessian: Hessian, point_P: Tensor | None = None) -> _State:
        """At the given point if it is better than 0, else at 0."""
        zero_P = torch.zeros(len(self._problem.x.mean_D) + 1, dtype=torch.float64)
        if point_P is None:
            point_P = zero_P
            first = at = self._ask(_request(zero_P, hessian=hessian))
        else:
            first = self._ask(_request(zero_P))
            at = self._ask(_request(point_P, hessian=hessian))
            if not at.value < first.value:
                return self.start(hessian=hessian)
        return self._state(point_P, at, first, hessian=hessian)

    def _state(self, point_P: Tensor, at: Evaluation, first: Evaluation, *, hessian: Hessian) -> _State:
        """Where no step has been made; `hessian`: how that of `at` was summed."""
        solver = self._solver(at, point_P)
        return _State(
            point_P=point_P,
            at=at,
            first=first,
            certificate=self._certify(self._problem, at, first, point_P),
            solver=solver,
            summed=hessian,
            hessian=self._needed(solver, hessian),
            n_iter=0,
        )

    def direction(self, state: _State) -> tuple[Tensor, float]:
        """Newton's direction (collectives if it is found by conjugate gradients), and half its decrement: what the value can still fall by."""
        direction_P = torch.zeros_like(state.point_P)
        direction_P[: self._problem.free] = state.solver.solve(-state.at.gradient_P[: self._problem.free])
        return direction_P, -float(state.at.gradient_P @ direction_P) / 2

    def step(self, state: _State, direction_P: Tensor, decrement: float, hessian: Hessian) -> _State | None:
        """The state after the full step, or a shorter one; None if no step makes the value smaller."""
        following = self._move(state, state.point_P + direction_P, hessian)
        if falls(state.at.value, following.at.value, decrement):
            return following
        values_T = self._ask(_request(state.point_P, task=Task.SEARCH, vector_P=direction_P))
        step = best_step(state.at.value, values_T, decrement)
        return None if step is None else self._move(state, state.point_P + step * direction_P, state.hessian)

    def refresh(self, state: _State) -> _State:
        """The same point with its own Hessian."""
        return replace(self._move(state, state.point_P, state.hessian), n_iter=state.n_iter)

    def _move(self, state: _State, point_P: Tensor, hessian: Hessian) -> _State:
        if not float(point_P.abs().max()) < TOO_LARGE:
            raise TrainerError(f"the coefficients are not finite, or too large, after {state.n_iter} steps")
        at = self._ask(_request(point_P, hessian=hessian, step=state.n_iter, certificate=state.certificate))
        solver = state.solver if hessian is Hessian.NONE else self._solver(at, point_P)
        return replace(
            state,
            point_P=point_P,
            at=at,
            certificate=self._certify(self._problem, at, state.first, point_P),
            solver=solver,
            summed=hessian,
            hessian=self._needed(solver, state.hessian),
            n_iter=state.n_iter + 1,
        )

    def _solver(self, at: Evaluation, point_P: Tensor) -> Solver | ConjugateGradients:
        free = self._problem.free
        if at.hessian.ndim == 2:
            return factor(at.hessian[:free, :free], SINGULAR)

        def multiply(vector_P: Tensor) -> Tensor:
            return self._ask(_request(point_P, task=Task.MULTIPLY, vector_P=vector_P))

        return ConjugateGradients(multiply=multiply, diagonal_P=at.hessian, free=free)

    def _needed(self, solver: Solver | ConjugateGradients, hessian: Hessian) -> Hessian:
        """PRECISE once rounding in the dtype of the features shows in the solution."""
        if isinstance(solver, ConjugateGradients):
            return hessian
        lost = solver.condition * torch.finfo(self._problem.x.dtype).eps > LOSE_DIGITS
        return Hessian.PRECISE if lost or solver.rank < self._problem.free else hessian


class Task(IntEnum):
    """What the ranks are asked to compute."""

    EVALUATE = 0
    SEARCH = 1
    MULTIPLY = 2


HEADER = 4


def _request(
    point_P: Tensor,
    *,
    task: Task = Task.EVALUATE,
    vector_P: Tensor | None = None,
    hessian: Hessian = Hessian.NONE,
    step: int = 0,
    certificate: float = 0.0,
) -> Tensor:
    """What all ranks are asked to do, as numbers. vector_P: the direction of a search, or what to multiply."""
    header = torch.tensor([task, hessian, step, certificate], dtype=torch.float64)
    return torch.cat([header, point_P, torch.zeros_like(point_P) if vector_P is None else vector_P])


def _lead(
    problem: MarginProblem,
    loss: MarginLoss,
    certify: Certify,
    solve: Callable[[_Newton], tuple[_State, bool]],
    options: Options,
    progress: Progress,
) -> Solution:
    size = len(problem.x.mean_D) + 1

    def report(step: int, certificate: float) -> None:
        progress(options.first_step + step, metric=options.metric, value=certificate)

    def serve(request: Tensor) -> Evaluation | Tensor:
        task, hessian, step, certificate = request[:HEADER].tolist()
        point_P, vector_P = request[HEADER:].split(size)
        if task == Task.SEARCH:
            return problem.search(point_P, vector_P, loss)
        if task == Task.MULTIPLY:
            return problem.multiply(point_P, vector_P, loss)
        if step:
            report(int(step), certificate)
        return problem.evaluate(point_P, loss, Hessian(int(hessian)))

    def answer(ask: Callable[[Tensor], Evaluation | Tensor]) -> Tensor:
        state, converged = solve(_Newton(problem, ask, certify, options.checkpoint))
        facts = [state.n_iter, state.at.value, state.certificate, converged]
        return torch.cat([state.point_P, torch.tensor(facts, dtype=torch.float64)])

    options.checkpoint.resume()  # on all ranks, before rank 0 leads
    found = lead(problem.comm, serve, answer, request=HEADER + 2 * size, answer=size + 4)
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
