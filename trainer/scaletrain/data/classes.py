"""Which classes there are, agreed between all ranks.

Legend: N rows of a block, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scaletrain.comm import Comm
from scaletrain.errors import InvalidData

from .exchange import gather_json

MAX_CLASSES = 10_000


@dataclass(slots=True, kw_only=True)
class Met:
    """Which labels the rows have that were seen so far."""

    _is_met: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def add(self, y_N: np.ndarray) -> None:
        """`y_N`: positions in a list of labels, int64."""
        num_more = int(y_N.max(initial=-1)) + 1 - len(self._is_met)
        self._is_met = np.pad(self._is_met, (0, max(0, num_more)))
        self._is_met[y_N] = True

    @property
    def positions(self) -> np.ndarray:
        return np.flatnonzero(self._is_met)


def agree(comm: Comm, labels: Sequence[object], train: Met, held: Met, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The classes of all ranks in ascending order, and the number of each of this rank's `labels` among them.

    Classes are int64, bool or str, (K,); numbers int64, -1 for labels that no row has.
    InvalidData if there are fewer than two, or one without a row to train on.
    """
    mine = {"train": _used(train, labels), "held": _used(held, labels)}
    everyone = gather_json(comm, mine)
    trained = sorted({label for rank in everyone for label in rank["train"]})
    _check(trained, {label for rank in everyone for label in rank["held"]}, name)
    number_of = {label: k for k, label in enumerate(trained)}
    return np.array(trained), np.array([number_of.get(label, -1) for label in labels], dtype=np.int64)


def _used(met: Met, labels: Sequence[object]) -> list[object]:
    used = [labels[position] for position in met.positions]
    if len(used) > MAX_CLASSES:
        raise InvalidData(f"the label has more than {MAX_CLASSES} classes, such as {used[:3]}: is it a number?")
    return used


def _check(trained: list[object], held: set[object], name: str) -> None:
    if len(trained) == 1:
        raise InvalidData(f"{name} has one class only, {trained[0]!r}: a classifier needs at least two")
    if len(trained) > MAX_CLASSES:
        raise InvalidData(f"{name} has {len(trained)} classes, at most {MAX_CLASSES} are allowed: is it a number?")
    fractions = [label for label in trained if isinstance(label, float)]
    if fractions:
        raise InvalidData(
            f"{name} is not a class but a number, such as {fractions[0]!r}: use workload.linear with task: regression"
        )
    large = [label for label in trained if type(label) is int and not -(2**63) <= label < 2**63]
    if large:
        raise InvalidData(f"{name} has a class that does not fit in 64 bits: {large[0]}")
    only_held = held - set(trained)
    if only_held:
        listed = ", ".join(map(repr, sorted(only_held)[:10]))
        raise InvalidData(f"{name}: all rows of the class {listed} are held back by validation.fraction")
