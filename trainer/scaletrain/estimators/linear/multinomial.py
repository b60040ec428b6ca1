"""Softmax regression over all blocks: exact sums for value and gradient, L-BFGS on rank 0 in whitened features.

The Hessian of K classes has (K D)^2 entries, too many to sum. One Gram matrix of the features makes them independent and of
equal variance; in those coordinates L-BFGS needs few iterations whatever the units and correlations of the features. With too many
features for a Gram matrix (`limits.is_wide`) only their variances are made equal.

Cost: D^2 flops a row once, then 4 K D for each evaluation. All-reduced: D^2 numbers once, then K P + 1.

Legend: N rows of a block, D features, P = D + 1, K classes, R independent features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.base import Progress, State
from scaletrain.estimators.classes import Classes
from scaletrain.estimators.leader import lead
from scaletrain.estimators.limits import is_wide
from scaletrain.estimators.linalg import gram, product, squares_about, whitening
from scaletrain.estimators.margin.led import Options
from scaletrain.estimators.moments import CANCELLED_SQUARE, SLACK, Moments, row_weights
from scaletrain.exact import sum_blocks

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

MEMORY = 20  # pairs of vectors that L-BFGS keeps
JOURNAL_BYTES = 1 << 28  # of a checkpoint; a longer fit can be resumed from where it was full


@dataclass(frozen=True, slots=True, kw_only=True)
class MultinomialSolution:
    """Where L-BFGS ended. Equal on all ranks."""

    coef_KD: Tensor
    intercept_K: Tensor
    n_iter: int
    objective: float
    certificate: float  # largest component of the gradient divided by the sum of costs
    converged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MultinomialProblem:
    """The rows, their costs and the penalty. A point is (W, offset) of shape (K, P), features taken about their means."""

    comm: Comm
    blocks: Blocks
    x: Moments  # without weights
    classes: Classes
    cost: float  # sum of the costs of all rows
    l2: float
    fit_intercept: bool

    @property
    def shift_D(self) -> Tensor:
        return self.x.mean_D if self.fit_intercept else torch.zeros_like(self.x.mean_D)

    @property
    def norm_P(self) -> Tensor:
        """Bounds on the lengths of the columns of (x - shift, 1)."""
        return self.x.lengths(self.shift_D)

    @property
    def shape(self) -> tuple[int, int]:
        return self.classes.count, len(self.shift_D) + 1

    def intercepts(self, point_KP: Tensor) -> Tensor:
        return point_KP[:, -1] - (point_KP[:, :-1] * self.shift_D).sum(1)

    def evaluate(self, point_KP: Tensor) -> tuple[float, Tensor]:
        """The objective and its gradient (K, P), in one pass and one collective."""
        parts = (point_KP[:, :-1], self.intercepts(point_KP), self.shift_D)
        coef_KD, intercept_K, shift_D = (part.to(self.comm.device) for part in parts)

        def partial(block: Block) -> list[Tensor]:
            X_ND, cost_N = block.X_ND.to(torch.float64), self._costs(block)
            z_NK = X_ND @ coef_KD.T + intercept_K
            log_NK = z_NK - torch.logsumexp(z_NK, dim=1, keepdim=True)
            own_N1 = block.y_N[:, None]
            value = -(cost_N @ log_NK.gather(1, own_N1)[:, 0])
            slope_NK = log_NK.exp_()
            slope_NK.scatter_add_(1, own_N1, torch.full_like(own_N1, -1.0, dtype=torch.float64))
            slope_NK *= cost_N[:, None]
            sum_K = slope_NK.sum(0)
            return [value, torch.cat([product(slope_NK.T, X_ND) - torch.outer(sum_K, shift_D), sum_K[:, None]], dim=1)]

        value, gradient_KP = sum_blocks(self.comm, self.blocks, partial, self._bounds(point_KP))
        gradient_KP *= self.x.varying(self.shift_D)
        gradient_KP[:, :-1] += self.l2 * point_KP[:, :-1]
        if not self.fit_intercept:
            gradient_KP[:, -1] = 0
        return float(value) + self.l2 * float((point_KP[:, :-1] ** 2).sum()) / 2, gradient_KP

    def whitening(self) -> Tensor:
        """M (D, R) that makes `_curvature` the identity; with too many features (D,), what does so with its diagonal."""
        if not is_wide(len(self.shift_D)):
            return whitening(self._curvature())
        curvature_D = self._variances()
        return torch.where(curvature_D > 0, curvature_D.rsqrt(), 0.0)

    def _variances(self) -> Tensor:
        """The diagonal of `_curvature`."""

        def partial(block: Block) -> list[Tensor]:
            return [squares_about(self.shift_D.to(block.device), self._costs(block), block.X_ND.to(torch.float64))]

        bound_D = self.norm_P[:-1] ** 2 + self.x.weight * self.x.peak_D**2 * CANCELLED_SQUARE
        (square_D,) = sum_blocks(self.comm, self.blocks, partial, [self.classes.max_cost * bound_D])
        return (square_D * self.x.varying(self.shift_D)[:-1] + self.l2) / self.cost

    def _curvature(self) -> Tensor:
        """Mean of (x - shift)(x - shift)', costs and penalty included: a model of the Hessian by one class, up to a factor."""

        def partial(block: Block) -> list[Tensor]:
            X_ND = (block.X_ND.to(torch.float64) - self.shift_D.to(block.device)) * self._costs(block).sqrt()[:, None]
            return [gram(X_ND)]

        norm_D = self.norm_P[:-1]
        (gram_DD,) = sum_blocks(self.comm, self.blocks, partial, [self.classes.max_cost * torch.outer(norm_D, norm_D)])
        varying_D = self.x.varying(self.shift_D)[:-1]
        gram_DD *= torch.outer(varying_D, varying_D)
        return (gram_DD + self.l2 * torch.eye(len(norm_D), dtype=torch.float64)) / self.cost

    def certificate(self, gradient_KP: Tensor) -> float:
        """The largest component of the gradient by (W, b), divided by the sum of costs."""
        original_KD = gradient_KP[:, :-1] + torch.outer(gradient_KP[:, -1], self.shift_D)
        return max(float(original_KD.abs().max()), float(gradient_KP[:, -1].abs().max())) / self.cost

    def _costs(self, block: Block) -> Tensor:
        return row_weights(block) * self.classes.weight_K.to(block.device)[block.y_N]

    def _bounds(self, point_KP: Tensor) -> list[Tensor]:
        n, max_cost = self.blocks.num_rows, self.classes.max_cost
        radius = float(
            (point_KP.abs() @ self.norm_P).sum()
        )  # root of the sum of squares of all decision values, at most
        value = max_cost * (n * np.log(len(point_KP)) + 2 * n**0.5 * radius)
        gradient_P = max_cost * n**0.5 * self.norm_P * SLACK
        return [torch.tensor(value, dtype=torch.float64), gradient_P.repeat(len(point_KP), 1)]


