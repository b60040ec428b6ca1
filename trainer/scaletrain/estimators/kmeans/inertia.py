"""The inertia of centres for the final labels, from the sums of the clusters where digits allow it, else from a pass over all rows.

With the sums S_k of weight * point and W_k of the weights of each cluster,

    sum of w |x - c|^2 = Q - 2 sum_k c_k S_k + P,   Q = sum of w |x|^2,   P = sum_k W_k |c_k|^2

which takes 2 K D operations and no row. Each of the three terms is at most Q + P, and so their errors count where the clusters are
tight and the terms cancel. What the sums of T passes over B blocks of up to R rows are off, with u = 2^-53:

    blocks add at most R terms, with an error of u per addition: sqrt(T R) u (Q + P), because |c| |x| <= (|c|^2 + |x|^2) / 2
    each sum of a block is rounded to 2^-62 of its bound (see `exact`), b_D for points, 2 W for weights, of all rows W, and q for Q:
    sqrt(T B) 2^-62 (2 |c_kD b_D| + 2 W | |c_k|^2 | + q), with lengths of all features and clusters together

Both as roundings of either sign add up (Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci.
Comput. 2019), times CERTAINTY. The sums are taken where that is at most ACCURACY of the inertia: where it is more than about 0.005 of
Q + P after 20 passes, 0.02 after 300.

Legend: N rows of a block, D features, K clusters.
"""

import torch
from torch import Tensor

from scaletrain.data.blocks import Block
from scaletrain.estimators.moments import row_weights
from scaletrain.exact import sum_blocks, sum_blocks_within

from .nearest import Points, RowState, square_bound, squared_distances
from .sums import Sums, point_bound, total_bound

ACCURACY = 1e-10
CERTAINTY = 8.0
BLOCK_ROWS = 1 << 14
UNIT, FIXED, TINY = 2.0**-53, 2.0**-62, 1e-280


def inertia(data: Points, C_KD: Tensor, sums: Sums, label: RowState, num_passes: int) -> float:
    """The sum of weight * squared distance of the rows to the centres of their labels. Equal on all ranks.

    sums: of the rows by label, kept in so many passes.
    """
    # Sums of floats may differ in the last bit between types of CPU: rank 0 decides.
    mine = torch.tensor(_of_sums(data, C_KD, sums, num_passes), dtype=torch.float64)
    found, error = data.comm.broadcast(mine).tolist()
    return found if error <= ACCURACY * found else _of_rows(data, C_KD, label, max(0.0, found) + error)


def inertia_of_means(data: Points, sums: Sums) -> float:
    """For progress: sum w |x|^2 - sum_k |sum_k w x|^2 / W_k. Loses digits if clusters are tight."""
    weight_K = torch.where(sums.weight_K > 0, sums.weight_K, 1.0)
    return max(0.0, float(data.square_D.sum() - ((sums.point_KD**2).sum(1) / weight_K).sum()))


def _of_sums(data: Points, C_KD: Tensor, sums: Sums, num_passes: int) -> tuple[float, float]:
    """By the formula of the module's docstring; and how far that may be off."""
    C_KD, square = C_KD.to(torch.float64), float(sums.square)
    square_K = C_KD.square().sum(1)
    square_of_centers = float(sums.weight_K @ square_K)
    found = square - 2 * float((C_KD * sums.point_KD).sum()) + square_of_centers
    of_blocks = UNIT * BLOCK_ROWS**0.5 * (square + square_of_centers)
    bound = 2 * torch.linalg.vector_norm(C_KD * point_bound(data)) + total_bound(data)
    bound += 2 * data.weight * torch.linalg.vector_norm(square_K)
    of_fixed = FIXED * data.blocks.num_blocks**0.5 * float(bound)
    return found, CERTAINTY * num_passes**0.5 * (of_blocks + of_fixed)


def _of_rows(data: Points, C_KD: Tensor, label: RowState, expected: float) -> float:
    """From squared differences, in a pass; in a second one if that finds more than is expected, above 0. What is expected of
    tight clusters is little, and the digits of a sum begin at its bound."""
    there_KD = C_KD.to(data.comm.device)

    def partial(block: Block) -> list[Tensor]:
        return [row_weights(block) @ squared_distances(data.of(block), there_KD, label.of(block))]

    limit = torch.tensor(max(expected, TINY), dtype=torch.float64)
    found = sum_blocks_within(data.comm, data.blocks, partial, [limit])
    return float((found or sum_blocks(data.comm, data.blocks, partial, [square_bound(data, C_KD)]))[0])
