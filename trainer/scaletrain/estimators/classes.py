"""Classes: how many there are, and what a row of each class costs.

Legend: N rows of a block, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import ClassWeight
from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.errors import InvalidData
from scaletrain.exact import max_over_blocks, sum_blocks

from .linalg import totals_by_group
from .moments import max_weight, row_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Equal on all ranks."""

    count: int
    total_K: Tensor  # float64: sums of the weights of the rows
    weight_K: Tensor  # float64: what `classWeight` multiplies the weights of a class's rows with
    max_weight: float  # of a row, before that

    @property
    def max_cost(self) -> float:
        """No row counts more than this."""
        return self.max_weight * max(1.0, float(self.weight_K.max()))


def count_classes(comm: Comm, blocks: Blocks, class_weight: ClassWeight) -> Classes:
    """InvalidData if there are fewer than two classes, or a class without a row of positive weight."""
    blocks = blocks.featureless
    count = _number_of_classes(comm, blocks)
    if count < 2:
        raise InvalidData("the label has one class only; a classifier needs at least two")
    largest = max_weight(comm, blocks)
    bound = torch.full((count,), max(blocks.num_rows, 1) * largest, dtype=torch.float64)

    def weights(block: Block) -> list[Tensor]:
        return [totals_by_group(block.y_N, row_weights(block), count)]

    (total_K,) = sum_blocks(comm, blocks, weights, [bound])
    _require_rows(total_K, blocks.classes)
    balanced_K = total_K.sum() / (count * total_K)  # as compute_class_weight("balanced") in scikit-learn
    weight_K = balanced_K if class_weight is ClassWeight.BALANCED else torch.ones(count, dtype=torch.float64)
    return Classes(count=count, total_K=total_K, weight_K=weight_K, max_weight=largest)


def _number_of_classes(comm: Comm, blocks: Blocks) -> int:
    def largest(block: Block) -> Tensor:
        return block.y_N.max().reshape(1) + 1 if len(block) else block.y_N.new_zeros(1)

    seen = int(max_over_blocks(comm, blocks, largest, torch.zeros(1, dtype=torch.int64))[0])
    return seen if blocks.classes is None else max(seen, len(blocks.classes))


def _require_rows(total_K: Tensor, labels: np.ndarray | None) -> None:
    missing = torch.nonzero(total_K <= 0).flatten()
    if len(missing):
        names = missing.tolist() if labels is None else labels[missing.numpy()].tolist()
        raise InvalidData(
            "classes without a row to train on (held back for validation, dropped, or of weight 0): "
            + ", ".join(map(str, names[:10]))
        )
