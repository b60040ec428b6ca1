"""libsvm text: a label, then `index:value` pairs with ascending indices from 1 on, one row a line.

    -1 3:0.5 17:2  # a comment

A part is the lines that begin in a run of PART_BYTES. Empty lines, comments, and a `qid:` after the label are passed over. scikit-learn's
`load_svmlight_file` reads the numbers; what it does not take is looked at again, line by line, for a message that names the line.

Features are called by their numbers. How many there are is the largest index of all files: each part is read once before, by one
rank, to count its rows and to find that. Up to GRAM_FEATURES the rows become a matrix as those of other formats, above they stay
sparse.

Legend: N rows of a part, D features.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from scalejob.api.v1alpha1 import Files
from scaletrain.comm import Comm
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.storage.file import File

from .blocks import GRAM_FEATURES
from .check import LARGEST
from .delimited import PART_BYTES, lines
from .exchange import shared_out
from .reader import Batch, Part, Schema, Wanted, with_first_rows
from .sparse import SparseRows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LABEL = "label"  # what the first number of a line is called
LARGEST_INDEX = 1_000_000  # each feature gets a name: a typing error must not make billions of them


@dataclass(frozen=True, slots=True, kw_only=True)
class LibsvmReader:
    """A Reader."""

    num_features: int = 0  # 0: not known yet
    has_names: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(str(index) for index in range(1, self.num_features + 1))

    def schema(self, file: File) -> Schema:
        return dict.fromkeys((LABEL, *self.features), pa.float64())

    def parts(self, file: File) -> list[Part]:
        edges = [*range(0, file.size, PART_BYTES), file.size]
        return [Part(path=file.name, span=span) for span in pairwise(edges)]

    def count(self, part: Part) -> int:
        return self.look(part)[0]

    def look(self, part: Part) -> tuple[int, int]:
        """Rows, and the largest index."""
        rows, _ = _parse(part, None)
        return rows.shape[0], int(rows.indices.max(initial=0))

    def batches(self, part: Part, wanted: Wanted) -> Iterator[Batch]:
        rows, label_N = _parse(part, self.num_features)
        kept = rows[:, 1:].astype(np.float64)
        X_ND = kept.toarray() if self.num_features <= GRAM_FEATURES else SparseRows(kept)
        yield Batch(X_ND=X_ND, label=pa.array(label_N) if wanted.label else None, weight_N=None)

    def example(self, file: File, column: str) -> tuple[int, str] | None:
        return None


def check_fields(files: Files) -> None:
    """InvalidSpec for what the format has no place for."""
    problems = []
    if files.label not in (None, LABEL):
        problems.append(
            f"data.files.label is {files.label}: the label of libsvm files is the first number of a line, called {LABEL}"
        )
    if files.weight:
        problems.append(f"data.files.weight is {files.weight}: libsvm files have no weights")
    if files.features:
        problems.append("data.files.features: libsvm files are learned from with all their features")
    if problems:
        raise InvalidSpec("; ".join(problems))


def looked_at(comm: Comm, parts: Sequence[Part]) -> tuple[LibsvmReader, list[Part]]:
    """The reader that knows the number of features, and the parts with their rows counted. Each part is looked at by one rank.

    InvalidData names file and line, or says that there is no feature.
    """
    found = shared_out(comm, parts, LibsvmReader().look)
    num_features = max((index for _, index in found), default=0)
    if not num_features:
        raise InvalidData(f"{parts[0].path if parts else 'data.files'}: no feature has a value")
    counted = [replace(part, num_rows=num_rows) for part, (num_rows, _) in zip(parts, found, strict=True)]
    return LibsvmReader(num_features=num_features), with_first_rows(counted)


def _parse(part: Part, num_features: int | None) -> tuple["csr_array", np.ndarray]:
    """The rows with a column for each index from 0 on, of which 0 is not used, and the labels, float64."""
    from sklearn.datasets import load_svmlight_file  # noqa: PLC0415 - takes a second

    text = _text(part)
    width = None if num_features is None else num_features + 1
    try:
        rows, label_N = load_svmlight_file(io.BytesIO(text), n_features=width, zero_based=True)
    except (ValueError, OverflowError) as error:
        raise InvalidData(_explain(part, text) or f"{part.path}: {error}") from error
    is_good = (np.abs(rows.data) <= LARGEST).all() and np.isfinite(label_N).all()
    if not is_good or (rows.indices == 0).any() or rows.shape[1] > LARGEST_INDEX + 1:
        raise InvalidData(_explain(part, text) or f"{part.path}: a number cannot be used")
    return rows, label_N


def _text(part: Part) -> bytes:
    start, stop = part.span
    with part.file.open() as stream:
        if start:
            return lines(stream, start, stop)
        text = stream.read(stop)
        return text if text.endswith(b"\n") else text + stream.readline()


def _explain(part: Part, text: bytes) -> str | None:
    """What is wrong with the first line that is."""
    with part.file.open() as stream:
        before = stream.read(part.span[0]).count(b"\n") if part.span[0] else 0
        # The line that begins before the part ends in it.
        if part.span[0] and not _begins_with_line(part):
            before += 1
    for number, line in enumerate(text.split(b"\n"), before + 1):
        problem = _line_problem(line.partition(b"#")[0].split())
        if problem:
            return f"{part.path}: line {number}: {problem}"
    return None


def _begins_with_line(part: Part) -> bool:
    with part.file.open() as stream:
        stream.seek(part.span[0] - 1)
        return stream.read(1) == b"\n"


def _line_problem(words: list[bytes]) -> str | None:
    if not words:
        return None
    label, *pairs = (word.decode(errors="replace") for word in words)
    if not _is_finite(label):
        return f"the label has to be one finite number; {label!r} came"
    last = 0
    for pair in pairs[1:] if pairs and pairs[0].startswith("qid:") else pairs:
        index, colon, value = pair.partition(":")
        if not colon or not index.isdecimal():
            return f"{pair!r} is not index:value"
        if int(index) == 0:
            return f"index 0 in {pair!r}: indices count from 1 in this format (dump_svmlight_file: zero_based=False)"
        if int(index) > LARGEST_INDEX:
            return f"index {index}: the largest allowed is {LARGEST_INDEX}"
        if int(index) <= last:
            return f"index {index} after {last}: indices have to ascend"
        if not _is_finite(value) or abs(float(value)) > LARGEST:
            return f"the value of {pair!r} is not a finite number of at most {LARGEST:g}"
        last = int(index)
    return None


def _is_finite(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
