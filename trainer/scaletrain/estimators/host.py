"""The fits compute on the CPU, also where rows and collectives live on a GPU."""

from dataclasses import replace

import torch
from torch import Tensor

from scaletrain.comm import Comm, Op
from scaletrain.data.blocks import Block, Blocks

CPU = torch.device("cpu")


def on_host(comm: Comm, blocks: Blocks) -> tuple[Comm, Blocks]:
    """Both as they are on the CPU; else blocks copied to it, and collectives that take and give tensors of it."""
    if comm.device.type == CPU.type:
        return comm, blocks
    return HostComm(comm), replace(blocks, blocks=[_to_host(block) for block in blocks.blocks])


class HostComm:
    """Collectives of CPU tensors by way of the device on which the ranks talk."""

    device = CPU

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self.rank, self.size = comm.rank, comm.size

    def all_reduce(self, value: Tensor, op: Op = Op.SUM) -> Tensor:
        return self._comm.all_reduce(value.to(self._comm.device), op).to(CPU)

    def broadcast(self, value: Tensor, root: int = 0) -> Tensor:
        return self._comm.broadcast(value.to(self._comm.device), root).to(CPU)

    def all_gather(self, value: Tensor) -> list[Tensor]:
        return [part.to(CPU) for part in self._comm.all_gather(value.to(self._comm.device))]

    def barrier(self) -> None:
        self._comm.barrier()

    def close(self) -> None:
        self._comm.close()


def _to_host(block: Block) -> Block:
    return Block(
        row_N=block.row_N.to(CPU),
        X_ND=block.X_ND.to(CPU),
        y_N=None if block.y_N is None else block.y_N.to(CPU),
        weight_N=None if block.weight_N is None else block.weight_N.to(CPU),
    )
