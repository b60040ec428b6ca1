"""The last step of k-means||: weighted candidates become K centres, on one rank.

Greedy k-means++ (Arthur and Vassilvitskii 2007) and Lloyd, the best of three runs, as scikit-learn's KMeans does it: to import
scikit-learn takes longer than a small fit.

Legend: A candidates, D features, K clusters, T trials.
"""

import math

import numpy as np
import torch
from numpy.random import Generator, Philox
from torch import Tensor

from scaletrain.comm import SoloComm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.draws import Key

from .lloyd import Limits, lloyd
from .nearest import points

RUNS = 3
TOLERANCE = 1e-4  # of the mean variance, and the most iterations: scikit-learn's defaults
MAX_ITERATIONS = 300


def recluster(C_AD: Tensor, weight_A: Tensor, K: int, key: Key) -> Tensor:
    """K centres in the dtype of the candidates; with too few candidates, takes them in turn. weight_A: float64, not negative."""
    if len(C_AD) <= K:
        return C_AD[torch.arange(K) % len(C_AD)]
    block = Block(row_N=torch.arange(len(C_AD)), X_ND=C_AD, weight_N=weight_A)
    data = points(SoloComm(), Blocks(blocks=[block], num_rows=len(C_AD), num_features=C_AD.shape[1], num_blocks=1))
    variance = float((data.x.square_D / data.x.weight).mean())
    limits = Limits(tolerance=TOLERANCE * variance, max_iterations=MAX_ITERATIONS)
    X_AD, rng = data.of(block), Generator(Philox(key=key.words(2)))
    runs = [lloyd(data, lambda: X_AD[greedy(X_AD, weight_A, K, rng)], limits, lambda *_: None) for _ in range(RUNS)]
    return (min(runs, key=lambda run: run.inertia).C_KD + data.shift_D).to(C_AD.dtype)


def greedy(X_AD: Tensor, weight_A: Tensor, K: int, rng: Generator) -> np.ndarray:
    """Places of K candidates: of 2 + log K drawn in proportion to weight * squared distance, the one that leaves least, K times."""
    X_AD, weight_A = X_AD.to(torch.float64).numpy(), weight_A.numpy()
    norm_A = (X_AD * X_AD).sum(1)

    def squared_distances(trial_T: np.ndarray) -> np.ndarray:
        return (norm_A[trial_T, None] + norm_A - 2 * X_AD[trial_T] @ X_AD.T).clip(min=0)

    trial_T = _draw(weight_A, 1, rng)
    chosen, square_A = [trial_T[0]], squared_distances(trial_T)[0]
    while len(chosen) < K:
        trial_T = _draw(weight_A * square_A, 2 + int(math.log(K)), rng)
        square_TA = np.minimum(square_A, squared_distances(trial_T))
        best = int((square_TA @ weight_A).argmin())
        chosen.append(trial_T[best])
        square_A = square_TA[best]
    return np.array(chosen)


def _draw(share_A: np.ndarray, count: int, rng: Generator) -> np.ndarray:
    """Places drawn in proportion to their shares; all are 0 when fewer than K candidates are distinct, then any will do."""
    sum_A = np.cumsum(share_A)
    return np.minimum(np.searchsorted(sum_A, rng.random(count) * sum_A[-1], side="right"), len(share_A) - 1)
