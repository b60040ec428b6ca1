"""One line of a benchmark's report."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured, beside what it is measured against, and the bound on their ratio."""

    name: str
    ours: float
    peer: float
    spread: float  # of ours: (largest - smallest) / median
    bound: float  # ours / peer at most
    unit: str = "s"

    @property
    def ratio(self) -> float:
        return self.ours / self.peer

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.bound

    def __str__(self) -> str:
        verdict = "ok" if self.is_met else "MISSED"
        return (
            f"{self.name:36s} {self.ours:9.3f} {self.unit}  peer {self.peer:9.3f} {self.unit}  ratio {self.ratio:5.2f}"
            f"  bound {self.bound:4.2f}  spread {self.spread:4.0%}  {verdict}"
        )
