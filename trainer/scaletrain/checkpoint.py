"""The state of a fit in one file, from which a new attempt goes on.

    <SHA-256 of all that follows, hexadecimal>\n
    <Header as JSON>\n
    <the state as safetensors>

A fit depends on the prepared rows, the parameters and the seed alone, so these, and the versions of what computes, say whose
state it is. Whatever is wrong with a file, it is left alone with a message, and the fit begins at the beginning.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import save as format_tensors
from safetensors.torch import load as parse_tensors

from scalejob.api.v1alpha1 import Spec

from .data.blocks import rows_per_block
from .errors import TrainerError
from .estimators.base import State
from .report import say
from .storage.folder import Folder, open_folder

NAME = "checkpoint"
FORMAT = 2
PACKAGES = ("scalejob", "torch", "numpy", "scipy")  # another version may round otherwise
# Saving takes a twentieth of the time at most.
LEAST_SHARE = 20

Task = Mapping[str, Any]  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is known of a state."""

    task: Task
    step: int  # the last one that it includes
    digest: str  # of all steps so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    header: Header
    state: State


def task_of(spec: Spec, num_features: int, rows: str) -> Task:
    """What a fit depends on. `rows`: the digest of the prepared ones."""
    return {
        "format": FORMAT,
        "workload": spec.task_json()["workload"],
        "seed": spec.seed,
        "rows": rows,
        "rows of a block": rows_per_block(num_features),
        "versions": {name: version(name) for name in PACKAGES},
    }


class Vault:
    """The file of a job. Only rank 0 opens it."""

    def __init__(self, spec: Spec, task: Task, clock: Callable[[], float] = time.monotonic) -> None:
        assert spec.checkpoint is not None
        assert spec.output is not None
        self._every = float(spec.checkpoint.every_seconds)
        self._place = spec.checkpoint.uri or spec.output.uri
        self._folder = _open(spec)
        self._task, self._clock = task, clock
        self._due = clock() + self._every
        self._has_failed = False

    def load(self) -> bytes:
        """The file if it is whole and of this task; nothing otherwise, and a word about it if there is one."""
        try:
            if not self._folder.exists(NAME):
                return b""
            content = self._folder.read(NAME)
            step = self._check(parse(content))
        except Exception as error:  # whatever a driver or a parser makes of bytes that may be anything
            say(f"scaletrain: {self._place}/{NAME} is ignored, the fit begins at the beginning: {error}")
            return b""
        say(f"scaletrain: the fit goes on after step {step} of an earlier attempt, from {self._place}/{NAME}")
        return content

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._due

    def save(self, step: int, digest: str, state: State) -> bool:
        """Whether it is saved. The fit goes on if not: the first time this is said."""
        began = self._clock()
        content = to_bytes(Header(task=self._task, step=step, digest=digest), state)
        try:
            self._folder.write({NAME: content})
            is_saved = True
        except (TrainerError, OSError) as error:
            is_saved = False
            if not self._has_failed:
                say(f"scaletrain: the state of the fit is not saved, the fit goes on: {error}")
            self._has_failed = True
        ended = self._clock()
        self._due = ended + max(self._every, LEAST_SHARE * (ended - began))
        return is_saved

    def remove(self) -> None:
        """When the model is written, nobody needs it. Not worth an error."""
        try:
            self._folder.remove(NAME)
        except (TrainerError, OSError) as error:
            say(f"scaletrain: {self._place}/{NAME} stays: {error}")

    def _check(self, saved: Saved) -> int:
        """Its step. ValueError if it is of another task."""
        there = saved.header.task
        other = [f"{key} {there.get(key)} and not {mine}" for key, mine in self._task.items() if there.get(key) != mine]
        if other:
            raise ValueError(f"it is of another task, with {'; '.join(other)}")
        return saved.header.step


def claim(spec: Spec) -> None:
    """InvalidData if the checkpoint cannot be written: said before hours of training."""
    if spec.checkpoint is not None:
        _open(spec).claim()


def _open(spec: Spec) -> Folder:
    assert spec.checkpoint is not None
    assert spec.output is not None
    if spec.checkpoint.uri is None:
        return open_folder(spec.output.uri, "output.uri")
    return open_folder(spec.checkpoint.uri, "checkpoint.uri")


def to_bytes(header: Header, state: State) -> bytes:
    tensors = format_tensors({name: value.contiguous().numpy() for name, value in state.items()})
    rest = json.dumps(asdict(header)).encode() + b"\n" + tensors
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def parse(content: bytes) -> Saved:
    """ValueError if it is not what `to_bytes` made."""
    digest, _, rest = content.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        raise ValueError("it is damaged, or not a checkpoint: its SHA-256 is not the one in its first line")
    header, _, tensors = rest.partition(b"\n")
    try:
        return Saved(header=Header(**json.loads(header)), state=parse_tensors(tensors))
    except (ValueError, TypeError, SafetensorError) as error:
        raise ValueError(f"it is of another format: {error}") from error
