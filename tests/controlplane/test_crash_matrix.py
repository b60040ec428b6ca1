"""A part of the crash matrix, the same each time; `python -m tests.controlplane.crash_matrix` runs all of it."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scalejob.kube.client import Object
from tests.controlplane.api import Api
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.crash_matrix import Matrix, Outcome, blows, open_matrix, play_all, some
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.fault_proxy import Blow, Fault
from tests.controlplane.lives import LIVES, Life
from tests.controlplane.watch_faults import line_of, reordered
from tests.controlplane.witness import Record

KILLS = tuple(fault for fault in Fault if fault.kills)
OTHERS = tuple(fault for fault in Fault if not fault.kills)

# name of the life -> phase, attempt, failures counted, Pods that stay
ENDS = {
    "succeeds": ("Succeeded", 0, 0, []),
    "fails once": ("Succeeded", 1, 1, ["job-1-0", "job-1-1", "job-1-2"]),
    "suspended and resumed": ("Succeeded", 1, 0, []),
    "scaled": ("Succeeded", 1, 0, []),
    "made anew": ("Succeeded", 0, 0, []),
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def troubled(matrix: Matrix) -> dict[Fault, Outcome]:
    """One life under each fault, which strikes at a quarter of the calls."""
    life = next(life for life in LIVES if life.name == "fails once")
    model = await matrix.play(life)
    outcomes = await play_all(matrix, life, [Blow(fault=fault, at=2, share=0.25) for fault in OTHERS], model.end)
    return dict(zip(OTHERS, outcomes, strict=True))


@pytest.mark.parametrize("fault", OTHERS)
async def test_a_fault_that_strikes_again_and_again_changes_nothing_in_the_end(
    troubled: dict[Fault, Outcome], fault: Fault
):
    """A job fails, starts again and succeeds meanwhile."""
    assert (troubled[fault].violations, troubled[fault].call is not None) == ((), True)


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

    @pytest.mark.parametrize(("status", "want"), [({}, 0), ({"createdTime": "2026-01-02T03:04:05Z"}, 1)])
    def test_lets_a_pod_be_made_again_that_others_have_taken(self, status: Object, want: int):
        """As long as the attempt was not complete."""
        record, first = Record(), pod("job-0-0", 0, uid="a")
        record.see_job(None, {"status": status})
        record.taken.add("a")
        record.see_pod(None, first)
        record.see_pod(first, None)
        record.see_pod(None, pod("job-0-0", 0, uid="b"))
        assert len(record.violations) == want

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
            ({"attempt": 0, "restarts": {"total": 0}}, {"attempt": 1, "restarts": {"total": 2}}),
            ({"restarts": {"total": 0}}, {"restarts": {"total": 1}}),
            ({"attempt": 1}, {"attempt": 0}),
            ({"phase": "Failed"}, {"phase": "Running"}),
            ({"runningTime": "2026-01-02T03:04:05Z"}, {}),
            ({"workers": {"succeeded": 2}}, {"workers": {"succeeded": 1}}),
        ],
    )
    def test_sees_what_a_status_must_not_do(self, old: Object, new: Object):
        """A restart counted twice, one without an attempt, an attempt that goes back, an end, a start, a success that do."""
        record = Record()
        record.see_job({"status": old}, {"status": new})
        assert len(record.violations) == 1


class TestReordered:
    def test_events_of_one_object_keep_their_order(self):
        """Others may overtake them, and do."""
        events = [(uid, number) for number in range(4) for uid in "abc"]
        lines = [line_of("MODIFIED", {"metadata": {"uid": uid, "number": number}}) for uid, number in events]
        found = [json.loads(line)["object"]["metadata"] for line in reordered(lines)]
        assert [metadata["number"] for metadata in found if metadata["uid"] == "b"] == [0, 1, 2, 3]
        assert [(m["uid"], m["number"]) for m in found] != events
