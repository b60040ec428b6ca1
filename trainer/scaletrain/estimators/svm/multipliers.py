"""The hinge loss by the method of multipliers (Hestenes 1969, Powell 1969; Rockafellar 1976), led by rank 0.

The minimum of one smooth f (`hinge`) gives the multipliers of the next, which is narrower: fast as long as its parabolas hold
several rows for each coefficient, slowly after, when Newton's steps become a search for the right rows. Each f is minimised by
Newton's method. As long as parabolas hold many rows, and in the first step of each f, other steps than the full one are tried
before: Newton's is too short where rows leave their parabolas on the way, too long where they enter them, and that takes a
fifth of the time of another Hessian. Once parabolas are short only rows near the corner are looked at, on rank 0 alone if they
are few, and all rows again before the fit ends: the duality gap that is compared with the tolerance is that of all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from scaletrain.estimators.base import Progress, State
from scaletrain.estimators.linalg import factor
from scaletrain.estimators.margin.armijo import ROUNDING, STEPS_T, best_step, falls
from scaletrain.estimators.margin.led import Options, answer, check_size, led_solution
from scaletrain.estimators.margin.margin import MarginProblem
from scaletrain.estimators.margin.newton import SINGULAR
from scaletrain.estimators.solution import Solution

from .hinge import HingeEvaluation, HingeProblem, Smoothing

FIRST_WIDTH, LAST_WIDTH = 1.0, 1e-9
FAST, SLOW = 0.3, 0.6  # by what widths shrink
ROWS = 2  # in parabolas for each coefficient: with fewer, widths shrink slowly
LOOSE = 0.1  # decrement by smoothing at which an f that is followed by a much narrower one counts as minimised
NEAR, REACH = 0.3, 4.0  # below this width only rows with |u| < REACH * width are looked at
ENOUGH = 0.9  # of the tolerance for the rows that are near, so that all rows meet it as well
LAST = 0.85  # of the tolerance: an f with less smoothing is the last
# Of the first value: if more is left after one step, the classes overlap, and that step is all that f was for.
OVERLAP = 0.1
MOST = 32  # anchors
AHEAD_T = torch.tensor([0.125, 0.3, 0.6, 1, 1.5, 2], dtype=torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """A point and what is known there."""

    point_P: Tensor
    at: HingeEvaluation  # of the rows in use
    smoothing: Smoothing
    centre_P: Tensor | None  # the rows in use are those that are near the corner here; None: all
    reach: float
    lowest: float  # objective of all rows at the centre
    is_careful: bool  # some rows have led astray: all are in use to the end
    n_iter: int

    def rest(self) -> State:
        centre = {} if self.centre_P is None else {"centre": self.centre_P}
        facts = torch.tensor([self.reach, self.lowest, self.is_careful, self.n_iter], dtype=torch.float64)
        return {"smoothing": self.smoothing.numbers(MOST), "facts": facts, **centre}


class _Task(IntEnum):
    """What the ranks are asked to do."""

    EVALUATE = 0
    SEARCH = 1
    AHEAD = 2  # as SEARCH, with steps about the full one
    CHOOSE = 3  # the rows to use from now on


STEPS = {_Task.SEARCH: STEPS_T, _Task.AHEAD: AHEAD_T}
HEADER = 4
Reply = HingeEvaluation | Tensor | None
Ask = Callable[[Tensor], Reply]


def minimise_hinge(problem: MarginProblem, options: Options, progress: Progress) -> Solution:
    """Minimises the hinge loss until the relative duality gap is within the tolerance. Not for wide problems.

    The narrower the parabolas, the worse the condition: conjugate gradients would need thousands of steps.
    """
    size = len(problem.x.mean_D) + 1
    everything = HingeProblem.of(problem)
    used: HingeProblem | None = everything
    report = options.reporter(progress)

    def serve(request: Tensor) -> Reply:
        nonlocal used
        task, reach, step, certificate = request[:HEADER].tolist()
        point_P, direction_P, numbers = request[HEADER:].split([size, size, len(request) - HEADER - 2 * size])
        if task == _Task.CHOOSE:
            used = everything.near(point_P, reach) if reach else everything
            return None
        if step and task == _Task.EVALUATE:
            report(int(step), certificate)
        if used is None:  # rank 0 has the rows
            return None
        if task in STEPS:
            return used.search(point_P, direction_P, Smoothing.restored(numbers, size), STEPS[_Task(int(task))])
        return used.evaluate(point_P, Smoothing.restored(numbers, size))

    def solve(ask: Ask) -> Tensor:
        end = _Path(problem, ask, options).run()
        return answer(
            end.point_P,
            n_iter=end.n_iter,
            objective=end.at.objective,
            certificate=end.at.certificate,
            converged=end.at.certificate <= options.tolerance,
        )

    options.checkpoint.resume()  # on all ranks, before rank 0 leads
    request = HEADER + 2 * size + len(Smoothing.first(FIRST_WIDTH, size).numbers(MOST))
    return led_solution(problem, serve, solve, request=request, report=report)


class _Path:
    """From f to f, on rank 0; `ask` makes all ranks evaluate, search or choose rows."""

    def __init__(self, problem: MarginProblem, ask: Ask, options: Options) -> None:
        self._problem, self._ask, self._options = problem, ask, options
        self._size = len(problem.x.mean_D) + 1

    def run(self) -> _State:
        saved = self._options.checkpoint.resume()
        state = self._resumed(saved) if saved else self._start()
        while state.n_iter < self._options.max_iterations:
            following = self._next(state)
            if following is None:
                break
            state = following
            self._offer(state)
        return state if state.centre_P is None else self._better(state)

    def _better(self, state: _State) -> _State:
        """On all rows: where the steps with some of them ended, or where they began."""
        on_all = self._on_all_rows(state)
        if on_all.at.objective <= state.lowest:
            return on_all
        assert state.centre_P is not None
        return self._evaluated(replace(on_all, point_P=state.centre_P))

    def _next(self, state: _State) -> _State | None:
        """None at the end: the tolerance is reached, or cannot be."""
        tolerance = self._options.tolerance
        if state.centre_P is None and state.at.certificate <= tolerance:
            return None
        # Below 0: where the multipliers of the rows that are left out cannot be right any more.
        if state.centre_P is not None and (state.at.certificate <= ENOUGH * tolerance or state.at.gap < 0):
            return self._checked(state)
        return self._step(state) or self._narrower(state)

    def _step(self, state: _State) -> _State | None:
        """Newton's step, or a shorter one. None at the minimum of f."""
        at = state.at
        direction_P = self._direction(at)
        decrement = -float(at.gradient_P @ direction_P) / 2
        if decrement > at.objective > 0:  # where few rows are in parabolas: f cannot fall by more
            direction_P, decrement = direction_P * (at.objective / decrement), at.objective
        if decrement <= ROUNDING * abs(at.value):
            return None
        is_fast = self._is_fast(state)
        is_close = at.gap <= 2 * at.smoothing or (is_fast and decrement <= LOOSE * at.smoothing)
        if is_close and not self._is_new(state) and at.smoothing > LAST * self._options.tolerance * at.objective:
            return None
        is_far = is_fast or (self._is_new(state) and state.n_iter > 0)  # from where Newton's step would lead
        point_P, value = self._ahead(state, direction_P) if is_far else (state.point_P + direction_P, 0.0)
        if state.n_iter == 0 and value > OVERLAP * at.value:
            narrower = state.smoothing.after(point_P, state.smoothing.width * FAST)
            return self._move(replace(state, smoothing=narrower), point_P)
        following = self._move(state, point_P)
        if falls(at.value, following.at.value, decrement):
            return following
        values_T = self._ask(self._request(state, task=_Task.SEARCH, direction_P=direction_P))
        step = best_step(at.value, values_T, decrement)
        return None if step is None else self._move(state, state.point_P + step * direction_P)

    def _ahead(self, state: _State, direction_P: Tensor) -> tuple[Tensor, float]:
        """Where the best of some steps about the full one ends, and f there.

        On the way many rows leave wide parabolas, and enter those of a new f.
        """
        values_T = self._ask(self._request(state, task=_Task.AHEAD, direction_P=direction_P))
        best = int(values_T.argmin())
        return state.point_P + AHEAD_T[best] * direction_P, float(values_T[best])

    @staticmethod
    def _is_new(state: _State) -> bool:
        """Whether no step has been made in this f. Its gap and smoothing say nothing yet."""
        anchors_KP = state.smoothing.anchors_KP
        return torch.equal(anchors_KP[-1], state.point_P) if len(anchors_KP) else state.n_iter == 0

    def _direction(self, at: HingeEvaluation) -> Tensor:
        """Newton's; where few rows curve f in the offset, this moves by 1 at most: that is how far the corner is from 0."""
        free = self._problem.free
        hessian_FF, gradient_F = at.hessian_PP[:free, :free].clone(), at.gradient_P[:free]
        if self._problem.fit_intercept:
            hessian_FF[-1, -1] = torch.maximum(hessian_FF[-1, -1], gradient_F[-1].abs())
        direction_P = torch.zeros_like(at.gradient_P)
        direction_P[:free] = factor(hessian_FF, SINGULAR).solve(-gradient_F)
        return direction_P

    def _narrower(self, state: _State) -> _State | None:
        """At the same point, the next f; None if it would be too narrow."""
        width = state.smoothing.width * (FAST if self._is_fast(state) else SLOW)
        if width < LAST_WIDTH:
            return None
        is_full = len(state.smoothing.widths_K) == MOST
        following = replace(state.smoothing, width=width) if is_full else state.smoothing.after(state.point_P, width)
        state = replace(state, smoothing=following)
        if state.centre_P is None and width < NEAR and not state.is_careful:
            state = self._chosen(replace(state, lowest=state.at.objective), REACH * width)
        return self._evaluated(state)

    def _checked(self, state: _State) -> _State:
        """On all rows if they meet the tolerance too, else on those that are near now; if the objective of all rows did not
        fall, from where it was, with wide parabolas and all rows to the end."""
        on_all = self._on_all_rows(state)
        if on_all.at.certificate <= self._options.tolerance:
            return on_all
        if on_all.at.objective < state.lowest:
            return self._evaluated(self._chosen(replace(on_all, lowest=on_all.at.objective), state.reach))
        assert state.centre_P is not None
        smoothing = Smoothing.first(FIRST_WIDTH, self._size)
        return self._evaluated(replace(on_all, point_P=state.centre_P, smoothing=smoothing, is_careful=True))

    def _is_fast(self, state: _State) -> bool:
        return state.at.num_curved * FAST >= ROWS * self._size

    def _on_all_rows(self, state: _State) -> _State:
        return self._evaluated(self._chosen(state, 0.0))

    def _chosen(self, state: _State, reach: float) -> _State:
        """With other rows in use: those within reach of the corner at the point; 0: all. Not evaluated yet."""
        self._ask(self._request(state, task=_Task.CHOOSE, reach=reach))
        return replace(state, centre_P=state.point_P if reach else None, reach=reach or state.reach)

    def _move(self, state: _State, point_P: Tensor) -> _State:
        check_size(point_P, state.n_iter)
        return replace(self._evaluated(replace(state, point_P=point_P)), n_iter=state.n_iter + 1)

    def _evaluated(self, state: _State) -> _State:
        return replace(state, at=self._ask(self._request(state)))

    def _start(self) -> _State:
        zero_P = torch.zeros(self._size, dtype=torch.float64)
        smoothing = Smoothing.first(FIRST_WIDTH, self._size)
        state = self._evaluated(self._at(zero_P, smoothing))
        self._offer(state)
        return state

    def _resumed(self, saved: State) -> _State:
        reach, lowest, is_careful, n_iter = saved["facts"].tolist()
        state = replace(
            self._at(saved["point"], Smoothing.restored(saved["smoothing"], self._size)),
            reach=reach,
            lowest=lowest,
            is_careful=bool(is_careful),
            n_iter=int(n_iter),
        )
        if "centre" in saved:
            self._chosen(replace(state, point_P=saved["centre"]), reach)
            state = replace(state, centre_P=saved["centre"])
        return self._evaluated(state)

    @staticmethod
    def _at(point_P: Tensor, smoothing: Smoothing) -> _State:
        """Not evaluated yet."""
        nowhere: HingeEvaluation = None  # type: ignore[assignment]
        return _State(
            point_P=point_P,
            at=nowhere,
            smoothing=smoothing,
            centre_P=None,
            reach=0.0,
            lowest=torch.inf,
            is_careful=False,
            n_iter=0,
        )

    def _offer(self, state: _State) -> None:
        self._options.checkpoint.offer(state.n_iter, {"point": state.point_P}, state.rest)

    def _request(
        self, state: _State, *, task: _Task = _Task.EVALUATE, direction_P: Tensor | None = None, reach: float = 0.0
    ) -> Tensor:
        certificate = 0.0 if state.at is None else state.at.certificate
        header = torch.tensor([task, reach, state.n_iter, certificate], dtype=torch.float64)
        vector_P = torch.zeros_like(state.point_P) if direction_P is None else direction_P
        return torch.cat([header, state.point_P, vector_P, state.smoothing.numbers(MOST)])
