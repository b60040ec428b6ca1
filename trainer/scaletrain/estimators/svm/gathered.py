"""Few rows, brought to rank 0: it then works on them alone, with no collective and no sums of many blocks.

Legend: N rows, D features.
"""

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks, rows_per_block
from scaletrain.estimators.moments import row_weights


def gathered(comm: Comm, blocks: Blocks) -> Block | None:
    """All rows, by their numbers, with weights, in float64; None, on all ranks, if they are more than a block holds.

    Two collectives, the second of the rows.
    """
    mine = torch.tensor([sum(head.num_rows for head in blocks.heads)])
    if int(comm.all_reduce(mine.to(comm.device)).cpu()) > rows_per_block(blocks.num_features):
        return None
    none = torch.empty(0, 3 + blocks.num_features, dtype=torch.float64)
    values = torch.cat(comm.all_gather(torch.cat([none, *map(_values, blocks.blocks)])))
    return _block(values[values[:, 0].argsort()])


def _values(block: Block) -> Tensor:
    about_N3 = torch.stack([block.row_N.to(torch.float64), block.y_N.to(torch.float64), row_weights(block)], dim=1)
    return torch.cat([about_N3, block.X_ND.to(torch.float64)], dim=1).cpu()


def _block(values: Tensor) -> Block:
    row_N, y_N, weight_N = values[:, :3].T
    return Block(
        row_N=row_N.to(torch.int64),
        X_ND=values[:, 3:].contiguous(),
        y_N=y_N.to(torch.int64),
        weight_N=weight_N.contiguous(),
    )
