"""Files: the same rows from every format and for any number of ranks, and errors that name file, column and row."""

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scaletrain.data import arrays, delimited
from scaletrain.errors import InvalidData
from tests.unit.trainer.datasets import (
    KMEANS,
    NUM_ROWS,
    REGRESSION,
    SVM,
    WRITERS,
    column,
    make_table,
    read_rows,
    write_parquet,
)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_each_row_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    """By one of the ranks, in order, with label and weight; five ranks have too few blocks to go round."""
    monkeypatch.setattr(delimited, "PART_BYTES", 100_000)
    monkeypatch.setattr(arrays, "PART_BYTES", 100_000)
    table = make_table()
    parts = read_rows(str(tmp_path), SVM, size, **WRITERS[name](table, tmp_path))
    is_yes = np.equal(table["y"].to_numpy(), "yes").astype(int)
    order = np.argsort(is_yes, kind="stable") if name == "partitions" else np.arange(NUM_ROWS)
    assert column(parts, "row_N").tolist() == list(range(NUM_ROWS))
    np.testing.assert_array_equal(column(parts, "X_ND")[:, :2], np.c_[table["a"], table["b"]][order])
    np.testing.assert_array_equal(column(parts, "weight_N"), table["w"].to_numpy()[order])
    np.testing.assert_array_equal(column(parts, "y_N"), is_yes[order])
    assert {tuple(part.train.classes) for part in parts} <= {("no", "yes"), (0, 1)}


def test_held_back_and_dropped_rows_are_the_same_for_any_number_of_ranks(tmp_path: Path) -> None:
    """Blocks keep their rows: only the missing ones are gone."""
    table = make_table().drop_columns("y")
    write_parquet(table.set_column(0, "a", pa.array(np.where(np.arange(NUM_ROWS) % 7, 1.0, np.nan))), tmp_path)
    uri = f"file://{tmp_path}/*.parquet"
    options = {"prepare": {"missing": "drop"}, "validation": {"fraction": 0.3}}
    alone, split = read_rows(uri, KMEANS, **options), read_rows(uri, KMEANS, 3, **options)
    assert torch.equal(column(alone, "row_N"), column(split, "row_N"))
    assert {part.num_dropped for part in (*alone, *split)} == {-(-NUM_ROWS // 7)}
    assert {part.train.num_rows + part.held.num_rows + part.num_dropped for part in split} == {NUM_ROWS}


@pytest.mark.parametrize(
    ("types", "want"),
    [
        ([pa.float32(), pa.int16(), pa.bool_(), pa.uint8()], torch.float32),
        ([pa.float32(), pa.int32()], torch.float64),
        ([pa.float64()], torch.float64),
        ([pa.decimal128(30, 2), pa.int8()], torch.float64),
    ],
)
def test_float32_holds_only_what_fits(tmp_path: Path, types: list[pa.DataType], want: torch.dtype) -> None:
    """Every column has to, or all become float64."""
    pq.write_table(pa.table({f"c{i}": pa.array([0, 1]).cast(kind) for i, kind in enumerate(types)}), tmp_path / "t.pq")
    (data,) = read_rows(str(tmp_path), KMEANS)
    assert data.train.blocks[0].X_ND.dtype is want


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        (pa.array([3, 1, 3]), [1, 3]),
        (pa.array([2.0, -1.0, 2.0]), [-1, 2]),
        (pa.array([2**53 + 2, 2**53 + 1, 2**53 + 2]), [2**53 + 1, 2**53 + 2]),
        (pa.array([Decimal("7.0"), Decimal("5.0"), Decimal("7.0")]), [5, 7]),
        (pa.array([True, False, True]), [False, True]),
        (pa.array(["é", "a", "é"]).dictionary_encode(), ["a", "é"]),
    ],
)
def test_classes_are_sorted_and_keep_their_type(tmp_path: Path, labels: pa.Array, want: list[object]) -> None:
    """So that the model answers in the user's own labels."""
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": labels}), tmp_path / "t.parquet")
    (data,) = read_rows(str(tmp_path), SVM, label="y")
    assert data.train.classes.tolist() == want
    assert column([data], "y_N").tolist() == [1, 0, 1]


