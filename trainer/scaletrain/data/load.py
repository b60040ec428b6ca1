"""From a source to blocks: each rank reads its own rows once, checks them, drops and holds back what was asked for.

Legend: N rows of a block, D features.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from scalejob.api.v1alpha1 import LinearTask, Missing, Prepare, Spec, Workload
from scaletrain.comm import Comm
from scaletrain.errors import InvalidData
from scaletrain.estimators.base import Progress

from .blocks import Block, Blocks, own_blocks, rows_per_block
from .check import Rules, clean
from .classes import agree
from .sources import open_source
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
class _Parts:
    """One block's rows: those to learn from and those held back."""

    train: Table
    held: Table


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
    rules = _rules(spec, source.columns.features)
    own = own_blocks(source.num_rows, len(source.columns.features), comm.rank, comm.size)
    length = rows_per_block(len(source.columns.features))
    rows = range(own.start * length, min(own.stop * length, source.num_rows))
    parts = []
    for table in _whole_blocks((clean(table, rules) for table in source.read(rows)), length):
        parts.append(_split(table, spec))
        progress(len(parts), of=len(own))
    comm.barrier()
    return _dataset(comm, spec, source, parts, threads)


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
    def column(name: str) -> np.ndarray | None:
        parts = [getattr(piece, name) for piece in pieces]
        return None if parts[0] is None else np.concatenate(parts)

    if len(pieces) == 1:
        return pieces[0]
    return Table(origin=pieces[0].origin, **{n: column(n) for n in ("row_N", "X_ND", "y_N", "weight_N")})


def _split(table: Table, spec: Spec) -> _Parts:
    if spec.validation is None:
        return _Parts(train=table, held=table.take(slice(0, 0)))
    held_N = held_back(table.row_N, spec.validation.fraction, spec.seed)
    return _Parts(train=table.take(~held_N), held=table.take(held_N))


def _dataset(comm: Comm, spec: Spec, source: Source, parts: list[_Parts], threads: int) -> Dataset:
    counts = [sum(len(p.train) for p in parts), sum(len(p.held) for p in parts)]
    num_train, num_held = comm.all_reduce(torch.tensor(counts, device=comm.device)).tolist()
    _check_counts(spec, source.num_rows, num_train, num_held)
    classes, number = None, None
    if label_kind(spec.workload) is LabelKind.CLASS:
        name = f"{describe(spec)}: column {spec.data.files.label}" if spec.data.files else "data.synthetic"
        classes, number = agree(comm, source.labels, [p.train for p in parts], [p.held for p in parts], name)

    def blocks(tables: Iterable[Table], num_rows: int) -> Blocks:
        return Blocks(
            blocks=[_block(table, number, comm.device) for table in tables],
            num_rows=num_rows,
            num_features=len(source.columns.features),
            num_blocks=-(-source.num_rows // rows_per_block(len(source.columns.features))),
            classes=classes,
            threads=threads,
        )

    return Dataset(
        train=blocks((p.train for p in parts), num_train),
        held=blocks((p.held for p in parts), num_held) if spec.validation else None,
        columns=source.columns,
        num_dropped=source.num_rows - num_train - num_held,
    )


def _block(table: Table, number: np.ndarray | None, device: torch.device) -> Block:
    """`number`: of each of the source's labels among the classes; None if the label is no class."""
    y_N = table.y_N if number is None or table.y_N is None else number[table.y_N]

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.require(values, requirements="CW")).to(device)

    return Block(
        row_N=tensor(table.row_N),
        X_ND=tensor(table.X_ND),
        y_N=None if y_N is None else tensor(y_N),
        weight_N=None if table.weight_N is None else tensor(table.weight_N),
    )


def _check_counts(spec: Spec, num_read: int, num_train: int, num_held: int) -> None:
    if num_train + num_held == 0:
        raise InvalidData(f"{describe(spec)}: each of the {num_read} rows has a missing value, and all were dropped")
    if spec.validation and 0 in (num_train, num_held):
        raise InvalidData(
            f"{describe(spec)}: validation.fraction {spec.validation.fraction:g} leaves {num_train} rows to learn from"
            f" and {num_held} held back; both need at least one"
        )
