"""JSON and bytes between ranks, in a tensor: never pickled objects."""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm


def gather_json(comm: Comm, value: Any) -> list[Any]:
    """The values of all ranks, in the order of ranks."""
    return [_decode(part) for part in comm.all_gather(_encode(comm, value))]


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
