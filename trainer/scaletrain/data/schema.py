"""Which columns are learned from, and whether their types allow it. Everything that is wrong is said at once."""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from scalejob.api.v1alpha1 import Files
from scaletrain.errors import InvalidData
from scaletrain.storage.file import File

from .reader import Reader, Schema
from .table import Columns, LabelKind

NUMERIC = (pt.is_integer, pt.is_floating, pt.is_boolean, pt.is_decimal, pt.is_null)
TEXT = (pt.is_string, pt.is_large_string, pt.is_dictionary)
MOST_LISTED = 10
ROW_LABELS = re.compile(r"__index_level_\d+__")  # what pandas calls an index without a name in Parquet and Arrow


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The files of a data set by name, each with its columns."""

    schemas: Mapping[File, Schema]
    reader: Reader

    @property
    def first(self) -> Schema:
        return next(iter(self.schemas.values()))

    def types(self, name: str) -> list[pa.DataType]:
        """Of a column in the files that have values in it; null if none has."""
        found = [schema[name] for schema in self.schemas.values() if name in schema]
        return [kind for kind in found if not pt.is_null(kind)] or found


def choose_columns(opened: Opened, files: Files, label_kind: LabelKind) -> Columns:
    """The features, in order. InvalidData names each file and column that does not fit."""
    special = [name for name in (files.label, files.weight) if name]
    features = files.features or [
        name for name in opened.first if name not in special and not ROW_LABELS.fullmatch(name)
    ]
    problems = [*_spec_problems(features, files), *_missing_columns(opened, [*features, *special])]
    if not problems:
        problems = [*_type_problems(opened, files, features), *_label_problems(opened, files, label_kind)]
    if problems:
        raise InvalidData("; ".join(problems))
    types = [schema[name] for schema in opened.schemas.values() for name in features]
    return Columns(features=tuple(features), is_single=all(map(_is_single, types)), are_named=opened.reader.has_names)


def is_numeric(kind: pa.DataType) -> bool:
    return any(test(kind) for test in NUMERIC)


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in TEXT)


def _kind(kind: pa.DataType) -> str:
    tests = {"text": _is_text, "true or false": pt.is_boolean, "nothing": pt.is_null}
    return next((name for name, test in tests.items() if test(kind)), "a number")


def _is_single(kind: pa.DataType) -> bool:
    """Whether float32, with its 24 bits, holds every value."""
    return (
        pt.is_float32(kind)
        or pt.is_float16(kind)
        or pt.is_boolean(kind)
        or (pt.is_integer(kind) and kind.bit_width <= 16)
    )


def _spec_problems(features: Sequence[str], files: Files) -> Iterator[str]:
    if not features:
        yield f"{files.uri}: no column is left to learn from"
    if "" in features and not files.features:  # a row number, which would be learned without a word
        yield (
            f"{files.uri}: a column has no name, as row numbers that pandas writes: write with index=False, or name the columns "
            "to learn from in data.files.features"
        )
    yield from (f"data.files.features has {name} twice" for name, count in Counter(features).items() if count > 1)
    for field, name in (("label", files.label), ("weight", files.weight)):
        if name and name in features:
            yield f"data.files.features has {name}, which is the {field}: it cannot be both"
    if files.label and files.label == files.weight:
        yield f"data.files.weight is {files.weight}, which is the label: it cannot be both"


def _missing_columns(opened: Opened, names: Sequence[str]) -> Iterator[str]:
    for file, schema in opened.schemas.items():
        for name in names:
            if name not in schema:
                near = difflib.get_close_matches(name, schema, n=1)
                listed = ", ".join(map(_visible, list(schema)[:MOST_LISTED])) + (
                    ", ..." if len(schema) > MOST_LISTED else ""
                )
                hint = f"did you mean {_visible(near[0])}?" if near else f"its columns are {listed}"
                yield f"{file} has no column {_visible(name)}; {hint}"


def _visible(name: str) -> str:
    """In quotes if it begins or ends with a space, as after `x, y` in the header of a CSV file."""
    return name if name and name == name.strip() else repr(name)


def _type_problems(opened: Opened, files: Files, features: Sequence[str]) -> Iterator[str]:
    roles = [*((name, "") for name in features), *([(files.weight, " (the weight)")] if files.weight else [])]
    found = 0
    for file, schema in opened.schemas.items():
        for name, role in roles:
            if not is_numeric(schema[name]):
                found += 1
                yield f"{file}: column {_visible(name)}{role} {_what_it_is(opened.reader, file, name, schema[name])}"
    if found and not files.features:
        yield "name the columns to learn from in data.files.features, or turn these into numbers"


def _label_problems(opened: Opened, files: Files, label_kind: LabelKind) -> Iterator[str]:
    if files.label is None or label_kind is LabelKind.NONE:
        return
    for file, schema in opened.schemas.items():
        kind = schema[files.label]
        fits = is_numeric(kind) or (label_kind is LabelKind.CLASS and _is_text(kind))
        if not fits:
            yield f"{file}: column {files.label} (the label) {_what_it_is(opened.reader, file, files.label, kind)}"
    kinds = {_kind(schema[files.label]) for schema in opened.schemas.values()} - {"nothing"}
    if label_kind is LabelKind.CLASS and len(kinds) > 1:
        listed = ", ".join(f"{kind} in some files" for kind in sorted(kinds))
        yield f"{files.uri}: column {files.label} (the label) is {listed}: it must be the same in all"


def _what_it_is(reader: Reader, file: File, name: str, kind: pa.DataType) -> str:
    if _is_text(kind):
        example = reader.example(file, name)
        return "holds text" + (f": {example[1]!r} in row {example[0] + 1} is not a number" if example else "")
    if pt.is_binary(kind):
        return "holds bytes that are not UTF-8 text"
    if pt.is_temporal(kind):
        return f"holds dates or times ({kind}), which are not numbers: derive numbers from them first"
    return f"has the type {kind}, which is not a number"
