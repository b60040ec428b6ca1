"""What every estimator offers: a module with `fit` and `restore`, and a frozen result of plain numbers.

`params` is the member of `spec.workload` (KMeans, Linear, Svm). Every rank calls `fit` with its own blocks and gets the same
result, to the bit, whatever the number of ranks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from scalejob.api.v1alpha1 import KMeans, Linear, Svm
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator  # takes a second to import: only `to_sklearn` needs it

Params = KMeans | Linear | Svm
Facts = dict[str, Any]  # JSON: numbers, strings, lists and objects of them


class Progress(Protocol):
    """Called by each rank after each step; cheap, and only rank 0 tells anyone."""

    def __call__(
        self, step: int, *, of: int | None = None, metric: str | None = None, value: float | None = None
    ) -> None: ...


State = Mapping[str, Tensor]  # on the CPU


class Checkpoint(Protocol):
    """Where a fit keeps its state, so that a later attempt, also on another number of ranks, ends with the same bytes."""

    def resume(self) -> State | None:
        """The state that an earlier attempt of this task has left, equal on all ranks; None: begin at the beginning.

        All ranks call it; a second call gives the same.
        """

    def offer(self, step: int, model: State, rest: Callable[[], State] | None = None) -> None:
        """Called once an iteration, before progress tells of `step`. Rank 0's state counts, the calls of others do nothing.

        model: what has been learned so far, for the digest of the step; not changed in place later. rest: what else a resume
        needs, by names of its own; asked for, without collectives, only when the state is saved, within the call. None: no
        resume is possible from here, but from the state before or after it.
        """


class NoCheckpoint:
    """Every fit begins at the beginning."""

    def resume(self) -> None:
        return None

    def offer(self, step: int, model: State, rest: Callable[[], State] | None = None) -> None:
        pass


NO_CHECKPOINT = NoCheckpoint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The checkpoint of one of several fits in a row: its state lies, below `name`, beside that of the fit around it."""

    whole: Checkpoint
    name: str
    around: Callable[[], State]  # what the parts before have left
    steps: int = 0  # of the parts before

    def resume(self) -> State | None:
        found = self.whole.resume() or {}
        prefix = f"{self.name}/"
        own = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        return own or None

    def offer(self, step: int, model: State, rest: Callable[[], State] | None = None) -> None:
        def all_of_it() -> State:
            return {**self.around(), **self._named(rest() if rest else {})}

        self.whole.offer(self.steps + step, self._named(model), all_of_it if rest else None)

    def _named(self, state: State) -> State:
        return {f"{self.name}/{name}": value for name, value in state.items()}


class Result(Protocol):
    """What was learned: equal on all ranks, on the CPU, independent of time and host."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The learned numbers by name, for model.safetensors. Names are scikit-learn's attributes without the last `_`."""

    def facts(self) -> Facts:
        """The rest, for model.json: n_iter, objective, whether it converged, ..."""

    def to_sklearn(self, params: Params, classes: np.ndarray | None) -> "BaseEstimator":
        """The fitted scikit-learn estimator. `classes`: the labels behind class numbers 0, 1, ...; None without classes."""


class Estimator(Protocol):
    """A module of this package."""

    def fit(
        self,
        comm: Comm,
        blocks: Blocks,
        params: Params,
        *,
        seed: int,
        progress: Progress,
        checkpoint: Checkpoint = NO_CHECKPOINT,
    ) -> Result:
        """Learns from the blocks of all ranks. InvalidSpec, the same on every rank, if the data cannot bear `params`."""

    def restore(self, params: Params, arrays: Mapping[str, np.ndarray], facts: Facts) -> Result:
        """The result from what `arrays` and `facts` gave: `restore(params, r.arrays(), r.facts())` equals `r`."""