def minimise_multinomial(problem: MultinomialProblem, options: Options, progress: Progress) -> MultinomialSolution:
    """Minimises until the certificate and the expected decrease (relative to the value) are within the tolerance."""
    options.checkpoint.resume()  # on all ranks, before rank 0 leads
    scaling = problem.whitening()
    shape, size = problem.shape, problem.shape[0] * problem.shape[1]

    def serve(request: Tensor) -> tuple[float, Tensor]:
        step, certificate = request[:2].tolist()
        if step:
            progress(int(step), metric=options.metric, value=certificate)
        return problem.evaluate(request[2:].reshape(shape))

    def solve(ask: Callable[[Tensor], tuple[float, Tensor]]) -> Tensor:
        return _Lbfgs(problem, ask, scaling, options).run()

    found = lead(problem.comm, serve, solve, request=2 + size, answer=4 + size)
    n_iter, objective, certificate, converged = found[:4].tolist()
    progress(int(n_iter), metric=options.metric, value=certificate)
    point_KP = found[4:].reshape(shape)
    return MultinomialSolution(
        coef_KD=point_KP[:, :-1],
        intercept_K=problem.intercepts(point_KP)
        if problem.fit_intercept
        else torch.zeros(shape[0], dtype=torch.float64),
        n_iter=int(n_iter),
        objective=objective,
        certificate=certificate,
        converged=bool(converged),
    )


