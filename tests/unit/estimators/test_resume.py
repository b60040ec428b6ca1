"""A fit that goes on from the state of an earlier attempt ends with the bytes of one that was never disturbed."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from scalejob.api.v1alpha1 import Workload
from scaletrain.data.blocks import rows_per_block
from scaletrain.estimators import estimator_for
from scaletrain.estimators.base import State
from tests.unit.estimators.builders import make_blocks, on_ranks, quiet
from tests.unit.estimators.test_ranks import WORKLOADS, data, many_rows, sha


class Stopped(Exception):
    """The attempt is over."""


class Shelf:
    """A checkpoint in memory: every state of a fit, or the one to begin from, which is copied as a file would."""

    def __init__(self, saved: State | None = None) -> None:
        self.states: list[State] = []
        self.places: list[int] = []  # how many steps each of them includes
        self.steps: list[tuple[int, State]] = []
        self._saved = saved

    def resume(self) -> State | None:
        return copied(self._saved) if self._saved else None

    def offer(self, step: int, model: State, rest: Callable[[], State] | None = None) -> None:
        self.steps.append((step, copied(model)))
        if rest:
            self.states.append(copied({**model, **rest()}))
            self.places.append(len(self.steps))


def copied(state: State) -> State:
    return {name: value.clone() for name, value in state.items()}


def fit_on(name: str, size: int, saved: State | None = None) -> tuple[str, dict, Shelf]:
    """Digest, facts, and what rank 0 offered."""
    workload = WORKLOADS[name]
    blocks = make_blocks(*data(name, "float32"), rows=37)
    module, params = estimator_for(workload), getattr(workload, workload.name)
    shelves = [Shelf(saved) for _ in range(size)]

    def work(comm, mine):
        result = module.fit(comm, mine, params, seed=3, progress=quiet, checkpoint=shelves[comm.rank])
        return sha(result), result.facts()

    found = on_ranks(size, blocks, work)
    assert found == [found[0]] * size
    return *found[0], shelves[0]


undisturbed = cache(fit_on)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_state_leads_to_the_same_end_on_any_number_of_ranks(name: str) -> None:
    """From each state that 2 ranks have offered, on 1 to 4 ranks: equal bytes and facts."""
    digest, facts, shelf = undisturbed(name, 2)
    assert shelf.states
    for number, state in enumerate(shelf.states):
        assert fit_on(name, number % 4 + 1, state)[:2] == (digest, facts), number


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_resumed_fit_takes_the_steps_that_were_left(name: str) -> None:
    """The same step numbers with the same models as in the undisturbed fit, and none twice."""
    _, _, shelf = undisturbed(name, 2)
    middle = len(shelf.states) // 2
    *_, again = fit_on(name, 3, shelf.states[middle])
    left = shelf.steps[shelf.places[middle] :]
    assert [step for step, _ in again.steps] == [step for step, _ in left]
    for (_, model), (_, want) in zip(again.steps, left, strict=True):
        assert all(torch.equal(model[name], value) for name, value in want.items())


@pytest.mark.parametrize("workload", [WORKLOADS["logistic"], WORKLOADS["svm"]], ids=["logistic", "svm"])
def test_a_fit_that_began_with_a_sample_goes_on_in_the_same_way(workload: Workload) -> None:
    """From each state, also those between steps in float32 with a sample's Hessian: equal bytes and facts."""
    blocks = make_blocks(*many_rows(), rows=rows_per_block(1))
    module, params = estimator_for(workload), getattr(workload, workload.name)

    def run(size: int, saved: State | None) -> tuple[tuple[str, dict], Shelf]:
        shelves = [Shelf(saved) for _ in range(size)]

        def work(comm, mine):
            result = module.fit(comm, mine, params, seed=3, progress=quiet, checkpoint=shelves[comm.rank])
            return sha(result), result.facts()

        return on_ranks(size, blocks, work)[0], shelves[0]

    want, shelf = run(2, None)
    assert len(shelf.states) > 2
    for number, state in enumerate(shelf.states):
        assert run(number % 3 + 1, state)[0] == want, number
