"""Newton's method for two-class linear problems (`MarginProblem`), led by rank 0.

One pass and one collective give value, gradient and Hessian at the full step; only if that step is refused (Armijo) a second
pass tries 16 shorter ones at once. With many rows the first point is the minimum of a sample of them.

Squared hinge: Newton on the active rows (Keerthi and DeCoste 2005; the objective of LIBLINEAR -s 2). Logistic: IRLS.
Hinge: a smooth hinge whose width shrinks until the duality gap is closed (Chapelle 2007).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scaletrain.errors import TrainerError

from .base import NO_CHECKPOINT, Checkpoint, Progress, State
from .leader import lead
from .linalg import Solver, factor
from .losses import MarginLoss, SmoothHinge
from .margin import STEPS_T, Evaluation, Hessian, MarginProblem
from .solution import Solution

ARMIJO = 1e-4
ROUNDING = 1e-13  # relative; smaller differences between two values say nothing
SINGULAR = 1e-14  # relative; see `factor`
LOSE_DIGITS = 0.01  # a Hessian in float32 will do as long as condition * epsilon stays below
ROUGH = 1e-3  # tolerance for a sample of the rows
SHORT, SLOW = 0.05, 0.1  # decrements: of a value, of the one before
FIRST_WIDTH, SHRINK, JUMP, LAST_WIDTH = 1.0, 0.3, 0.01, 1e-9  # of the smooth hinge
TOO_LARGE = 1e100


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    tolerance: float
    max_iterations: int
    metric: str  # what progress calls the certificate
    first_step: int = 0  # steps of earlier problems, for progress
    first_P: Tensor | None = None  # where to begin, if that is better than 0
    checkpoint: Checkpoint = NO_CHECKPOINT


# certificate = certify(problem, evaluation here, evaluation at 0, point)
Certify = Callable[[MarginProblem, Evaluation, Evaluation, Tensor], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """A point and what is known there."""

    point_P: Tensor
    at: Evaluation
    first: Evaluation  # at 0
    certificate: float
    width: float  # of the smooth hinge; unused otherwise
    solver: Solver  # of the Hessian here, or at an earlier point
    summed: Hessian  # how the Hessian here was summed
    hessian: Hessian  # how Hessians are summed from now on
    n_iter: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Minimum:
    """Of the smooth hinge of one width."""

    point_P: Tensor
    width: float

    def state(self) -> State:
        return {"wider": torch.cat([self.point_P, torch.tensor([self.width], dtype=torch.float64)])}

    @classmethod
    def restored(cls, saved: State) -> "_Minimum | None":
        return cls(point_P=saved["wider"][:-1], width=float(saved["wider"][-1])) if "wider" in saved else None


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
        state, saved = newton.begin(width=0.0, hessian=Hessian.FAST, point_P=options.first_P)
        before = float(saved["before"]) if saved else float("inf")
        while True:
            direction_P, decrement = newton.direction(state)
            converged = state.certificate <= options.tolerance and _is_small(decrement, state, options.tolerance)
            if converged or state.n_iter >= options.max_iterations:
                return state, converged
            is_stale = state.at.hessian_PP is None
            if is_stale and decrement > SLOW * before:
                state, before = newton.refresh(state), float("inf")
                continue
            keep = loss.is_smooth and decrement <= SHORT * state.at.value
            following = newton.step(state, direction_P, decrement, Hessian.NONE if keep else state.hessian)
            if following is None and not is_stale:
                return state, False
            state, before = following or newton.refresh(state), decrement
            newton.offer(state, {"before": torch.tensor(before, dtype=torch.float64)})

    return _lead(problem, lambda width: loss, certify, solve, options, progress)


def _is_small(decrement: float, state: _State, tolerance: float) -> bool:
    """Relative to the first value only where all loss is gone, as it can be without a penalty."""
    return decrement <= tolerance * state.at.value or state.at.value <= tolerance * state.first.value


def minimise_hinge(problem: MarginProblem, options: Options, progress: Progress) -> Solution:
    """Minimises the hinge loss until the relative duality gap is within the tolerance."""

    def solve(newton: "_Newton") -> tuple[_State, bool]:
        state, saved = newton.begin(width=FIRST_WIDTH, hessian=Hessian.PRECISE)
        wider = _Minimum.restored(saved) if saved else None
        while state.certificate > options.tolerance and state.n_iter < options.max_iterations:
            direction_P, decrement = newton.direction(state)
            gap = state.certificate * hinge_objective(problem, state.at, state.point_P)
            is_minimum = gap <= 2 * smoothing_gap(state.at, state.point_P)
            following = None if is_minimum else newton.step(state, direction_P, decrement, Hessian.PRECISE)
            if following is None and state.width <= LAST_WIDTH:
                break
            if following is None:
                state, wider = newton.narrow(state, wider), _Minimum(point_P=state.point_P, width=state.width)
            else:
                state = following
            newton.offer(state, wider.state() if wider else {})
        return state, state.certificate <= options.tolerance

    return _lead(problem, SmoothHinge, duality_gap, solve, options, progress)


def gradient_ratio(problem: MarginProblem, at: Evaluation, first: Evaluation, point_P: Tensor) -> float:
    """|gradient| by its value at 0, in the coordinates of the data."""
    start = float(problem.original_gradient(first.gradient_P)[: problem.free].norm())
    return float(problem.original_gradient(at.gradient_P)[: problem.free].norm()) / start if start else 0.0


def mean_gradient(problem: MarginProblem, at: Evaluation, first: Evaluation, point_P: Tensor) -> float:
    """The largest component of the gradient divided by the sum of costs, in the coordinates of the data."""
    cost = float(first.value) / LOG_2  # each row costs log 2 at 0
    return float(problem.original_gradient(at.gradient_P)[: problem.free].abs().max()) / cost


LOG_2 = 0.6931471805599453


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

    def begin(self, *, width: float, hessian: Hessian, point_P: Tensor | None = None) -> tuple[_State, State | None]:
        """The state of an earlier attempt, and what else was kept with it; or that of `start`, and None."""
        saved = self._checkpoint.resume()
        if saved:
            return self._resumed(saved, first_width=width), saved
        return self.start(width=width, hessian=hessian, point_P=point_P), None

    def offer(self, state: _State, more: State) -> None:
        """Only where the Hessian is that of the point can all be evaluated again, to the same bits."""
        facts = torch.tensor([state.width, state.summed, state.hessian, state.n_iter], dtype=torch.float64)
        rest = None if state.at.hessian_PP is None else lambda: {"facts": facts, **more}
        self._checkpoint.offer(state.n_iter, {"point": state.point_P}, rest)

    def _resumed(self, saved: State, *, first_width: float) -> _State:
        point_P, (width, summed, hessian, n_iter) = saved["point"], saved["facts"].tolist()
        first = self._ask(_request(torch.zeros_like(point_P), width=first_width))
        at = self._ask(_request(point_P, width=width, hessian=Hessian(int(summed))))
        return _State(
            point_P=point_P,
            at=at,
            first=first,
            certificate=self._certify(self._problem, at, first, point_P),
            width=width,
            solver=self._factor(at),
            summed=Hessian(int(summed)),
            hessian=Hessian(int(hessian)),
            n_iter=int(n_iter),
        )

    def start(self, *, width: float, hessian: Hessian, point_P: Tensor | None = None) -> _State:
        """At the given point if it is better than 0, else at 0."""
        zero_P = torch.zeros(len(self._problem.x.mean_D) + 1, dtype=torch.float64)
        if point_P is None:
            point_P = zero_P
            first = at = self._ask(_request(zero_P, width=width, hessian=hessian))
        else:
            first = self._ask(_request(zero_P, width=width))
            at = self._ask(_request(point_P, width=width, hessian=hessian))
            if not at.value < first.value:
                return self.start(width=width, hessian=hessian)
        solver = self._factor(at)
        return _State(
            point_P=point_P,
            at=at,
            first=first,
            certificate=self._certify(self._problem, at, first, point_P),
            width=width,
            solver=solver,
            summed=hessian,
            hessian=self._needed(solver, hessian),
            n_iter=0,
        )

    def direction(self, state: _State) -> tuple[Tensor, float]:
        """Newton's direction, and half its decrement: what the value can still fall by."""
        direction_P = torch.zeros_like(state.point_P)
        direction_P[: self._problem.free] = state.solver.solve(-state.at.gradient_P[: self._problem.free])
        return direction_P, -float(state.at.gradient_P @ direction_P) / 2

    def step(self, state: _State, direction_P: Tensor, decrement: float, hessian: Hessian) -> _State | None:
        """The state after the full step, or a shorter one; None if no step makes the value smaller."""
        following = self._move(state, state.point_P + direction_P, state.width, hessian)
        needed = 2 * ARMIJO * decrement - ROUNDING * abs(state.at.value)
        if following.at.value <= state.at.value - needed:
            return following
        values_T = self._ask(_request(state.point_P, direction_P=direction_P, width=state.width))
        good_T = values_T <= state.at.value - STEPS_T * 2 * ARMIJO * decrement
        if not bool(good_T.any()):
            return None
        best = int(torch.where(good_T, values_T, torch.inf).argmin())
        return self._move(state, state.point_P + STEPS_T[best] * direction_P, state.width, state.hessian)

    def refresh(self, state: _State) -> _State:
        """The same point with its own Hessian."""
        return replace(self._move(state, state.point_P, state.width, state.hessian), n_iter=state.n_iter)

    def narrow(self, state: _State, wider: _Minimum | None) -> _State:
        """From the minimum for one width towards that for a narrower one, given the minimum for a wider one.

        While the same rows lie in the parabola, minima are linear in the width: the next one can be extrapolated.
        """
        if wider is None:
            found = self._move(state, state.point_P, state.width * SHRINK, state.hessian)
            return replace(found, n_iter=state.n_iter)
        slope_P = (state.point_P - wider.point_P) / (state.width - wider.width)
        for shrink in (JUMP, SHRINK):
            width = state.width * shrink
            found = self._move(state, state.point_P + (width - state.width) * slope_P, width, state.hessian)
            found = replace(found, n_iter=state.n_iter)
            if found.certificate < state.certificate:
                return found
        return found

    def _move(self, state: _State, point_P: Tensor, width: float, hessian: Hessian) -> _State:
        if not float(point_P.abs().max()) < TOO_LARGE:
            raise TrainerError(f"the coefficients are not finite, or too large, after {state.n_iter} steps")
        at = self._ask(
            _request(point_P, width=width, hessian=hessian, step=state.n_iter, certificate=state.certificate)
        )
        solver = state.solver if hessian is Hessian.NONE else self._factor(at)
        return replace(
            state,
            point_P=point_P,
            at=at,
            certificate=self._certify(self._problem, at, state.first, point_P),
            width=width,
            solver=solver,
            summed=hessian,
            hessian=self._needed(solver, state.hessian),
            n_iter=state.n_iter + 1,
        )

    def _factor(self, at: Evaluation) -> Solver:
        return factor(at.hessian_PP[: self._problem.free, : self._problem.free], SINGULAR)

    def _needed(self, solver: Solver, hessian: Hessian) -> Hessian:
        """PRECISE once rounding in the dtype of the features shows in the solution."""
        lost = solver.condition * torch.finfo(self._problem.x.dtype).eps > LOSE_DIGITS
        return Hessian.PRECISE if lost or solver.rank < self._problem.free else hessian


