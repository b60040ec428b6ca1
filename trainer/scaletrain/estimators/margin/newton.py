"""Newton's method for two-class linear problems (`MarginProblem`), led by rank 0.

One pass and one collective give value and gradient at the full step, and the Hessian if it is asked for; only if that step is
refused (Armijo) a second pass tries 32 shorter ones at once. With many rows the first point is the minimum of a sample of them,
and the first Hessian that of the sample: a Hessian is kept as long as each step with it is much shorter than the one before.
What gradients change by on the way corrects it (`secants`). Steps with the Hessian of a sample are found in float32 as long as the
minimum is far.

With too many features for a Hessian (`limits.is_wide`), its diagonal is summed instead, and each direction is found by conjugate
gradients on rank 0, one pass and one collective of P numbers for each: truncated Newton, as LIBLINEAR (Lin, Weng and Keerthi
2008), with a line search in place of the trust region, as there since 2.40 (Galli and Lin 2022).

Squared hinge: Newton on the active rows (Keerthi and DeCoste 2005; the objective of LIBLINEAR -s 2). Logistic: IRLS.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Progress, State
from scaletrain.estimators.linalg import Solver, factor
from scaletrain.estimators.solution import Solution

from .armijo import ROUGH_ROUNDING, ROUNDING, best_step, falls
from .certificates import Certify
from .conjugate import ConjugateGradients
from .evaluation import Evaluation, Hessian
from .led import Options, answer, check_size, led_solution
from .losses import MarginLoss
from .margin import MarginProblem
from .request import HEADER, Request, Task
from .sampling import SAMPLE, samples
from .secants import inverse_times
from .standing import Curvature, Standing, Step

SINGULAR = 1e-14  # relative; see `factor`
LOSE_DIGITS = 0.01  # a Hessian in float32 will do as long as condition * epsilon stays below
SHORT, SLOW = 0.05, 0.1  # decrements: of a value, of the one before
FAR = 1e-6  # decrement by value: from here on float32 will not do
LIKELY = 0.1  # what a first step with a sample's Hessian leaves of a gradient
ALMOST_GONE = 0.01  # of the first value: below, gradients are small everywhere, and only the point's own Hessian says what is left


Reply = Evaluation | Tensor
Ask = Callable[[Request], Reply]


def minimise(
    problem: MarginProblem, loss: MarginLoss, certify: Certify, options: Options, progress: Progress
) -> Solution:
    """Minimises a loss until certificate and Newton decrement (relative to the value) are within the tolerance."""
    size = len(problem.x.mean_D) + 1
    problems = [problem, *samples(problem)]
    report = options.reporter(progress)

    def serve(numbers: Tensor) -> Reply:
        request = Request.of(numbers)
        asked = problems[request.level]
        if request.task is Task.SEARCH:
            return asked.search(request.point_P, request.vector_P, loss)
        if request.task is Task.MULTIPLY:
            return asked.multiply(request.point_P, request.vector_P, loss)
        if request.step and request.level == 0:
            report(request.step, request.certificate)
        return asked.evaluate(request.point_P, loss, request.hessian, may_be_rough=request.may_be_rough)

    def solve(send: Callable[[Tensor], Reply]) -> Tensor:
        def ask(request: Request) -> Reply:
            return send(request.numbers())

        levels = [_Newton(level, one, ask, certify) for level, one in enumerate(problems)]
        end, converged = _solve(levels, options)
        told = {"n_iter": end.n_iter, "objective": end.at.value, "certificate": end.certificate}
        return answer(end.point_P, **told, converged=converged)

    options.checkpoint.resume()  # on all ranks, before rank 0 leads
    return led_solution(problem, serve, solve, request=HEADER + 2 * size, report=report)


def _solve(levels: list["_Newton"], options: Options) -> tuple[Standing, bool]:
    """Level by level up to all rows, which is where a checkpoint begins."""
    saved = options.checkpoint.resume()
    if saved:
        return levels[0].descend(levels[0].resumed(saved, levels), options)
    below = None
    for newton in reversed(levels[1:]):
        below = newton.sampled(newton.start(below), options)
    state = levels[0].start(below)
    levels[0].offer(state, options.checkpoint)
    return levels[0].descend(state, options)


class _Newton:
    """Steps from state to state for the rows of one level, on rank 0; `ask` makes all ranks compute."""

    def __init__(self, level: int, problem: MarginProblem, ask: Ask, certify: Certify) -> None:
        self._level, self._problem, self._ask, self._certify = level, problem, ask, certify
        self._size = len(problem.x.mean_D) + 1

    def descend(self, state: Standing, options: Options) -> tuple[Standing, bool]:
        """To the minimum, and whether it was reached."""
        while True:
            direction_P, decrement = self.direction(state)
            seems_done = self._seems_done(state, decrement, options.tolerance)
            is_last = state.n_iter >= options.max_iterations
            if (seems_done or is_last) and state.at.is_rough and not self._is_sample:
                state = self._evaluated_again(state)
                continue
            converged = seems_done and self._tells_all(state)
            if converged or is_last:
                return state, converged
            following = None
            if not seems_done and (not state.is_stale or decrement <= SLOW * state.before):
                following = self._step(state, direction_P, decrement, options.tolerance)
            if following is None and state.has_best_curvature:
                following = self._safe_step(state, options.tolerance)
                if following is None:
                    return state, False
            state = following or self._refreshed(state)
            self.offer(state, options.checkpoint)

    def sampled(self, state: Standing, options: Options) -> Standing:
        """About the minimum of a sample of the rows: close in view of how far that is from the minimum of all rows.

        The step that the Hessian there, which is wanted anyway, says is still to be made is taken without a look at its end.
        """
        enough = max(options.tolerance, self._size * SAMPLE**self._level / self._problem.blocks.num_rows)
        state, is_close = self.descend(state, replace(options, tolerance=enough, checkpoint=NO_CHECKPOINT))
        state = self.with_own_curvature(state)
        if self._problem.is_wide or not is_close:
            return state
        direction_P, _ = self.direction(state)
        return replace(state, point_P=state.point_P + direction_P)

    def start(self, below: Standing | None) -> Standing:
        """At the end of the level below if that is better than 0, with the Hessian from there; else at 0."""
        if below is None or not below.at.first.value:  # no row of the sample has a weight
            return self._fresh(torch.zeros(self._size, dtype=torch.float64), self._problem.first_hessian)
        if self._problem.is_wide:
            state = self._fresh(below.point_P, below.hessian)
        else:
            at = self._evaluate(below.point_P, Hessian.NONE, may_be_rough=True)
            scale = below.curvature.scale * at.first.value / below.at.first.value
            state = self._state(below.point_P, at, replace(below.curvature, scale=scale), below.hessian)
        return state if state.at.value < state.at.first.value else self.start(None)

    def resumed(self, saved: State, levels: list["_Newton"]) -> Standing:
        """What `offer` has kept, evaluated again to the same bits."""
        hessian, before, n_iter, is_rough = saved["facts"].tolist()
        (level, how, scale), there_P = saved["curvature"][:3].tolist(), saved["curvature"][3:]
        point_P, how = saved["point"], Hessian(int(how))
        if int(level) == self._level and torch.equal(there_P, point_P):
            state = self._fresh(point_P, how)
        else:
            curvature = replace(levels[int(level)]._fresh(there_P, how).curvature, scale=scale)
            at = self._evaluate(point_P, Hessian.NONE, may_be_rough=bool(is_rough))
            state = self._state(point_P, at, curvature, how)
        # Copies: of vectors that do not begin where memory was allocated, products may be rounded in another way.
        steps = tuple(Step(step_P.clone(), change_P.clone()) for step_P, change_P in saved["steps"])
        return replace(state, hessian=Hessian(int(hessian)), before=before, n_iter=int(n_iter), steps=steps)

    def offer(self, state: Standing, checkpoint: Checkpoint) -> None:
        facts = torch.tensor([state.hessian, state.before, state.n_iter, state.at.is_rough], dtype=torch.float64)
        rest = {"facts": facts, "curvature": state.curvature.state(), "steps": state.steps_K2P()}
        checkpoint.offer(state.n_iter, {"point": state.point_P}, lambda: rest)

    def direction(self, state: Standing) -> tuple[Tensor, float]:
        """Newton's direction (collectives if it is found by conjugate gradients), and half its decrement: what the value can still fall by."""
        free, curvature = self._problem.free, state.curvature

        def solve(gradient_P: Tensor) -> Tensor:
            found_P = torch.zeros_like(gradient_P)
            found_P[:free] = curvature.solver.solve(gradient_P[:free]) / curvature.scale
            return found_P

        direction_P = -inverse_times(state.at.gradient_P, state.steps, solve)
        return direction_P, -float(state.at.gradient_P @ direction_P) / 2

    def _seems_done(self, state: Standing, decrement: float, tolerance: float) -> bool:
        """The decrement is small relative to the value; to the first value only where all loss is gone: without a penalty, or else but for rounding.

        A sample in which the classes can be separated, or that lacks one, is left as soon: far out Newton's method is lost.
        """
        gone = ROUNDING if self._problem.l2 and not self._is_sample else tolerance
        is_small = abs(decrement) <= tolerance * state.at.value or state.at.value <= gone * state.at.first.value
        return is_small and (self._is_sample or state.certificate <= tolerance)

    def _tells_all(self, state: Standing) -> bool:
        """Whether the Hessian, if it is of another point or of a sample, says what is left in all directions."""
        is_gone = state.at.value <= ALMOST_GONE * state.at.first.value
        return not (state.is_stale and (is_gone or state.curvature.rank < self._problem.free))

    @property
    def _is_sample(self) -> bool:
        return self._level > 0

    def _is_far(self, state: Standing, decrement: float, tolerance: float) -> bool:
        """Whether the end of the next step is hardly the last point, and only a sample's Hessian is known."""
        left = (decrement / state.before) ** 0.5 if state.before < torch.inf else LIKELY
        is_far = state.certificate * left > tolerance and decrement > FAR * state.at.value
        return is_far and state.curvature.level > self._level

    def _step(self, state: Standing, direction_P: Tensor, decrement: float, tolerance: float) -> Standing | None:
        """The state after the full step, or a shorter one; None if no step makes the value smaller."""
        if not decrement > 0:  # rounding: the Hessian is not positive definite
            return None
        state, is_far = replace(state, before=decrement), self._is_far(state, decrement, tolerance)
        is_short = not self._problem.is_wide and decrement <= SHORT * state.at.value
        how = Hessian.NONE if is_short else state.hessian
        following = self._move(state, state.point_P + direction_P, how, may_be_rough=is_short and is_far)
        rounding = ROUGH_ROUNDING if state.at.is_rough else ROUNDING
        if falls(state.at.value, following.at.value, decrement, rounding):
            return following
        search = Request(level=self._level, point_P=state.point_P, task=Task.SEARCH, vector_P=direction_P)
        step = best_step(state.at.value, self._ask(search), decrement)
        return None if step is None else self._move(state, state.point_P + step * direction_P, state.hessian)

    def _safe_step(self, state: Standing, tolerance: float) -> Standing | None:
        """As `_step`, with the Hessian at 0, where all losses are curved as much as they ever are: what it promises is kept.

        Far out, where hardly a row curves f, its own Hessian promises far too much. None if the value does not fall.
        """
        curvature = self._fresh(torch.zeros_like(state.point_P), state.hessian).curvature
        careful = replace(state, curvature=curvature, steps=())
        following = self._step(careful, *self.direction(careful), tolerance)
        return following if following and following.at.value < state.at.value else None

    def _evaluated_again(self, state: Standing) -> Standing:
        """The same point, in float64."""
        at = self._evaluate(state.point_P, Hessian.NONE, state)
        return replace(state, at=at, certificate=self._certify(self._problem, at, state.point_P))

    def with_own_curvature(self, state: Standing) -> Standing:
        """With a Hessian of this level, which for the level above is cheap, and much closer to its own than one of fewer rows."""
        return state if state.curvature.level == self._level else self._refreshed(state)

    def _refreshed(self, state: Standing) -> Standing:
        """The same point with its own Hessian."""
        return replace(self._move(state, state.point_P, state.hessian), n_iter=state.n_iter)

    def _move(self, state: Standing, point_P: Tensor, how: Hessian, *, may_be_rough: bool = False) -> Standing:
        check_size(point_P, state.n_iter)
        at = self._evaluate(point_P, how, state, may_be_rough=may_be_rough)
        curvature = state.curvature if at.hessian is None else self._curvature(point_P, at.hessian, how)
        following = self._state(point_P, at, curvature, state.hessian)
        step = Step(point_P - state.point_P, at.gradient_P - state.at.gradient_P)
        steps = () if following.curvature is not state.curvature else (*state.steps, step)
        return replace(following, before=state.before, n_iter=state.n_iter + 1, steps=steps)

    def _fresh(self, point_P: Tensor, how: Hessian) -> Standing:
        """At a point, with its own Hessian."""
        at = self._evaluate(point_P, how)
        return self._state(point_P, at, self._curvature(point_P, at.hessian, how), how)

    def _state(self, point_P: Tensor, at: Evaluation, curvature: Curvature, hessian: Hessian) -> Standing:
        """Where no step has been made."""
        return Standing(
            point_P=point_P,
            at=at,
            certificate=self._certify(self._problem, at, point_P),
            curvature=curvature,
            hessian=self._needed(curvature.solver, hessian),
            before=float("inf"),
            n_iter=0,
        )

    def _curvature(self, point_P: Tensor, hessian: Tensor, how: Hessian) -> Curvature:
        free = self._problem.free

        def multiply(vector_P: Tensor) -> Tensor:
            return self._ask(Request(level=self._level, point_P=point_P, task=Task.MULTIPLY, vector_P=vector_P))

        solver = (
            factor(hessian[:free, :free], SINGULAR)
            if hessian.ndim == 2
            else ConjugateGradients(multiply=multiply, diagonal_P=hessian, free=free)
        )
        return Curvature(point_P=point_P, level=self._level, how=how, scale=1.0, solver=solver)

    def _needed(self, solver: Solver | ConjugateGradients, hessian: Hessian) -> Hessian:
        """PRECISE once rounding in the dtype of the features shows in the solution."""
        if isinstance(solver, ConjugateGradients):
            return hessian
        lost = solver.condition * torch.finfo(self._problem.x.dtype).eps > LOSE_DIGITS
        return Hessian.PRECISE if lost or solver.rank < self._problem.free else hessian

    def _evaluate(
        self, point_P: Tensor, how: Hessian, before: Standing | None = None, *, may_be_rough: bool = False
    ) -> Evaluation:
        request = Request(level=self._level, point_P=point_P, hessian=how, may_be_rough=may_be_rough or self._is_sample)
        told = replace(request, step=before.n_iter, certificate=before.certificate) if before else request
        return self._ask(told)