def csv(text: str, below: str = "") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / below).mkdir(exist_ok=True)
        (folder / below / "t.csv").write_text(text)

    return write


def parquet(**columns: Any) -> Callable[[Path], None]:
    return lambda folder: pq.write_table(pa.table(columns), folder / "t.parquet")


def npz(**arrays: Any) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / "t.npz", **arrays)


LONG = "a,b\n" + "1,2\n" * 300_000  # more than the types are taken from
PROBLEMS: dict[str, tuple[Callable[[Path], None], dict[str, Any], dict[str, Any], str]] = {
    "no file": (lambda folder: None, KMEANS, {"uri": "{}/none.parquet"}, r"none.parquet: no such file or folder"),
    "no match": (lambda folder: None, KMEANS, {"uri": "{}/*.parquet"}, r"\*.parquet: no file matches"),
    "empty folder": (lambda folder: None, KMEANS, {}, "format cannot be told from the names .no files"),
    "unknown ending": (lambda f: (f / "t.xls").write_text(""), KMEANS, {}, "cannot be told from the names .t.xls"),
    "not Parquet": (lambda f: (f / "t.parquet").write_text("?"), KMEANS, {}, "t.parquet cannot be read as Parquet"),
    "not npy": (lambda f: (f / "t.npy").write_text("?"), KMEANS, {}, "t.npy cannot be read as npy or npz"),
    "missing columns": (
        parquet(age=[1.0], y=[1]),
        SVM,
        {"features": ["agee", "q"], "label": "y"},
        "t.parquet has no column agee; did you mean age.*; .*has no column q; its columns are age, y",
    ),
    "spaces after the commas of a header": (
        csv("x, y, price\n1,2,3\n"),
        KMEANS,
        {"features": ["price", "q"]},
        "no column price; did you mean ' price'[?];.* no column q; its columns are x, ' y', ' price'",
    ),
    "a feature twice": (
        parquet(a=[1], b=[1]),
        KMEANS,
        {"features": ["b", "a", "b"]},
        "data.files.features has b twice",
    ),
    "label among the features": (parquet(a=[1]), SVM, {"features": ["a"], "label": "a"}, "a, which is the label"),
    "nothing but the label": (parquet(y=[1]), SVM, {"label": "y"}, "no column is left to learn from"),
    "text and dates": (
        parquet(a=[1.0], s=["JFK"], t=pa.array([0], pa.timestamp("s"))),
        KMEANS,
        {},
        "column s holds text: 'JFK' in row 1.*column t holds dates or times.*name the columns",
    ),
    "one bad value in the head": (csv("a,b\n1,2\n3,x7\n"), KMEANS, {}, "column b holds text: 'x7' in row 2"),
    "one bad value later": (csv(LONG + "1,oops\n"), KMEANS, {}, "column b: 'oops' in row 300001 is not a number"),
    "uneven row": (csv("a,b\n1,2\n3\n"), KMEANS, {}, "a row has 1 values, the header has 2 names: '3'"),
    "packed": (
        lambda f: (f / "t.csv").write_bytes(gzip.compress(b"a,b\n1,2\n")),
        KMEANS,
        {},
        "t.csv is compressed by gzip: unpack it",
    ),
    "half of a value": (csv('a,b\n1,2\n3"\n'), KMEANS, {}, "'3\"', perhaps half of a value that holds a line break"),
    "semicolons": (csv("a;b\n1;2\n"), KMEANS, {}, "the header 'a;b' has no comma but a semicolon"),
    "text in the name of a folder": (
        csv("a\\n1\\n", "day=mon"),
        KMEANS,
        {},
        "column day holds text: 'mon' in row 1 is not a number",
    ),
    "nothing but folders": (
        csv("a\\n1\\n", "old"),
        KMEANS,
        {},
        r"\(no files\).*; files in folders below are meant by \S+/\*\*/\*",
    ),
    "row numbers without a name": (
        csv(",a\n0,5\n1,7\n"),
        KMEANS,
        {},
        "a column has no name, as row numbers that pandas writes: write with index=False",
    ),
    "names missing": (csv("a,,\n1,2,3\n"), KMEANS, {}, "columns twice: ''"),
    "another encoding": (
        lambda f: (f / "t.csv").write_bytes("a,b\n".encode("utf-16")),
        KMEANS,
        {},
        "save the file as UTF-8",
    ),
    "column twice": (csv("a,a\n1,2\n"), KMEANS, {}, "columns twice: a"),
    "NaN": (csv("a,b\n1,2\n,4\n5,\n"), KMEANS, {}, "column a is missing or NaN.* in row 2; column b .* in row 3"),
    "infinite": (
        csv("a\n1\n-inf\n"),
        KMEANS,
        {"prepare": {"missing": "mean"}},
        "column a is infinite in row 2",
    ),
    "no label": (parquet(a=[1, 2], y=[1, None]), SVM, {"label": "y"}, r"column y \(the label\) is missing.*in row 2"),
    "text as target": (parquet(a=[1], y=["k"]), REGRESSION, {"label": "y"}, r"y \(the label\) holds text: 'k'"),
    "number as class": (parquet(a=[1, 2], y=[0.5, 1.0]), SVM, {"label": "y"}, "is not a class but a number.*0.5"),
    "one class": (parquet(a=[1, 2], y=["k", "k"]), SVM, {"label": "y"}, "column y has one class only, 'k'"),
    "negative weight": (
        parquet(a=[1, 2], w=[1, -1]),
        KMEANS,
        {"weight": "w"},
        r"w \(the weight\) is negative in row 2",
    ),
    "weight missing": (
        parquet(a=[1, 2], w=[1, None]),
        KMEANS,
        {"weight": "w"},
        r"w \(the weight\) is missing or NaN in row 2",
    ),
    "too large to be squared": (
        csv("a,b\n1,2\n-1e200,3\n"),
        KMEANS,
        {},
        r"column a is beyond 1e\+75, too large to be learned from, in row 2",
    ),
    "class beyond 64 bits": (
        parquet(a=[1, 2], y=pa.array([2**63 + 1, 2**63 + 2], pa.uint64())),
        SVM,
        {"label": "y"},
        "a class that does not fit in 64 bits: 9223372036854775809",
    ),
    "text in bytes": (
        lambda f: (f / "t.csv").write_bytes(b"a,y\n1,\xe9\n"),
        SVM,
        {"label": "y"},
        "bytes that are not UTF-8",
    ),
    "old line ends": (csv("a,b\r1,2\r"), KMEANS, {}, "no line of CSV that ends with a line feed"),
    "Parquet column twice": (
        lambda f: pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), f / "t.parquet"),
        KMEANS,
        {},
        "columns twice: a",
    ),
    "array column twice": (npz(X=np.ones((2, 1)), X0=np.ones(2)), KMEANS, {}, "columns twice: X0"),
    "no zip file": (lambda f: (f / "t.npz").write_bytes(b"PK\3\4"), KMEANS, {}, "t.npz cannot be read as npy or npz"),
    "array too large to be exact": (
        npz(a=np.array([2**60 + 1])),
        KMEANS,
        {},
        "column a: Integer value 1152921504606846977",
    ),
    "pickled objects": (
        lambda f: np.savez(f / "t.npz", a=np.array([{}], dtype=object)),
        KMEANS,
        {},
        "Object arrays cannot be loaded",
    ),
    "too large to be exact": (parquet(a=[2**60 + 1]), KMEANS, {}, "column a: Integer value 1152921504606846977"),
    "no rows": (csv("a,b\n"), KMEANS, {}, "t.csv: no rows|: no rows"),
    "all dropped": (csv("a,b\n,2\n"), KMEANS, {"prepare": {"missing": "drop"}}, "1 rows has a missing value, and all"),
    "nothing held back": (
        csv("a\n1\n2\n"),
        KMEANS,
        {"validation": {"fraction": 0.01}},
        "2 rows to learn from and 0 held",
    ),
    "arrays of different length": (npz(a=np.ones(2), b=np.ones(3)), KMEANS, {}, r"different numbers of rows: \[2, 3\]"),
    "a cube": (npz(a=np.ones((2, 2, 2))), KMEANS, {}, "array a has 3 dimensions"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_bad_data_is_told_with_its_place(tmp_path: Path, name: str) -> None:
    """What is wrong, in which file, column and row."""
    write, workload, options, want = PROBLEMS[name]
    write(tmp_path)
    uri = options.get("uri", "{}").format(tmp_path)
    with pytest.raises(InvalidData, match=want):
        read_rows(uri, workload, **{key: value for key, value in options.items() if key != "uri"})


def test_files_of_different_kinds_are_told(tmp_path: Path) -> None:
    """One problem for each file that lacks the column."""
    pq.write_table(pa.table({"a": [1.0], "b": [1.0]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "2.parquet")
    with pytest.raises(InvalidData, match=r"2.parquet has no column b; its columns are a$"):
        read_rows(str(tmp_path), KMEANS)


def test_a_label_is_one_kind_of_thing_in_all_files(tmp_path: Path) -> None:
    """True is 1 for Python: which of them a rank meets first must not decide."""
    pq.write_table(pa.table({"a": [1.0], "y": [True]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1.0], "y": [1]}), tmp_path / "2.parquet")
    with pytest.raises(InvalidData, match=r"\(the label\) is a number in some files, true or false in some files"):
        read_rows(str(tmp_path), SVM, label="y")


@pytest.mark.parametrize("size", [1, 3])
def test_files_may_write_a_class_in_different_ways(tmp_path: Path, size: int) -> None:
    """1, 1.0 and a column without a value in the first file; the number of ranks does not matter."""
    (tmp_path / "0.csv").write_text("a,y\n" + "7,\n" * 10)
    (tmp_path / "1.csv").write_text("a,y\n" + "1,1\n2,2\n" * 20_000)
    (tmp_path / "2.csv").write_text("y,a\n" + "1.0,1\n2.0,2\n" * 20_000)
    parts = read_rows(str(tmp_path), SVM, size, label="y", prepare={"missing": "drop"})
    assert {(part.train.classes.dtype, *part.train.classes.tolist()) for part in parts} == {(np.dtype(np.int64), 1, 2)}
    assert torch.equal(column(parts, "X_ND")[:, 0], column(parts, "y_N") + 1.0)


def test_arrays_of_either_byte_order_and_nested_fields_are_read(tmp_path: Path) -> None:
    """A field that is a vector is as many columns."""
    rows = np.array([(1.0, (2.0, 3.0), 5), (4.0, (5.0, 6.0), 7)], dtype=[("a", ">f8"), ("b", "f8", 2), ("y", ">i4")])
    np.save(tmp_path / "t.npy", rows)
    (data,) = read_rows(str(tmp_path), SVM, label="y")
    assert (data.columns.features, data.train.classes.tolist()) == (("a", "b0", "b1"), [5, 7])
    assert data.train.blocks[0].X_ND.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("size", [1, 3])
def test_a_line_break_where_two_parts_meet_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Its halves are rows to look at: they would be learned from."""
    monkeypatch.setattr(delimited, "PART_BYTES", 30)
    (tmp_path / "t.csv").write_text("a,y\n" + "1,k\n" * 6 + '2,"no\n3,yes"\n' + "4,k\n" * 9)
    with pytest.raises(InvalidData, match="a value in quotes holds a line break"):
        read_rows(str(tmp_path), SVM, size, label="y")


def test_a_quote_inside_of_a_value_is_no_line_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "PART_BYTES", 30)
    (tmp_path / "t.csv").write_text("a,y\n" + '1,5" pipe\n2,"one, two"\n3,rod\n' * 9)
    (data,) = read_rows(str(tmp_path), SVM, label="y")
    assert data.train.num_rows == 27


def test_row_labels_of_pandas_are_no_features(tmp_path: Path) -> None:
    """Unless they are asked for: a model that has learned from row numbers looks well, and is worth nothing."""
    table = pa.table({"a": [1.0, 2.0], "__index_level_0__": [7, 9]})
    pq.write_table(table, tmp_path / "t.parquet")
    (data,) = read_rows(str(tmp_path), KMEANS)
    (asked,) = read_rows(str(tmp_path), KMEANS, features=["__index_level_0__"])
    assert column([data], "X_ND").tolist() == [[1.0], [2.0]]
    assert column([asked], "X_ND").tolist() == [[7.0], [9.0]]


def test_notes_of_other_programs_are_no_data(tmp_path: Path) -> None:
    """Not in folders of theirs either: their copies would count twice."""
    for name in (".ipynb_checkpoints/t-checkpoint.csv", "_temporary/0/t.csv", "2013/t.csv"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("a\n1\n")
    (data,) = read_rows(f"{tmp_path}/**/*.csv", KMEANS)
    assert data.train.num_rows == 1


def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were counted must not be left out silently."""
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 100)
    monkeypatch.setattr(delimited.CsvReader, "count", lambda self, part: 101)
    with pytest.raises(InvalidData, match=r"t.csv changed while it was read: it has -1 rows"):
        read_rows(str(tmp_path), KMEANS)


@pytest.mark.parametrize("bad", ["inf", "oops"])
def test_rows_are_counted_in_their_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    """Also beyond the first part of a file, and in the second file."""
    monkeypatch.setattr(delimited, "PART_BYTES", 1000)
    monkeypatch.setattr(delimited, "HEAD_BYTES", 100)
    (tmp_path / "1.csv").write_text("a\n" + "1\n" * 900)
    (tmp_path / "2.csv").write_text("a\n" + "1\n" * 900 + f"{bad}\n")
    with pytest.raises(InvalidData, match=r"2.csv: column a.* row 901"):
        read_rows(str(tmp_path), KMEANS)


def test_an_error_on_one_rank_is_the_error_of_the_job(tmp_path: Path) -> None:
    """The bad row lies in the last rank's share."""
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 50_000 + "\n" + "inf\n")
    with pytest.raises(InvalidData, match="column a is infinite in row 50001"):
        read_rows(str(tmp_path), KMEANS, 3)


