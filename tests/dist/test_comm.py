"""Collectives between real processes, of values that are told to each rank by each other one and of those that go round by gloo."""

import subprocess
import sys

import torch
from torch import Tensor

from scaletrain.comm import SMALL, Comm, Op, TorchComm
from scaletrain.device import choose, settle
from scaletrain.rank import Rank
from scaletrain.rendezvous import meet
from tests.dist.world import free_port

SIZE = 3
SHAPES = [(), (0,), (1,), (40, 50), (SMALL // 8,)]
COMBINED = {Op.SUM: lambda told: told.sum(0), Op.MAX: lambda told: told.amax(0), Op.MIN: lambda told: told.amin(0)}


def test_collectives():
    """All give what the ranks' values give, whatever their shape and dtype."""
    port = free_port()
    ranks = [
        subprocess.Popen([sys.executable, "-m", "tests.dist.test_comm", str(rank), str(port)], stderr=subprocess.PIPE)
        for rank in range(SIZE)
    ]
    said = [rank.communicate(timeout=60)[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * SIZE, "\n".join(said)


def value_of(rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """What that rank says. Sums of three leave the range of int64, and come back to it."""
    large = torch.randint(-(2**62), 2**62, shape, generator=torch.Generator().manual_seed(rank))
    return large.to(dtype)


def check(comm: Comm, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """AssertionError if a collective gives anything else."""
    values = [value_of(rank, shape, dtype) for rank in range(comm.size)]
    mine = values[comm.rank].clone()
    for op in Op if dtype == torch.int64 else (Op.MAX, Op.MIN):
        torch.testing.assert_close(comm.all_reduce(mine, op), COMBINED[op](torch.stack(values)), rtol=0, atol=0)
    torch.testing.assert_close(comm.broadcast(mine, root=1), values[1], rtol=0, atol=0)
    if shape:
        # Of different lengths: rank 0 has none.
        parts = [value[: len(value) * rank // 2] for rank, value in enumerate(values)]
        torch.testing.assert_close(comm.all_gather(parts[comm.rank]), parts, rtol=0, atol=0)
    torch.testing.assert_close(mine, values[comm.rank], rtol=0, atol=0)  # is left as it was


def main(number: int, port: int) -> None:
    """One of the ranks."""
    me = Rank(rank=number, world_size=SIZE, local_rank=number, local_world_size=SIZE, master_port=port)
    comm = TorchComm(me, meet(me, has_gpu=False, timeout_seconds=60), settle(choose(me, "gloo", 0)))
    for shape in SHAPES:
        for dtype in (torch.int64, torch.float64, torch.float32, torch.uint8):
            check(comm, shape, dtype)
    comm.barrier()
    comm.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
