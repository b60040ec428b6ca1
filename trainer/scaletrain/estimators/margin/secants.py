"""What gradients along the way tell of the Hessian: the products of BFGS on an inverse that is known about (Nocedal 1980)."""

from collections.abc import Callable, Sequence

from torch import Tensor

from .standing import Step


def inverse_times(gradient_P: Tensor, steps: Sequence[Step], solve: Callable[[Tensor], Tensor]) -> Tensor:
    """The inverse Hessian times a gradient (P,): `solve`, corrected to map each change of the gradient to its step."""
    used = [(one, float(one.step_P @ one.change_P)) for one in steps]
    used = [(one, curvature) for one, curvature in used if curvature > 0]
    shares = []
    for one, curvature in reversed(used):
        share = float(one.step_P @ gradient_P) / curvature
        gradient_P = gradient_P - share * one.change_P
        shares.append(share)
    found_P = solve(gradient_P)
    for (one, curvature), share in zip(used, reversed(shares), strict=True):
        found_P = found_P + (share - float(one.change_P @ found_P) / curvature) * one.step_P
    return found_P
