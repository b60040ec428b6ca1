"""A part of the crash matrix, the same each time; `python -m tests.controlplane.crash_matrix` runs all of it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scalejob.kube.client import Object
from tests.controlplane.api import Api
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.crash_matrix import Matrix, blows, open_matrix, play_all, some
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.fault_proxy import Fault
from tests.controlplane.lives import LIVES, Life
from tests.controlplane.witness import Record

KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
OTHERS = tuple(fault for fault in Fault if fault not in KILLS)

# name of the life -> phase, attempt, failures counted, Pods that stay
ENDS = {
    "succeeds": ("Succeeded", 0, 0, []),
    "fails once": ("Succeeded", 1, 1, ["job-1-0", "job-1-1", "job-1-2"]),
    "suspended and resumed": ("Succeeded", 1, 0, []),
    "deleted": (None, None, None, []),
    "fails for good": ("Failed", 1, 1, ["job-1-2"]),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def matrix(
    control_plane: ControlPlane, api: Api, kubelet: FakeKubelet, operator_process: OperatorProcess
) -> AsyncIterator[Matrix]:
    """The operator of the other tests would look after these jobs too."""
    if operator_process.is_running:
        operator_process.stop()
    async with open_matrix(control_plane, api, kubelet) as matrix:
        yield matrix


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
async def test_a_fault_at_any_call_changes_nothing_in_the_end(matrix: Matrix, life: Life):
    """The operator is killed, or a call or the watches fail: no Pod twice, none left over, no restart counted twice."""
    model = await matrix.play(life)
    assert (model.violations, _summary(model.end)) == ((), ENDS[life.name])
    chosen = some(blows(model.calls, KILLS), 0.1, life.name) + some(blows(model.calls, OTHERS), 0.02, life.name)
    outcomes = await play_all(matrix, life, chosen, model.end)
    assert [str(outcome) for outcome in outcomes if outcome.violations] == []
    assert sum(outcome.call is not None for outcome in outcomes) > len(outcomes) / 2


def _summary(end: Object) -> tuple[str | None, int | None, int | None, list[str]]:
    status = end["status"]
    return status["phase"], status["attempt"], (status["restarts"] or {}).get("failures"), list(end["pods"])


def pod(name: str, attempt: int, *, uid: str = "u", phase: str = "Running") -> Object:
    labels = {"scalejob.io/attempt": str(attempt)}
    return {"metadata": {"name": name, "uid": uid, "labels": labels}, "status": {"phase": phase}}


class TestWitness:
    def test_sees_a_pod_that_is_made_twice(self):
        """One name, two uids."""
        record, first = Record(), pod("job-0-0", 0, uid="a")
        record.see_pod(None, first)
        record.see_pod(first, None)
        record.see_pod(None, pod("job-0-0", 0, uid="b"))
        assert record.violations == ["Pod job-0-0 was made twice"]

    @pytest.mark.parametrize(("phase", "want"), [("Failed", 0), ("Running", 1)])
    def test_sees_two_attempts_live(self, phase: str, want: int):
        """A Pod that has ended is no rival."""
        record = Record()
        record.see_pod(None, pod("job-0-0", 0, phase=phase))
        record.see_pod(None, pod("job-1-0", 1))
        assert len(record.violations) == want

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ({"restarts": {"total": 0}}, {"restarts": {"total": 2}}),
            ({"attempt": 1}, {"attempt": 0}),
            ({"phase": "Failed"}, {"phase": "Running"}),
        ],
    )
    def test_sees_what_a_status_must_not_do(self, old: Object, new: Object):
        """A restart counted twice, an attempt that goes back, an end that does."""
        record = Record()
        record.see_job({"status": old}, {"status": new})
        assert len(record.violations) == 1
