"""Mini-batch gradient descent with variance reduction (SVRG: Johnson and Zhang 2013) and Nesterov's momentum, led by rank 0.

An epoch begins at an anchor a with the gradient of f over all rows. Step t over batch B of T then goes along

    T/C sum_{i in B} c_i (loss'_i(p) - loss'_i(a)) + gradient f(a) + penalty (p - a)

which is the gradient at p over all rows in the mean, and without noise as p and a come closer: the steps need not become shorter,
and the method converges to the optimum itself. An epoch that makes f larger is taken back, and the steps are halved.

The longest stable step is 1 / (largest curvature), found by power iteration on one batch, plus what a batch's noise adds.
Sums are exact, so the path does not depend on the number of ranks; rank 0 steps and broadcasts the point. The steps are those of
torch.optim.SGD(nesterov=True), which is not used because its import takes seconds.

Cost of an epoch: two reads of the rows, 8 K P flops a row. All-reduced: K P numbers a step. Legend: K columns, P coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from numpy.random import Generator, Philox
from torch import Tensor

from scaletrain.estimators.base import Checkpoint, Progress, State
from scaletrain.estimators.draws import Key, Purpose
from scaletrain.estimators.leader import lead

from .batches import Batches, Plan
from .stochastic import StochasticProblem

MOMENTUM = 0.9
POWER_STEPS = 20
TOO_LARGE = 1e100
ROUNDING = 1e-13  # relative; smaller differences between two values say nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    epochs: int
    batch_rows: int
    learning_rate: float
    tolerance: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """Where the descent ended. Equal on all ranks."""

    point_KP: Tensor
    epochs: int
    value: float
    gradient: float  # largest component
    converged: bool


class _Ask(IntEnum):
    EVALUATE = 0
    STEP = 1
    SQUARES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _At:
    """An anchor and what is known there."""

    epoch: int
    point_KP: Tensor
    momentum_KP: Tensor
    gradient_KP: Tensor
    value: float
    rate: float

    @property
    def largest(self) -> float:
        return float(self.gradient_KP.abs().max())

    def model(self) -> State:
        return {"point": self.point_KP}

    def rest(self) -> State:
        numbers = torch.tensor([self.epoch, self.value, self.rate], dtype=torch.float64)
        return {"momentum": self.momentum_KP, "gradient": self.gradient_KP, "numbers": numbers}

    @classmethod
    def restored(cls, saved: State) -> "_At":
        epoch, value, rate = saved["numbers"].tolist()
        return cls(
            epoch=int(epoch),
            point_KP=saved["point"],
            momentum_KP=saved["momentum"],
            gradient_KP=saved["gradient"],
            value=value,
            rate=rate,
        )


Reply = tuple[float, Tensor]
HEADER = 4


def descend(problem: StochasticProblem, schedule: Schedule, progress: Progress, checkpoint: Checkpoint) -> Minimum:
    """Until no component of the gradient exceeds the tolerance, or the epochs are over."""
    plan = Plan.of(problem.comm, problem.blocks, schedule.batch_rows, schedule.seed)
    batches, shape = Batches(problem.blocks, plan), problem.shape
    size, saved = shape[0] * shape[1], checkpoint.resume()

    def tell(epoch: int, gradient: float) -> None:
        if epoch:
            progress(epoch, of=schedule.epochs, metric="gradient", value=gradient)

    def serve(request: Tensor) -> Reply:
        kind, epoch, step, gradient = request[:HEADER].tolist()
        point_KP, anchor_KP = request[HEADER:].reshape(2, *shape)
        if kind == _Ask.EVALUATE:
            return problem.evaluate(point_KP)
        if kind == _Ask.SQUARES:
            return problem.squares(batches.of(0, int(step)), point_KP[0])
        if step == 0:
            tell(int(epoch), gradient)
        return 0.0, problem.difference(batches.of(int(epoch), int(step)), point_KP, anchor_KP)

    def solve(ask: Callable[[Tensor], Reply]) -> Tensor:
        at = _Descent(problem, plan, schedule, ask).run(saved, checkpoint)
        facts = torch.tensor([at.epoch, at.value, at.largest], dtype=torch.float64)
        return torch.cat([facts, at.point_KP.reshape(-1)])

    found = lead(problem.comm, serve, solve, request=HEADER + 2 * size, answer=3 + size)
    epochs, value, gradient = found[:3].tolist()
    tell(int(epochs), gradient)
    return Minimum(
        point_KP=found[3:].reshape(shape),
        epochs=int(epochs),
        value=value,
        gradient=gradient,
        converged=gradient <= schedule.tolerance,
    )


class _Descent:
    """From anchor to anchor, on rank 0; `ask` makes all ranks compute."""

    def __init__(
        self, problem: StochasticProblem, plan: Plan, schedule: Schedule, ask: Callable[[Tensor], Reply]
    ) -> None:
        self._problem, self._plan, self._schedule, self._ask = problem, plan, schedule, ask

    def run(self, saved: State | None, checkpoint: Checkpoint) -> _At:
        at = _At.restored(saved) if saved else self._start()
        while at.largest > self._schedule.tolerance and at.epoch < self._schedule.epochs:
            at = self._next(at)
            checkpoint.offer(at.epoch, at.model(), at.rest)
        return at

    def _start(self) -> _At:
        zero_KP = torch.zeros(self._problem.shape, dtype=torch.float64)
        value, gradient_KP = self._evaluate(zero_KP)
        rate = self._schedule.learning_rate / self._curvature()
        return _At(epoch=0, point_KP=zero_KP, momentum_KP=zero_KP, gradient_KP=gradient_KP, value=value, rate=rate)

    def _next(self, at: _At) -> _At:
        """The end of an epoch as the next anchor; the old one with shorter steps if it is no better."""
        point_KP, momentum_KP = self._epoch(at)
        if bool((point_KP.abs() < TOO_LARGE).all()):
            value, gradient_KP = self._evaluate(point_KP)
            if value <= at.value + ROUNDING * abs(at.value):
                return replace(
                    at,
                    epoch=at.epoch + 1,
                    point_KP=point_KP,
                    momentum_KP=momentum_KP,
                    gradient_KP=gradient_KP,
                    value=value,
                )
        return replace(at, epoch=at.epoch + 1, rate=at.rate / 2, momentum_KP=torch.zeros_like(at.momentum_KP))

    def _epoch(self, at: _At) -> tuple[Tensor, Tensor]:
        """The point and the momentum after all steps, or once the point has left all bounds."""
        point_KP, momentum_KP = at.point_KP, at.momentum_KP
        for step in range(self._plan.num_steps):
            request = self._request(_Ask.STEP, point_KP, at.point_KP, epoch=at.epoch, step=step, gradient=at.largest)
            _, difference_KP = self._ask(request)
            penalty_KP = self._problem.penalty_P * (point_KP - at.point_KP)
            slope_KP = self._plan.num_steps * difference_KP + at.gradient_KP + penalty_KP
            momentum_KP = MOMENTUM * momentum_KP + slope_KP
            point_KP = point_KP - at.rate * (slope_KP + MOMENTUM * momentum_KP)
            if not bool((point_KP.abs() < TOO_LARGE).all()):
                break
        return point_KP, momentum_KP

    def _curvature(self) -> float:
        """The largest eigenvalue of the Hessian of f, from above if the batch is like the rest."""
        rng = Generator(Philox(key=Key(self._schedule.seed, Purpose.DIRECTION).words(2)))
        direction_P = torch.from_numpy(rng.standard_normal(self._problem.shape[1]))
        largest = 0.0
        for _ in range(POWER_STEPS):
            direction_P = direction_P / direction_P.norm()
            point_KP = torch.zeros(self._problem.shape, dtype=torch.float64)
            point_KP[0] = direction_P
            cost, image_P = self._ask(self._request(_Ask.SQUARES, point_KP, point_KP))
            largest, direction_P = float(image_P.norm()) / cost, image_P
        noise = self._problem.shape[1] / self._schedule.batch_rows
        curvature = self._problem.loss.max_curvature * (largest + noise)
        return curvature + float(self._problem.penalty_P.max())

    def _evaluate(self, point_KP: Tensor) -> Reply:
        return self._ask(self._request(_Ask.EVALUATE, point_KP, point_KP))

    def _request(
        self, kind: _Ask, point_KP: Tensor, anchor_KP: Tensor, *, epoch: int = 0, step: int = 0, gradient: float = 0.0
    ) -> Tensor:
        header = torch.tensor([kind, epoch, step, gradient], dtype=torch.float64)
        return torch.cat([header, point_KP.reshape(-1), anchor_KP.reshape(-1)])