HEADER = 5


def _request(
    point_P: Tensor,
    *,
    width: float,
    direction_P: Tensor | None = None,
    hessian: Hessian = Hessian.NONE,
    step: int = 0,
    certificate: float = 0.0,
) -> Tensor:
    """What all ranks are asked to do, as numbers: search if there is a direction, else evaluate."""
    is_search = direction_P is not None
    header = torch.tensor([is_search, width, hessian, step, certificate], dtype=torch.float64)
    return torch.cat([header, point_P, direction_P if is_search else torch.zeros_like(point_P)])


def _lead(
    problem: MarginProblem,
    loss_of: Callable[[float], MarginLoss],
    certify: Certify,
    solve: Callable[[_Newton], tuple[_State, bool]],
    options: Options,
    progress: Progress,
) -> Solution:
    size = len(problem.x.mean_D) + 1

    def report(step: int, certificate: float) -> None:
        progress(options.first_step + step, metric=options.metric, value=certificate)

    def serve(request: Tensor) -> Evaluation | Tensor:
        is_search, width, hessian, step, certificate = request[:HEADER].tolist()
        point_P, direction_P = request[HEADER:].split(size)
        if is_search:
            return problem.search(point_P, direction_P, loss_of(width))
        if step:
            report(int(step), certificate)
        return problem.evaluate(point_P, loss_of(width), Hessian(int(hessian)))

    def answer(ask: Callable[[Tensor], Evaluation | Tensor]) -> Tensor:
        state, converged = solve(_Newton(problem, ask, certify, options.checkpoint))
        objective = hinge_objective(problem, state.at, state.point_P) if certify is duality_gap else state.at.value
        facts = [state.n_iter, objective, state.certificate, converged]
        return torch.cat([state.point_P, torch.tensor(facts, dtype=torch.float64)])

    options.checkpoint.resume()  # on all ranks, before rank 0 leads
    found = lead(problem.comm, serve, answer, request=HEADER + 2 * size, answer=size + 4)
    point_P, (n_iter, objective, certificate, converged) = found[:size], found[size:].tolist()
    report(int(n_iter), certificate)
    return Solution(
        coef_D=point_P[:-1],
        intercept=problem.intercept(point_P) if problem.fit_intercept else 0.0,
        n_iter=int(n_iter),
        objective=objective,
        certificate=certificate,
        converged=bool(converged),
    )
