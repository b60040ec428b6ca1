"""How far to go in a direction: a step must make the value smaller by a share of what its slope promises (Armijo 1966).

`decrement`: half of -slope, what a parabola with this slope and curvature falls by. Legend: T step sizes.
"""

import torch
from torch import Tensor

SHARE = 1e-4
ROUNDING, ROUGH_ROUNDING = (
    1e-13,
    1e-6,
)  # relative; smaller differences between two values say nothing; of features in float32
STEPS_T = 0.5 ** torch.arange(1, 33, dtype=torch.float64)  # what is tried, all at once, if the full step is refused


def falls(before: float, after: float, decrement: float, rounding: float = ROUNDING) -> bool:
    """Whether the full step will do."""
    return after <= before - 2 * SHARE * decrement + rounding * abs(before)


def best_step(before: float, values_T: Tensor, decrement: float) -> float | None:
    """Of the steps STEPS_T with these values that will do, the one with the smallest; None if none will."""
    good_T = values_T <= before - STEPS_T * 2 * SHARE * decrement
    if not bool(good_T.any()):
        return None
    return float(STEPS_T[int(torch.where(good_T, values_T, torch.inf).argmin())])