class _Journal:
    """What the ranks have replied so far: scipy cannot be started in the middle, but asked the same it goes the same way.

    A reply counts as long as all points up to its own were asked for as then, to the bit.
    """

    def __init__(self, saved: State | None) -> None:
        self._points: list[int] = saved["points"].tolist() if saved else []
        self._replies: list[Tensor] = list(saved["replies"]) if saved else []
        self._known = len(self._points)  # from an earlier attempt
        self._used = 0

    @property
    def is_replayed(self) -> bool:
        """Nothing was asked that was not known."""
        return self._used <= self._known

    @property
    def is_full(self) -> bool:
        return sum(reply.nbytes for reply in self._replies) > JOURNAL_BYTES

    def reply(self, point: Tensor, ask: Callable[[], Tensor]) -> Tensor:
        """The known reply to this point, or the one to `ask`."""
        name = int.from_bytes(sha256(point.numpy()).digest()[:8], signed=True)
        if self._used == len(self._points) or self._points[self._used] != name:
            del self._points[self._used :], self._replies[self._used :]
            self._known = min(self._known, self._used)
            self._points.append(name)
            self._replies.append(ask())
        self._used += 1
        return self._replies[self._used - 1]

    def state(self) -> State:
        return {"points": torch.tensor(self._points), "replies": torch.stack(self._replies)}


class _Lbfgs:
    """scipy's L-BFGS-B in whitened features, on rank 0."""

    def __init__(
        self,
        problem: MultinomialProblem,
        ask: Callable[[Tensor], tuple[float, Tensor]],
        whitening: Tensor,
        options: Options,
    ) -> None:
        self._problem, self._ask, self._options = problem, ask, options
        self._whitening = whitening
        self._back = whitening.T if whitening.ndim == 2 else whitening
        self._journal = _Journal(options.checkpoint.resume())
        self._n_iter, self._certificate, self._is_small = 0, float("inf"), False

    def run(self) -> Tensor:
        """n_iter, objective, certificate, converged, and the point."""
        from scipy.optimize import minimize  # noqa: PLC0415 - rank 0 alone needs it

        size = self._problem.shape[0] * (self._whitening.shape[-1] + 1)
        limits = {"maxiter": self._options.max_iterations, "maxfun": 10 * self._options.max_iterations + 10}
        exact = {"maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0}  # `_after_step` says when to stop
        found = minimize(
            self._evaluate,
            np.zeros(size),
            jac=True,
            method="L-BFGS-B",
            callback=self._after_step,
            options=limits | exact,
        )
        self._evaluate(found.x)
        converged = self._is_small and self._certificate <= self._options.tolerance
        facts = [self._n_iter, found.fun * self._problem.cost, self._certificate, converged]
        return torch.cat([torch.tensor(facts, dtype=torch.float64), self._point(found.x).reshape(-1)])

    def _evaluate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient_KP = self._reply(self._point(x))
        self._certificate = self._problem.certificate(gradient_KP)
        white_KP = torch.cat([_times(gradient_KP[:, :-1], self._whitening), gradient_KP[:, -1:]], dim=1)
        white_KP /= self._problem.cost
        mean = value / self._problem.cost
        # In these coordinates the Hessian is about the identity times p (1 - p).
        small = float((white_KP**2).sum()) <= 0.1 * self._options.tolerance * mean
        self._is_small = small or mean <= self._options.tolerance
        return mean, white_KP.reshape(-1).numpy()

    def _reply(self, point_KP: Tensor) -> tuple[float, Tensor]:
        def ask() -> Tensor:
            header = torch.tensor([self._n_iter, self._certificate], dtype=torch.float64)
            value, gradient_KP = self._ask(torch.cat([header, point_KP.reshape(-1)]))
            return torch.cat([torch.tensor([value], dtype=torch.float64), gradient_KP.reshape(-1)])

        reply = self._journal.reply(point_KP, ask)
        return float(reply[0]), reply[1:].reshape(point_KP.shape)

    def _after_step(self, intermediate_result: "OptimizeResult") -> None:
        self._n_iter += 1
        if not self._journal.is_replayed:
            rest = None if self._journal.is_full else self._journal.state
            self._options.checkpoint.offer(self._n_iter, {"point": self._point(intermediate_result.x)}, rest)
        if self._is_small and self._certificate <= self._options.tolerance:
            raise StopIteration

    def _point(self, x: np.ndarray) -> Tensor:
        white_KP = torch.from_numpy(x.copy()).reshape(self._problem.shape[0], -1)
        return torch.cat([_times(white_KP[:, :-1], self._back), white_KP[:, -1:]], dim=1)


def _times(rows_KD: Tensor, matrix: Tensor) -> Tensor:
    """By a matrix, or by a diagonal one, of which the diagonal is given."""
    return rows_KD @ matrix if matrix.ndim == 2 else rows_KD * matrix
