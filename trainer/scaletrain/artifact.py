"""The model as files: model.safetensors (numbers), model.json (everything else), `_SUCCESS` (the other two are whole).

Nothing is pickled, and no byte of model.safetensors depends on time, host or number of ranks.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as format_tensors

from .errors import InvalidData
from .paths import local_path

if TYPE_CHECKING:
    from collections.abc import Iterator

TENSORS = "model.safetensors"
FACTS = "model.json"
SUCCESS = "_SUCCESS"
FORMAT = 1
LEAST_FREE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is saved: all that `restore.load` needs, and where it came from."""

    arrays: Mapping[str, np.ndarray]  # "estimator/..." and "prepare/<step>/..."
    facts: Mapping[str, Any]  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    uri: str
    sha256: str  # of model.safetensors


def claim(uri: str) -> Path:
    """The folder of the model, made if need be. InvalidData if it cannot be written: said before hours of training."""
    folder = local_path(uri, "output.uri")
    with _output_problems(uri):
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".probe-") as probe:
            probe.write(b"1")
            probe.flush()
        free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise InvalidData(f"output.uri: {uri}: {free} bytes are free, a model needs more")
    return folder


def save(model: Model, uri: str) -> Saved:
    """Writes the model so that a reader finds the old one, the new one, or no `_SUCCESS`; never half of one.

    The bytes are on disk under other names before the first file of an older model is touched, so a full disk leaves that as it was.
    """
    folder = local_path(uri, "output.uri")
    tensors = format_tensors({name: np.ascontiguousarray(value) for name, value in model.arrays.items()})
    sha256 = hashlib.sha256(tensors).hexdigest()
    facts = {"format": FORMAT, **model.facts, "sha256": sha256}
    files = {
        TENSORS: tensors,
        FACTS: json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n",
        SUCCESS: sha256.encode() + b"\n",
    }
    with _output_problems(uri), _temporary(folder, files) as parts:
        for name, content in files.items():
            _write_whole(parts[name], content)
        (folder / SUCCESS).unlink(missing_ok=True)
        _sync_folder(folder)
        for name in files:
            parts[name].replace(folder / name)
        _sync_folder(folder)
    return Saved(uri=uri, sha256=sha256)


def read(uri: str | os.PathLike[str]) -> Model:
    """The saved model. InvalidData if it is not whole, not of this format, or its bytes have changed."""
    folder = local_path(os.fspath(uri), "uri")
    if not (folder / SUCCESS).exists():
        raise InvalidData(f"{folder} holds no complete model: {SUCCESS} is missing")
    with input_problems(folder):
        tensors = (folder / TENSORS).read_bytes()
        facts = dict(json.loads((folder / FACTS).read_bytes()))
    if facts.get("format") != FORMAT:
        raise InvalidData(f"{folder / FACTS} has format {facts.get('format')}; this version reads format {FORMAT}")
    if hashlib.sha256(tensors).hexdigest() != facts.get("sha256"):
        raise InvalidData(f"{folder / TENSORS} is damaged: its SHA-256 is not the one in {FACTS}")
    with input_problems(folder):
        return Model(arrays=parse_tensors(tensors), facts=facts)


@contextmanager
def _output_problems(uri: str) -> "Iterator[None]":
    try:
        yield
    except OSError as error:
        raise InvalidData(f"output.uri: {uri} cannot be written: {error.strerror or error}") from error


@contextmanager
def input_problems(folder: Path) -> "Iterator[None]":
    """A model file may come from anyone: whatever is wrong with it is one error."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise InvalidData(f"{folder} holds no model that can be read: {type(error).__name__}: {error}") from error


@contextmanager
def _temporary(folder: Path, names: Mapping[str, bytes]) -> "Iterator[dict[str, Path]]":
    """Names beside the final ones, gone at the end whatever happens.

    Nobody else's: a rank of an attempt that was given up may still be writing.
    """
    writer = secrets.token_hex(8)
    parts = {name: folder / f".{name}.{writer}.part" for name in names}
    try:
        yield parts
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _write_whole(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Makes the renames durable, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
