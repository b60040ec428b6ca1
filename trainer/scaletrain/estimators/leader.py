"""Rank 0 decides, all ranks compute.

A fit that iterates asks for sums over all rows at points that it chooses. The choices are made on rank 0 alone and
broadcast, so that ranks can never disagree on what comes next, not even on machines whose arithmetic differs in the last bit.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.errors import PeerLost

T = TypeVar("T")

_GO, _DONE, _FAILED = 1.0, 0.0, -1.0


def lead(
    comm: Comm,
    serve: Callable[[Tensor], T],
    solve: Callable[[Callable[[Tensor], T]], Tensor],
    *,
    request: int,
    answer: int,
) -> Tensor:
    """`solve(ask)` on rank 0, where `ask(x)` runs `serve(x)` on every rank; all ranks return what `solve` returned.

    `serve` takes a float64 tensor of `request` numbers and may use collectives; `solve` returns `answer` numbers. If `solve`
    raises, outside `serve`, the error is raised on rank 0 and PeerLost on the others.
    """
    if comm.rank == 0:
        result = _Leader(comm, serve, request).run(solve)
    else:
        _follow(comm, serve, request)
        result = torch.empty(answer, dtype=torch.float64)
    return comm.broadcast(result)


class _Leader:
    def __init__(self, comm: Comm, serve: Callable[[Tensor], T], request: int) -> None:
        self._comm, self._serve, self._request = comm, serve, request
        self._is_serving = False  # an error then is the others' as well, or ends their collective

    def run(self, solve: Callable[[Callable[[Tensor], T]], Tensor]) -> Tensor:
        try:
            result = solve(self._ask)
        except Exception:
            if not self._is_serving:
                self._tell(_FAILED)
            raise
        self._tell(_DONE)
        return result

    def _ask(self, x: Tensor) -> T:
        self._is_serving = True
        message = self._comm.broadcast(torch.cat([torch.tensor([_GO], dtype=torch.float64), x]))
        reply = self._serve(message[1:])
        self._is_serving = False
        return reply

    def _tell(self, word: float) -> None:
        self._comm.broadcast(torch.full((self._request + 1,), word, dtype=torch.float64))


def _follow(comm: Comm, serve: Callable[[Tensor], T], request: int) -> None:
    while True:
        message = comm.broadcast(torch.empty(request + 1, dtype=torch.float64))
        if message[0] == _FAILED:
            raise PeerLost("rank 0 ended the fit with an error")
        if message[0] == _DONE:
            return
        serve(message[1:])
