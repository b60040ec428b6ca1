"""What a pass over the rows tells of a two-class linear problem at a point.

Legend: P coordinates of a point.
"""

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor


class Hessian(IntEnum):
    """How to sum the Hessian. It takes most of the time of a pass."""

    NONE = 0
    FAST = 1  # in the dtype of the features
    PRECISE = 2  # in float64
    DIAGONAL = 3  # its diagonal only, in float64


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """f at 0."""

    value: float
    gradient_P: Tensor | None  # None if the problem does without


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """f and its derivatives at a point. The penalty is included."""

    value: float
    gradient_P: Tensor
    hessian: Tensor | None  # (P, P), or the diagonal (P,); None if it was not asked for
    first: First
    is_rough: bool  # the features were multiplied in float32
