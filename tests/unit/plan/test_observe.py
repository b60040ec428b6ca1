"""Objects as the API server sends them: what is read from a Pod, and that an odd job stops nobody."""

from typing import Any

import pytest

from scalejob.api.v1alpha1 import Status
from scalejob.contract import Phase, Reason
from scalejob.plan.model import Job, Pod, Unreadable, Waiting
from scalejob.plan.observe import read_job, read_pod
from scalejob.plan.pods import build_pod
from scalejob.plan.unreadable import decide_unreadable
from tests.unit.plan.builders import DEFAULTS, JOB_UID, NOW, after, failed, make_job, planned, running, started


def pod_body(**status: Any) -> dict[str, Any]:
    """A Pod as we made it, as the API server and the kubelet fill it in."""
    body = build_pod(make_job().build(), 3, 1, DEFAULTS)
    body["metadata"] |= {"uid": "u1", "creationTimestamp": "2026-01-02T03:04:05Z"}
    return body | {"status": status}


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "istio-proxy", "state": {"running": {}}}, {"name": "worker", "state": state}]


def test_a_pod_that_was_just_made_is_ours_and_pending() -> None:
    """The identity survives labels that were edited away."""
    body = pod_body()
    body["metadata"]["labels"] = {}
    want = Pod(name="segments-3-1", uid="u1", job_uid=JOB_UID, attempt=3, index=1, created=NOW, phase="Pending")
    assert want == read_pod(body)


def test_the_end_of_the_worker_is_read_past_a_sidecar() -> None:
    """A mesh may have put a container before ours."""
    end = {"exitCode": 137, "reason": "OOMKilled", "message": "x", "finishedAt": "2026-01-02T03:05:05Z"}
    found = read_pod(pod_body(phase="Failed", containerStatuses=container(terminated=end))).terminated
    assert (137, "OOMKilled", "x", after(60)) == (found.exit_code, found.reason, found.message, found.finished)


@pytest.mark.parametrize("proxy", [[], [{"name": "proxy", "state": {"terminated": {"exitCode": 0}}}]])
def test_a_pod_whose_end_is_not_told_yet_is_not_outlived(proxy: list[dict[str, Any]]) -> None:
    """All its containers have ended: it would be deleted, although `keepPods` keeps it."""
    statuses = [{"name": "worker", "state": {"terminated": {"exitCode": 0}}}, *proxy]
    found = read_pod(pod_body(phase="Running", containerStatuses=statuses))
    assert (found.phase, found.is_outlived) == ("Succeeded", False)


@pytest.mark.parametrize(
    "name", ["other-3-1", "segments-other-3-1", "segments-3-01", "segments-3", "segments-x-1", "debug"]
)
def test_a_namesake_of_no_worker_is_none(name: str) -> None:
    """A copy of a Pod under another name, owner included, takes nobody's place."""
    body = pod_body()
    body["metadata"]["name"] = name
    assert (read_pod(body).attempt, read_pod(body).index) == (-1, -1)


ENDS = (
    ("beside a sidecar that runs on", "Running", None, 0, ("Succeeded", True)),
    ("failed beside a sidecar that runs on", "Running", None, 1, ("Failed", True)),
    ("before the sidecar's image was there", "Pending", None, 0, ("Succeeded", True)),
    ("with the Pod", "Succeeded", None, 0, ("Succeeded", False)),
    ("and then the sidecar failed", "Failed", None, 0, ("Succeeded", False)),
    ("with 0 because it was evicted", "Failed", "Evicted", 0, ("Failed", False)),
)


@pytest.mark.parametrize(("phase", "reason", "code", "want"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS])
def test_the_worker_decides_how_a_pod_ended(phase: str, reason: str | None, code: int, want: tuple[str, bool]) -> None:
    """Not the containers that others have put beside it."""
    status = {"phase": phase, "containerStatuses": container(terminated={"exitCode": code})}
    found = read_pod(pod_body(**status | ({"reason": reason} if reason else {})))
    assert want == (found.phase, found.is_outlived)


@pytest.mark.parametrize(
    ("status", "want"),
    [
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
                ]
            },
            {"unschedulable": "0/2 nodes"},
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
            {"unschedulable": None},
        ),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            {"disruption": "PreemptionByScheduler"},
        ),
        ({"conditions": [{"type": "DisruptionTarget", "status": "False"}]}, {"disruption": None}),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, {"is_ready": True}),
        (
            {"conditions": [{"type": "Ready", "status": "False", "message": "containers with unready status: [mesh]"}]},
            {"is_ready": False, "unready": "containers with unready status: [mesh]"},
        ),
        (
            {"containerStatuses": container(waiting={"reason": "ErrImagePull", "message": "no"})},
            {"waiting": Waiting(reason="ErrImagePull", message="no")},
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            {"reason": "Evicted", "message": "low on memory", "is_finished": True},
        ),
        ({"phase": "Running", "reason": "NodeLost"}, {"is_node_lost": True, "is_live": False}),
        (
            {
                "phase": "Failed",
                "initContainerStatuses": [
                    {"name": "first", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "istio-init", "state": {"terminated": {"exitCode": 255}}},
                ],
            },
            {"init_failure": "init container istio-init ended with exit code 255", "message": ""},
        ),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "initContainerStatuses": [{"name": "proxy", "state": {"terminated": {"exitCode": 143}}}],
            },
            {"init_failure": ""},
        ),
        (
            {
                "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "bye"}
                ]
            },
            {"disruption": "EvictionByEvictionAPI", "message": "bye"},
        ),
        ({"phase": "SomethingNew"}, {"phase": "Unknown"}),
    ],
)
def test_facts_of_a_pod(status: dict[str, Any], want: dict[str, Any]) -> None:
    """One fact of the API for each fact that decisions rest on."""
    pod = read_pod(pod_body(**status))
    assert want == {name: getattr(pod, name) for name in want}


