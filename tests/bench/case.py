"""What a benchmark of two fits is made of. Imports nothing heavy: the number of threads is set before numpy is loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Data = tuple[Any, Any]  # X and y, numpy; y may be None
Fit = Callable[[], Any]  # what is timed
Judge = Callable[[Any], float]  # the objective or inertia of what `Fit` returned, in float64
Side = Callable[..., tuple[Fit, Judge | None]]  # of Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fit of ours and the one of a peer that learns the same."""

    name: str
    times: float  # how many times faster than the peer ours has to be
    data: Callable[[float], Data]  # by the share of the full size; the same at each call
    ours: Side
    peer: Side
    tolerance: float = 0.0  # of our objective above the peer's, relative
    tols: tuple[
        float, ...
    ] = ()  # of the peer, which takes one as `tol`; falling, the last for the objective that counts
    packages: tuple[str, ...] = ()  # of a peer that has an environment of its own
    warm_up: float = 0.01  # share of the full size of a first fit, which loads the libraries