def test_keys_of_folders_are_columns_of_numbers_or_text(tmp_path: Path) -> None:
    """Missing where the name says so; what the files hold themselves counts first; small whole numbers need no float64."""
    for folder in ("n=01/v=1.5/t=a%20b/w=9", "n=2/v=__HIVE_DEFAULT_PARTITION__/t=c/w=9"):
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table({"w": pa.array([3.0, 4.0], pa.float32())}), tmp_path / folder / "t.parquet")
    (data,) = read_rows(str(tmp_path), SVM, label="t", features=["w", "n"])
    assert column([data], "X_ND").tolist() == [[3, 1], [4, 1], [3, 2], [4, 2]]
    assert (column([data], "X_ND").dtype, data.train.classes.tolist()) == (torch.float32, ["a b", "c"])
    (data,) = read_rows(str(tmp_path), KMEANS, features=["w", "v"], prepare={"missing": "drop"})
    assert column([data], "X_ND").tolist() == [[3, 1.5], [4, 1.5]]


def test_keys_that_the_uri_itself_names_are_no_columns(tmp_path: Path) -> None:
    """What is the same in all rows teaches nothing; only what a pattern or folder leaves open is told apart."""
    (tmp_path / "n=1" / "m=2").mkdir(parents=True)
    (tmp_path / "n=1" / "m=2" / "t.csv").write_text("a\n1\n")
    for below, want in {
        "": ("a", "n", "m"),
        "n=1": ("a", "m"),
        "n=1/m=*/*.csv": ("a", "m"),
        "n=1/m=2/t.csv": ("a",),
    }.items():
        assert read_rows(f"{tmp_path}/{below}".rstrip("/"), KMEANS)[0].columns.features == want
