"""The model as files: model.safetensors (numbers), model.json (everything else), `_SUCCESS` (the other two are whole).

Nothing is pickled, and no byte of model.safetensors depends on time, host or number of ranks.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as format_tensors

from .errors import InvalidData
from .storage.folder import open_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

TENSORS = "model.safetensors"
FACTS = "model.json"
SUCCESS = "_SUCCESS"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is saved: all that `restore.load` needs, and where it came from."""

    arrays: Mapping[str, np.ndarray]  # "estimator/..." and "prepare/<step>/..."
    facts: Mapping[str, Any]  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    uri: str
    sha256: str  # of model.safetensors


def claim(uri: str) -> None:
    """Makes the folder of the model if need be. InvalidData if it cannot be written: said before hours of training."""
    open_folder(uri, "output.uri").claim()


def save(model: Model, uri: str) -> Saved:
    """Writes the model so that a reader finds the old one, the new one, or no `_SUCCESS`; never half of one."""
    tensors = format_tensors({name: np.ascontiguousarray(value) for name, value in model.arrays.items()})
    sha256 = hashlib.sha256(tensors).hexdigest()
    digests = {**model.facts.get("digests", {}), "model": sha256}
    facts = {"format": FORMAT, **model.facts, "digests": digests, "sha256": sha256}
    files = {
        TENSORS: tensors,
        FACTS: json.dumps(facts, indent=1, allow_nan=False).encode() + b"\n",
        SUCCESS: sha256.encode() + b"\n",
    }
    open_folder(uri, "output.uri").write(files, mark=SUCCESS)
    return Saved(uri=uri, sha256=sha256)


def read(uri: str | os.PathLike[str]) -> Model:
    """The saved model. InvalidData if it is not whole, not of this format, or its bytes have changed."""
    uri = os.fspath(uri)
    folder = open_folder(uri, "uri")
    if not folder.exists(SUCCESS):
        raise InvalidData(f"{uri} holds no complete model: {SUCCESS} is missing")
    tensors = folder.read(TENSORS)
    with input_problems(uri):
        facts = dict(json.loads(folder.read(FACTS)))
    if facts.get("format") != FORMAT:
        raise InvalidData(f"{uri}/{FACTS} has format {facts.get('format')}; this version reads format {FORMAT}")
    if hashlib.sha256(tensors).hexdigest() != facts.get("sha256"):
        raise InvalidData(f"{uri}/{TENSORS} is damaged: its SHA-256 is not the one in {FACTS}")
    with input_problems(uri):
        return Model(arrays=parse_tensors(tensors), facts=facts)


@contextmanager
def input_problems(uri: str) -> "Iterator[None]":
    """A model file may come from anyone: whatever is wrong with it is one error."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise InvalidData(f"{uri} holds no model that can be read: {type(error).__name__}: {error}") from error
