"""The one place where CPU or GPU is chosen."""

from dataclasses import dataclass

import torch
import torch.utils.deterministic

from .errors import InvalidSpec
from .rank import Rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a rank computes and by which library the ranks talk."""

    device: torch.device
    backend: str  # gloo or nccl


def has_own_gpu(rank: Rank) -> bool:
    """Whether this worker has a GPU for each of its processes."""
    return torch.cuda.is_available() and torch.cuda.device_count() >= rank.local_world_size


def choose(rank: Rank, asked: str, num_gpus: int) -> Placement:
    """`asked` is `rendezvous.backend`; `num_gpus` counts the ranks of the job that have a GPU of their own.

    All ranks compute on GPUs, or none does: results must not depend on which rank got which rows.
    """
    if asked == "nccl" and num_gpus < rank.world_size:
        raise InvalidSpec(
            f"rendezvous.backend is nccl, which needs a GPU for every process, but {num_gpus} of {rank.world_size}"
            " have one: use auto or gloo, or set gpus"
        )
    if asked == "gloo" or num_gpus < rank.world_size:
        return Placement(device=torch.device("cpu"), backend="gloo")
    return Placement(device=torch.device("cuda", rank.local_rank), backend="nccl")


def settle(placement: Placement) -> Placement:
    """Makes this process ready to compute there. On a GPU: the same bits on every run, and no float32 product in TF32."""
    if placement.device.type == "cuda":
        torch.cuda.set_device(placement.device)
        torch.backends.cuda.matmul.allow_tf32 = False  # it keeps three digits
        torch.use_deterministic_algorithms(True)  # an operation that has no fixed order raises
        torch.utils.deterministic.fill_uninitialized_memory = False
    return placement
