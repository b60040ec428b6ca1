"""One line of a benchmark's report."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured, beside what it is measured against, and the bound on their ratio."""

    name: str
    ours: float
    peer: float
    spread: float  # of ours: (largest - smallest) / median
    bound: float  # ours / peer at most
    unit: str = "s"
    peer_spread: float = 0.0
    quality: tuple[float, float] | None = None  # ours and the peer's: an objective or inertia, less is better
    tolerance: float = 0.0  # of ours above the peer's, relative
    note: str = ""  # what is not plain from the name
    ranks: int | None = None  # where one fit is measured on several numbers of them

    @property
    def ratio(self) -> float:
        """1 where both are 0."""
        return self.ours / self.peer if self.peer else (math.inf if self.ours else 1.0)

    @property
    def excess(self) -> float:
        """By how much our objective is above the peer's, relative; below 0 if ours is better."""
        return self.quality[0] / self.quality[1] - 1 if self.quality else 0.0

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.bound and self.excess <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "excess": self.excess, "is_met": self.is_met}

    def __str__(self) -> str:
        verdict = "ok" if self.is_met else "MISSED"
        quality = f"  objectives {self.quality[0]:.9g} and {self.quality[1]:.9g}" if self.quality else ""
        return (
            f"{self.name:44s} {self.ours:9.3f} {self.unit} ±{self.spread / 2:3.0%}  peer {self.peer:9.3f} {self.unit} "
            f"±{self.peer_spread / 2:3.0%}  ratio {self.ratio:5.2f}  bound {self.bound:5.3f}  {verdict}{quality}"
            f"{'  ' if self.note else ''}{self.note}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A peer that cannot be had here."""

    name: str
    reason: str

    is_met = True

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name:44s} not available: {self.reason}"


Line = Figure | Absent


def spread(values: Iterable[float]) -> float:
    """(largest - smallest) / median."""
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2]
    return (ordered[-1] - ordered[0]) / middle if middle else 0.0
