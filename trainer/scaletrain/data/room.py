"""Whether the rows of a rank are kept in its memory or in a cache on its disk.

What rows take: for each of them its number, label and weight, 8 bytes each, and its features; once as they are read, and once
more as they are prepared, for the time of the preparation both.
"""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from scalejob.api.v1alpha1 import Cache, CacheMode, Missing, Prepare, Scale
from scaletrain import memory_limit
from scaletrain.comm import Comm
from scaletrain.errors import InvalidData
from scaletrain.storage.uri import local_path

from .blocks import MEMORY, Room
from .cache import BlockFile, Disk, free, readable
from .exchange import gather_json
from .table import Columns

ROW_BYTES = 24
# The rest is for torch itself, for blocks that are worked on and for what an estimator keeps of each row.
MEMORY_SHARE = 0.5
# What torch takes, blocks that are worked on, and memory that was freed and is kept.
PROCESS_BYTES = 512 << 20
# Of the memory beside them, for blocks that need not be read again. The rest is for what an estimator keeps of each row.
KEPT_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes for the rows of this rank."""

    as_read: int
    prepared: int  # 0: there is nothing to prepare

    @classmethod
    def of(cls, num_rows: int, columns: Columns, prepare: Prepare) -> "Need":
        num_features = len(columns.features)
        num_prepared = min(prepare.pca.components, num_features) if prepare.pca else num_features
        is_single = columns.is_single or prepare.scale is Scale.STANDARD
        is_changed = prepare.pca or prepare.scale is Scale.STANDARD or prepare.missing in (Missing.MEAN, Missing.MEDIAN)
        return cls(
            as_read=num_rows * (ROW_BYTES + num_features * (4 if columns.is_single else 8)),
            prepared=num_rows * (ROW_BYTES + num_prepared * (4 if is_single else 8)) if is_changed else 0,
        )

    @property
    def total(self) -> int:
        return self.as_read + self.prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What this rank shares with others."""

    processes: int  # of this worker, this one included
    ranks_here: int  # of the job on this machine

    @classmethod
    def of(cls, comm: Comm, environ: Mapping[str, str]) -> "Surroundings":
        """All ranks call it together."""
        machines = gather_json(comm, memory_limit.machine())
        return cls(
            processes=memory_limit.processes_of_worker(environ), ranks_here=machines.count(memory_limit.machine())
        )


def room_for(need: Need, cache: Cache, around: Surroundings, device: torch.device) -> Room:
    """Where this rank's rows are kept. InvalidData if a cache is needed and has no room."""
    if not _is_cached(need, cache.mode, around, device):
        return MEMORY
    folder = local_path(cache.path, "data.cache.path") if cache.path else Path(tempfile.gettempdir())
    disk = Disk(folder=folder, limit=_allowed(need, folder, cache, around), kept=_kept(around))
    return Room(new_store=partial(BlockFile, disk, device), scratch=disk.scratch)


def _is_cached(need: Need, mode: CacheMode, around: Surroundings, device: torch.device) -> bool:
    if mode is not CacheMode.AUTO:
        return mode is CacheMode.ALWAYS
    return need.total > MEMORY_SHARE * _available(around, device)


def _available(around: Surroundings, device: torch.device) -> int:
    """Bytes of memory where the rows would lie."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return memory_limit.share(around.processes, around.ranks_here)


def _kept(around: Surroundings) -> int:
    """Bytes of the rows in a file that the page cache may keep: they count for the limit of the worker, too."""
    return int(KEPT_SHARE * max(0, memory_limit.share(around.processes, around.ranks_here) - PROCESS_BYTES))


def _allowed(need: Need, folder: Path, cache: Cache, around: Surroundings) -> int:
    """Bytes that this rank may write there."""
    allowed = cache.size_limit_bytes // around.processes if cache.size_limit_bytes is not None else sys.maxsize
    if need.total > allowed:
        raise InvalidData(
            f"data.cache.sizeLimit is {cache.size_limit}, which is {readable(allowed)} for each process, but about"
            f" {readable(need.total)} are needed: {_parts(need)}. Raise it, or take more workers"
        )
    there = _free(folder) // around.ranks_here
    if need.total > there:
        raise InvalidData(
            f"data.cache: {folder} has {readable(there)} free for each process, but about {readable(need.total)} are"
            f" needed: {_parts(need)}. Name a larger volume in data.cache.path, or take more workers"
        )
    return allowed


def _parts(need: Need) -> str:
    prepared = f" and {readable(need.prepared)} for the prepared ones" if need.prepared else ""
    return f"{readable(need.as_read)} for the rows as they are read{prepared}"


def _free(folder: Path) -> int:
    try:
        return free(folder)
    except OSError as error:
        raise InvalidData(f"data.cache: {folder} cannot be used: {error.strerror}") from error
