"""From a source to blocks: each rank reads its own rows once, checks them, drops and holds back what was asked for.

Legend: N rows of a block, D features.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from scalejob.api.v1alpha1 import LinearTask, Missing, Prepare, Spec, Workload
from scaletrain.comm import Comm
from scaletrain.errors import InvalidData
from scaletrain.estimators.base import Progress

from .allowed import check_sparse
from .blocks import MEMORY, Block, Blocks, Room, Store, each, heads, own_blocks, rows_per_block
from .check import Rules, clean
from .classes import Met, agree
from .room import Need, Surroundings, room_for
from .sources import open_source
from .sparse import SparseRows, join
from .split import held_back
from .table import Columns, LabelKind, Source, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The rows of all ranks, as they were read: not yet prepared."""

    train: Blocks
    held: Blocks | None  # None: nothing was held back
    columns: Columns
    num_dropped: int

    def map(self, prepare: Callable[[Blocks], Blocks]) -> "Dataset":
        """The same rows as `prepare` leaves them."""
        return replace(self, train=prepare(self.train), held=prepare(self.held) if self.held else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Blocks of rows that are kept: those to learn from, or those held back. Some may be empty."""

    blocks: Store  # y_N: numbers, or positions in the source's `labels`
    met: Met  # those positions

    def add(self, table: Table, kind: LabelKind, device: torch.device) -> None:
        self.blocks.append(_block(table, device))
        if kind is LabelKind.CLASS:
            assert table.y_N is not None
            self.met.add(table.y_N)

    @property
    def num_rows(self) -> int:
        return sum(head.num_rows for head in heads(self.blocks))

    def numbered(self, number: np.ndarray) -> Sequence[Block]:
        """With the numbers of classes in place of positions. `number`: one for each position, int64."""
        number_of = torch.from_numpy(number)
        return each(self.blocks, lambda b: replace(b, y_N=number_of.to(b.device).index_select(0, b.y_N)))


def label_kind(workload: Workload) -> LabelKind:
    if workload.linear and workload.linear.task is LinearTask.REGRESSION:
        return LabelKind.NUMBER
    return LabelKind.CLASS if workload.is_supervised else LabelKind.NONE


@contextmanager
def _unreadable_files() -> Iterator[None]:
    """What a retry cannot help. An error of the network or of a disk is none of these: a new attempt may read the file."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InvalidData(f"data.files: {error.filename} cannot be read: {error.strerror}") from error


@_unreadable_files()
def load(comm: Comm, spec: Spec, threads: int, progress: Progress) -> Dataset:
    """Reads and checks. The same on any number of ranks; InvalidData names file, row and column."""
    source = open_source(comm, spec, label_kind(spec.workload), threads)
    if source.num_rows == 0:
        raise InvalidData(f"{describe(spec)}: no rows")
    num_features = len(source.columns.features)
    if source.columns.is_sparse:
        check_sparse(spec, num_features, comm.device)
    own = own_blocks(source.num_rows, num_features, comm.rank, comm.size)
    length = rows_per_block(num_features)
    rows = range(own.start * length, min(own.stop * length, source.num_rows))
    room = _room(comm, spec, source, len(rows))
    train, held = (_Kept(blocks=room.new_store(), met=Met()) for _ in range(2))
    tables = (clean(table, _rules(spec, source.columns.features)) for table in source.read(rows))
    for num_read, table in enumerate(_whole_blocks(tables, length), 1):
        for kept, part in zip((train, held), _split(table, spec), strict=True):
            kept.add(part, label_kind(spec.workload), comm.device)
        progress(num_read, of=len(own))
    comm.barrier()
    unnumbered = Blocks(
        blocks=[],
        num_rows=0,
        num_features=num_features,
        num_blocks=-(-source.num_rows // length),
        threads=threads,
        room=room,
    )
    return _dataset(comm, spec, source, (train, held), unnumbered)


def _room(comm: Comm, spec: Spec, source: Source, num_rows: int) -> Room:
    """Where this rank's rows are kept, of which there are `num_rows`."""
    assert spec.data is not None
    if source.columns.is_sparse:
        return MEMORY
    need = Need.of(num_rows, source.columns, spec.prepare or Prepare())
    return room_for(need, spec.data.cache, Surroundings.of(comm, os.environ), comm.device)


def describe(spec: Spec) -> str:
    """The data in a few words, for messages."""
    assert spec.data is not None
    return spec.data.files.uri if spec.data.files else "data.synthetic"


def _rules(spec: Spec, features: tuple[str, ...]) -> Rules:
    files = spec.data.files if spec.data else None
    missing = (spec.prepare or Prepare()).missing
    return Rules(
        features=features,
        label=files.label if files else None,
        weight=files.weight if files else None,
        missing_allowed=missing is not Missing.ERROR,
        drop=missing is Missing.DROP,
    )


def _whole_blocks(tables: Iterable[Table], length: int) -> Iterator[Table]:
    """The rows in tables of one block each; blocks that lost all their rows are left out."""
    pieces = (piece for table in tables for piece in table.cut(length))
    for _, group in groupby(pieces, key=lambda piece: int(piece.row_N[0]) // length):
        yield _joined(list(group))


def _joined(pieces: list[Table]) -> Table:
    def column(name: str) -> np.ndarray | SparseRows | None:
        parts = [getattr(piece, name) for piece in pieces]
        return None if parts[0] is None else join(parts)

    if len(pieces) == 1:
        return pieces[0]
    return Table(origin=pieces[0].origin, **{n: column(n) for n in ("row_N", "X_ND", "y_N", "weight_N")})


def _split(table: Table, spec: Spec) -> tuple[Table, Table]:
    """The rows to learn from and those held back."""
    if spec.validation is None:
        return table, table.take(slice(0, 0))
    held_N = held_back(table.row_N, spec.validation.fraction, spec.seed)
    return table.take(~held_N), table.take(held_N)


def _dataset(comm: Comm, spec: Spec, source: Source, kept: tuple[_Kept, _Kept], common: Blocks) -> Dataset:
    """`common`: what the blocks to learn from and those held back have in common."""
    counts = torch.tensor([part.num_rows for part in kept], device=comm.device)
    num_train, num_held = comm.all_reduce(counts).tolist()
    _check_counts(spec, source.num_rows, num_train, num_held)
    train, held = (part.blocks for part in kept)
    if label_kind(spec.workload) is LabelKind.CLASS:
        name = f"{describe(spec)}: column {spec.data.files.label}" if spec.data.files else "data.synthetic"
        classes, number = agree(comm, source.labels, kept[0].met, kept[1].met, name)
        train, held = (part.numbered(number) for part in kept)
        common = replace(common, classes=classes)
    return Dataset(
        train=replace(common, blocks=train, num_rows=num_train),
        held=replace(common, blocks=held, num_rows=num_held) if spec.validation else None,
        columns=source.columns,
        num_dropped=source.num_rows - num_train - num_held,
    )


def _block(table: Table, device: torch.device) -> Block:
    def tensor(values: np.ndarray | SparseRows | None) -> torch.Tensor | SparseRows | None:
        if isinstance(values, SparseRows):
            return values
        return None if values is None else torch.from_numpy(np.require(values, requirements="CW")).to(device)

    return Block(**{name: tensor(getattr(table, name)) for name in ("row_N", "X_ND", "y_N", "weight_N")})


def _check_counts(spec: Spec, num_read: int, num_train: int, num_held: int) -> None:
    if num_train + num_held == 0:
        raise InvalidData(f"{describe(spec)}: each of the {num_read} rows has a missing value, and all were dropped")
    if spec.validation and 0 in (num_train, num_held):
        raise InvalidData(
            f"{describe(spec)}: validation.fraction {spec.validation.fraction:g} leaves {num_train} rows to learn from"
            f" and {num_held} held back; both need at least one"
        )
