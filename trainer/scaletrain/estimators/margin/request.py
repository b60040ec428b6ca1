"""What rank 0 asks all ranks to compute, and how that travels.

Legend: P coordinates of a point.
"""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from .evaluation import Hessian


class Task(IntEnum):
    EVALUATE = 0
    SEARCH = 1
    MULTIPLY = 2


HEADER = 6  # numbers before the vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """At a point of the problem of a level (0: all rows, see `sampling.samples`)."""

    level: int
    point_P: Tensor
    task: Task = Task.EVALUATE
    vector_P: Tensor | None = None  # the direction of a search, or what to multiply
    hessian: Hessian = Hessian.NONE
    may_be_rough: bool = False
    step: int = 0  # for progress, as the certificate is
    certificate: float = 0.0

    def numbers(self) -> Tensor:
        """float64 (HEADER + 2 P,)."""
        header = [self.task, self.level, self.hessian, self.may_be_rough, self.step, self.certificate]
        vector_P = torch.zeros_like(self.point_P) if self.vector_P is None else self.vector_P
        return torch.cat([torch.tensor(header, dtype=torch.float64), self.point_P, vector_P])

    @classmethod
    def of(cls, numbers: Tensor) -> "Request":
        task, level, hessian, may_be_rough, step, certificate = numbers[:HEADER].tolist()
        point_P, vector_P = numbers[HEADER:].chunk(2)
        return cls(
            level=int(level),
            point_P=point_P,
            task=Task(int(task)),
            vector_P=vector_P,
            hessian=Hessian(int(hessian)),
            may_be_rough=bool(may_be_rough),
            step=int(step),
            certificate=certificate,
        )