QUIET = {"waiting": {"reason": "PodInitializing"}}
NO_IMAGE = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
ENDED = {"terminated": {"exitCode": 1}}
WAITS = (
    ("nothing is odd", [], QUIET, Waiting(reason="PodInitializing")),
    (
        "an injected image is not there",
        [{"name": "proxy", "state": NO_IMAGE}],
        QUIET,
        Waiting(reason="ErrImagePull", message="init container proxy: not found"),
    ),
    (
        "a native sidecar never comes up",
        [{"name": "proxy", "state": {"running": {}}, "restartCount": 2, "started": False}],
        QUIET,
        Waiting(reason="CrashLoopBackOff", message="init container proxy ends again and again"),
    ),
    (
        "a native sidecar has come up",
        [{"name": "proxy", "state": {"running": {}}, "restartCount": 2, "started": True}],
        QUIET,
        Waiting(reason="PodInitializing"),
    ),
    (
        "an init container ran again on a new sandbox",
        [{"name": "setup", "state": {"terminated": {"exitCode": 0}}, "restartCount": 1, "ready": True}],
        QUIET,
        Waiting(reason="PodInitializing"),
    ),
    ("the worker has ended already", [{"name": "proxy", "state": NO_IMAGE}], ENDED, None),
)


@pytest.mark.parametrize(("inits", "state", "want"), [case[1:] for case in WAITS], ids=[case[0] for case in WAITS])
def test_what_a_pod_waits_for(inits: list[dict[str, Any]], state: dict[str, Any], want: Waiting | None) -> None:
    """The worker does not start before the containers that others have put before it."""
    status = {"phase": "Pending", "initContainerStatuses": inits, "containerStatuses": container(**state)}
    assert want == read_pod(pod_body(**status)).waiting


def test_a_container_beside_a_running_worker_holds_up_the_pod_until_it_has_started() -> None:
    """After that, its troubles are its own."""
    statuses = [{"name": "proxy", "state": NO_IMAGE}, {"name": "worker", "state": {"running": {}}}]
    found = [read_pod(pod_body(phase=p, containerStatuses=statuses)).waiting for p in ("Pending", "Running")]
    assert found == [Waiting(reason="ErrImagePull", message="container proxy: not found"), None]


def unreadable(body: dict[str, Any]) -> Unreadable:
    found = read_job(body)
    assert isinstance(found, Unreadable), found
    return found


def test_what_an_older_version_stored_is_read() -> None:
    """Fields that are unknown here, also in the status, are passed over."""
    body = make_job().spec(futureField={"a": 1}).body | {"status": {"phase": "Running", "future": 1}}
    found = read_job(body)
    assert isinstance(found, Job)
    assert found.status.phase == Phase.RUNNING


def test_a_spec_that_does_not_parse_is_explained_field_by_field() -> None:
    """All problems at once, in one line."""
    found = unreadable(make_job().spec(workers="many", seed=-1).body)
    assert "spec.workers: " in found.message
    assert "spec.seed: " in found.message


@pytest.mark.parametrize(
    "status",
    [{"phase": "Odd"}, {"startTime": "yesterday"}, {"succeededIndices": "a-b"}, {"conditions": [{"type": "Odd"}]}],
)
def test_a_status_that_does_not_parse_is_not_taken_for_empty(status: dict[str, Any]) -> None:
    """It may hold the end of the job: nothing is run, and nothing is overwritten."""
    found = unreadable(make_job().body | {"status": status})
    plan = decide_unreadable(found, NOW, [running(0)])
    assert (found.status, (), ()) == (plan.status, plan.deletes, plan.creates)


def test_an_unreadable_job_fails_and_its_workers_go() -> None:
    """Once, with the attempt and the counters that it had."""
    job = planned(started(make_job()), ([failed(0)], after(60)))
    body = make_job().status(job.status).spec(workers=0).body
    plan = decide_unreadable(unreadable(body), after(61), [running(0, 1)])
    assert (plan.status.phase, plan.status.reason, plan.status.attempt) == (Phase.FAILED, Reason.INVALID_SPEC, 1)
    assert (plan.status.workers.desired, plan.status.workers.pending) == (1, 0)
    assert [ref.name for ref in plan.deletes] == ["segments-1-0"]
    assert decide_unreadable(unreadable(body), after(61), [failed(0, 1)]).deletes == ()
    again = unreadable(body | {"status": plan.status.to_wire()})
    assert plan.status == decide_unreadable(again, after(99)).status


@pytest.mark.parametrize("change", [{"spec": {"managedBy": "example.com/other"}}, {"spec": {"managedBy": 3}}])
def test_an_unreadable_job_of_another_controller_is_left_alone(change: dict[str, Any]) -> None:
    """Whoever manages it may understand it."""
    assert Status() == decide_unreadable(unreadable(make_job().body | change), NOW).status
