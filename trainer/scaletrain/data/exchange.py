"""JSON and bytes between ranks, in a tensor: never pickled objects."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm

T = TypeVar("T")


def gather_json(comm: Comm, value: Any) -> list[Any]:
    """The values of all ranks, in the order of ranks."""
    return [_decode(part) for part in comm.all_gather(_encode(comm, value))]


def shared_out(comm: Comm, items: Sequence[T], look: Callable[[T], Any]) -> list[Any]:
    """What `look` finds in each item, as JSON, in their order: each is looked at by one rank. One collective."""
    mine = {n: look(item) for n, item in enumerate(items) if n % comm.size == comm.rank}
    found = {int(n): value for of_rank in gather_json(comm, mine) for n, value in of_rank.items()}
    return [found[n] for n in range(len(items))]


def broadcast_json(comm: Comm, value: Any) -> Any:
    """Rank 0's value; the others' are ignored."""
    return _decode(comm.all_gather(_encode(comm, value) if comm.rank == 0 else _encode(comm, None)[:0])[0])


def broadcast_bytes(comm: Comm, value: bytes) -> bytes:
    """Rank 0's value; the others' are ignored. Held once more by each rank."""
    length = int(comm.broadcast(torch.tensor([len(value)])))
    if not length:
        return b""
    content = np.frombuffer(value, dtype=np.uint8).copy() if comm.rank == 0 else np.empty(length, dtype=np.uint8)
    return comm.broadcast(torch.from_numpy(content)).numpy().tobytes()


def _encode(comm: Comm, value: Any) -> Tensor:
    return torch.from_numpy(np.frombuffer(json.dumps(value).encode(), dtype=np.uint8).copy()).to(comm.device)


def _decode(value: Tensor) -> Any:
    return json.loads(value.cpu().numpy().tobytes())
