"""The hinge loss over all blocks, made smooth by the multipliers of its dual, as exact sums.

    max(0, u) = max over 0 <= a <= 1 of  a u,     u_i = 1 - y_i z_i

    f(p) = l2/2 |w|^2 + sum_i c_i max over 0 <= a <= 1 of  a u_i - width (a - a_i)^2,    reached by a = clip(a_i + u_i / (2 width))

With a_i = 0 a parabola on 0 <= u <= 2 width replaces the corner of the hinge. With the multipliers at the minimum of an f before
it, the parabola lies about what u is there, and the minima of f approach that of the hinge without being much narrower.
The multipliers are not stored: each pass finds them again from the few points (anchors) where the f before ended.

Cost of a pass: 2 D (K + 3) flops a row, and D^2 for one in its parabola. All-reduced: P^2 + 2 P + 3 numbers; by a search T.

Legend: N rows of a block, D features, P = D + 1, K anchors, J = K + 1 points, T step sizes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from scaletrain.comm import SoloComm
from scaletrain.data.blocks import MEMORY, Block
from scaletrain.estimators.margin.margin import MarginProblem
from scaletrain.exact import sum_blocks

from .gathered import gathered


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoothing:
    """Which f: its width, and those of the f before it with the points where they ended."""

    width: float
    widths_K: tuple[float, ...]
    anchors_KP: Tensor

    @classmethod
    def first(cls, width: float, size: int) -> "Smoothing":
        return cls(width=width, widths_K=(), anchors_KP=torch.zeros(0, size, dtype=torch.float64))

    def after(self, point_P: Tensor, width: float) -> "Smoothing":
        """The next f, if this one ended at a point."""
        anchors_KP = torch.cat([self.anchors_KP, point_P[None]])
        return Smoothing(width=width, widths_K=(*self.widths_K, self.width), anchors_KP=anchors_KP)

    def numbers(self, most: int) -> Tensor:
        """All of it, float64, as long as with `most` anchors."""
        count, size = self.anchors_KP.shape
        numbers = torch.zeros(2 + most * (1 + size), dtype=torch.float64)
        header = torch.tensor([self.width, count, *self.widths_K], dtype=torch.float64)
        filled = torch.cat([header, self.anchors_KP.reshape(-1)])
        numbers[: len(filled)] = filled
        return numbers

    @classmethod
    def restored(cls, numbers: Tensor, size: int) -> "Smoothing":
        width, count = float(numbers[0]), int(numbers[1])
        widths_K, anchors = numbers[2 : 2 + count * (1 + size)].split([count, count * size])
        return cls(width=width, widths_K=tuple(widths_K.tolist()), anchors_KP=anchors.reshape(count, size))

    def multipliers(self, u_NJ: Tensor) -> Tensor:
        """a_i of the rows, (N,), from their u at the anchors."""
        a_N = u_NJ.new_zeros(len(u_NJ))
        for k, width in enumerate(self.widths_K):
            a_N.add_(u_NJ[:, k], alpha=1 / (2 * width)).clamp_(0, 1)
        return a_N


@dataclass(frozen=True, slots=True, kw_only=True)
class HingeEvaluation:
    """f at a point, and what follows for the hinge itself."""

    value: float
    gradient_P: Tensor
    hessian_PP: Tensor
    num_curved: float  # rows with a cost that are in their parabola
    objective: float  # with the hinge
    gap: float  # objective - dual, with the multipliers at the point
    smoothing: float  # what the gap would be if the point were the minimum of f

    @property
    def certificate(self) -> float:
        return self.gap / self.objective if self.objective else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HingeProblem:
    """All rows of a problem; or some of them, the others being taken to stay on their side of the corner."""

    problem: MarginProblem
    # slopes of the others: sums of -c_i y_i (x_i - shift, 1) where u_i > 0, for y = +1 and for y = -1
    beyond_2P: Tensor
    is_alone: bool = False  # all the rows are in one block on this rank
    known: dict[object, Tensor] = field(default_factory=dict)  # the multipliers of that block's rows

    @classmethod
    def of(cls, problem: MarginProblem) -> "HingeProblem":
        return cls(problem=problem, beyond_2P=torch.zeros(2, len(problem.x.mean_D) + 1, dtype=torch.float64))

    def near(self, point_P: Tensor, reach: float) -> "HingeProblem | None":
        """Of a problem with all rows, that of those with |u| < reach at a point. Two passes and two collectives.

        If they are not more than a block holds they go to rank 0, which needs nobody else then; the others get None.
        """
        problem = self.problem

        def beyond(block: Block) -> list[Tensor]:
            X_ND, (sign_N, cost_N) = block.X_ND.to(torch.float64), problem.labels(block)
            u_N = self._u(X_ND, sign_N, point_P[None])[:, 0]
            return [self._sides(X_ND, sign_N, cost_N * (u_N >= reach))]

        def keep(block: Block) -> Block:
            u_N = self._u(block.X_ND.to(torch.float64), problem.labels(block)[0], point_P[None])[:, 0]
            return block.take((u_N.abs() < reach).nonzero()[:, 0])

        (beyond_2P,) = sum_blocks(problem.comm, problem.blocks, beyond, [self._side_bounds])
        kept = problem.blocks.stored(keep, problem.blocks.num_features)
        near = HingeProblem(problem=replace(problem, blocks=kept), beyond_2P=beyond_2P * problem.varying_P)
        block = gathered(problem.comm, kept)
        if block is None:
            return near
        return near._alone(block) if problem.comm.rank == 0 else None

    def evaluate(self, point_P: Tensor, smoothing: Smoothing) -> HingeEvaluation:
        """One pass over the blocks, one collective."""
        problem, width = self.problem, smoothing.width

        def partial(block: Block) -> list[Tensor]:
            X_ND, (sign_N, cost_N) = block.X_ND.to(torch.float64), problem.labels(block)
            u_N1, before_N = self._at(X_ND, sign_N, point_P[None], smoothing)
            u_N = u_N1[:, 0]
            free_N = before_N.add(u_N, alpha=1 / (2 * width))
            a_N = free_N.clamp(0, 1)
            curved_N = cost_N * (a_N == free_N)
            value_N = _smooth(u_N, a_N, before_N, width)
            sums_3 = torch.stack(
                [cost_N @ value_N, cost_N @ u_N.clamp(min=0), curved_N.count_nonzero().to(torch.float64)]
            )
            gram_PP = problem.weighted_gram(block, curved_N / (2 * width))
            return [sums_3, self._sides(X_ND, sign_N, cost_N * a_N), gram_PP]

        sums_3, sides_2P, hessian_PP = self._sums(partial, lambda: self._bounds(point_P, width))
        sides_2P = sides_2P * problem.varying_P + self.beyond_2P
        return self._evaluation(point_P, sums_3.tolist(), sides_2P, problem.with_penalty(hessian_PP))

    def search(self, point_P: Tensor, direction_P: Tensor, smoothing: Smoothing, steps_T: Tensor) -> Tensor:
        """f at point + t * direction for some step sizes t, in one pass and one collective."""
        problem, width = self.problem, smoothing.width
        there_T1 = steps_T.to(problem.comm.device)[:, None]
        points_2P = torch.stack([point_P, point_P + direction_P])

        def partial(block: Block) -> list[Tensor]:
            X_ND, (sign_N, cost_N) = block.X_ND.to(torch.float64), problem.labels(block)
            u_N2, before_N = self._at(X_ND, sign_N, points_2P, smoothing)
            u_TN = torch.lerp(u_N2[:, 0], u_N2[:, 1], there_T1)
            a_TN = torch.add(before_N, u_TN, alpha=1 / (2 * width)).clamp_(0, 1)
            return [_smooth(u_TN, a_TN, before_N, width) @ cost_N]

        def bounds() -> list[Tensor]:
            reach_P = point_P.abs() + float(steps_T.max().clamp(min=1)) * direction_P.abs()
            return [torch.full_like(steps_T, self._value_bound(reach_P, width))]

        (values_T,) = self._sums(partial, bounds)
        points_TP = point_P + steps_T[:, None] * direction_P
        penalty_T = (problem.penalty_slope(points_TP) * points_TP).sum(1) / 2
        return values_T + penalty_T + _pulled(self.beyond_2P, points_TP)

    def _evaluation(
        self, point_P: Tensor, sums_3: list[float], sides_2P: Tensor, hessian_PP: Tensor
    ) -> HingeEvaluation:
        value, hinge, num_curved = sums_3
        penalty_P = self.problem.penalty_slope(point_P)
        penalty, beyond = float(point_P @ penalty_P) / 2, float(_pulled(self.beyond_2P, point_P))
        objective = hinge + beyond + penalty
        return HingeEvaluation(
            value=value + beyond + penalty,
            gradient_P=sides_2P.sum(0) + penalty_P,
            hessian_PP=hessian_PP,
            num_curved=num_curved,
            objective=objective,
            gap=objective - self._dual(sides_2P),
            smoothing=hinge + beyond - float(_pulled(sides_2P, point_P)),
        )

    def _dual(self, sides_2P: Tensor) -> float:
        """With a free intercept the multipliers of the two sides must have equal sums: the larger side is scaled down."""
        sum_2 = sides_2P[:, -1].abs()
        scale_2 = torch.ones_like(sum_2)
        if self.problem.fit_intercept:
            scale_2 = torch.where(sum_2 > 0, sum_2.min() / sum_2, 0.0)
        v_D = scale_2 @ sides_2P[:, :-1]
        return float(scale_2 @ sum_2) - float(v_D @ v_D) / (2 * self.problem.l2)

    def _alone(self, block: Block) -> "HingeProblem":
        blocks = replace(self.problem.blocks, blocks=[block], room=MEMORY)
        return replace(self, problem=replace(self.problem, comm=SoloComm(), blocks=blocks), is_alone=True)

    def _sums(self, partial: Callable[[Block], list[Tensor]], bounds: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Over all blocks; with a single one its sums are what they are."""
        problem = self.problem
        if self.is_alone:
            return partial(problem.blocks.blocks[0])
        return sum_blocks(problem.comm, problem.blocks, partial, bounds())

    def _at(self, X_ND: Tensor, sign_N: Tensor, points_JP: Tensor, smoothing: Smoothing) -> tuple[Tensor, Tensor]:
        """u at some points, (N, J), and the multipliers."""
        anchors_KP = smoothing.anchors_KP
        if not self.is_alone:
            u_NJ = self._u(X_ND, sign_N, torch.cat([anchors_KP, points_JP]))
            return u_NJ[:, len(anchors_KP) :], smoothing.multipliers(u_NJ)
        key = (smoothing.widths_K, anchors_KP.numpy().tobytes())
        if key not in self.known:
            self.known.clear()
            self.known[key] = smoothing.multipliers(self._u(X_ND, sign_N, anchors_KP))
        return self._u(X_ND, sign_N, points_JP), self.known[key]

    def _u(self, X_ND: Tensor, sign_N: Tensor, points_JP: Tensor) -> Tensor:
        """1 - y z at some points, float64 (N, J)."""
        z_NJ = X_ND @ points_JP[:, :-1].T.to(X_ND.device) + self.problem.intercept(points_JP).to(X_ND.device)
        return 1 - sign_N[:, None] * z_NJ

    def _sides(self, X_ND: Tensor, sign_N: Tensor, force_N: Tensor) -> Tensor:
        """Sums of -force y (x - shift, 1) for y = +1 and for y = -1, (2, P)."""
        return self.problem.sums_about(torch.stack([-force_N * (sign_N > 0), force_N * (sign_N < 0)]), X_ND)

    def _bounds(self, point_P: Tensor, width: float) -> list[Tensor]:
        problem = self.problem
        value = self._value_bound(point_P.abs(), width)
        sums_3 = torch.tensor([value, value, problem.blocks.num_rows], dtype=torch.float64)
        return [sums_3, self._side_bounds, problem.gram_bounds(1 / (2 * width))]

    @property
    def _side_bounds(self) -> Tensor:
        """Each force is a cost at most."""
        problem = self.problem
        return (problem.max_cost * problem.blocks.num_rows**0.5 * problem.norm_P).expand(2, -1)

    def _value_bound(self, size_P: Tensor, width: float) -> float:
        """Of sums of c |u| and of c |a u - width (a - a_i)^2|, for |coordinates| up to `size_P`."""
        problem, n = self.problem, self.problem.blocks.num_rows
        return problem.max_cost * ((1 + width) * n + n**0.5 * float((size_P * problem.norm_P).sum()))


def _smooth(u: Tensor, a: Tensor, before: Tensor, width: float) -> Tensor:
    """a u - width (a - before)^2."""
    return a * u - width * (a - before).square_()


def _pulled(sides_2P: Tensor, points: Tensor) -> Tensor:
    """Sums of force * u at a point (P,) or at several (T, P), from those of -force * y (x - shift, 1) by side."""
    return sides_2P[1, -1] - sides_2P[0, -1] + points @ sides_2P.sum(0)
