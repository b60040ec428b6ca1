"""From objects as the API server sends them to the values that decisions rest on.

A stored object never raises here: what does not parse becomes `Unreadable`, since one odd job must not stop the others.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from scalejob.api.v1alpha1 import Spec, Status
from scalejob.contract import LABEL_QUEUE, MANAGED_BY, WORKER_CONTAINER

from .indices import from_ranges
from .model import Job, Pod, PodPhase, Terminated, Unreadable, Waiting
from .names import identity_of
from .times import from_text

Body = Mapping[str, Any]

_EPOCH = datetime.fromtimestamp(0, UTC)
_PHASES: tuple[PodPhase, ...] = ("Pending", "Running", "Succeeded", "Failed")
_END_PHASES = ("Succeeded", "Failed")
_USUAL_WAITS = ("PodInitializing", "ContainerCreating")  # every container goes through these


def read_job(body: Body) -> Job | Unreadable:
    """A ScaleJob, or why this version cannot read it."""
    metadata = body["metadata"]
    status = _read_status(body)
    try:
        spec = Spec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        return _unreadable(body, status, _explain("spec", error))
    if status is None:
        return _unreadable(body, status, "status does not parse; was it written by another version?")
    return Job(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        created=_time(metadata.get("creationTimestamp")) or _EPOCH,
        is_deleting="deletionTimestamp" in metadata,
        queue=(metadata.get("labels") or {}).get(LABEL_QUEUE) or None,
        spec=spec,
        status=status,
    )


def _read_status(body: Body) -> Status | None:
    """None if it does not parse: taking it for empty would run a finished job again."""
    try:
        status = Status.model_validate(body.get("status") or {})
        from_ranges(status.succeeded_indices)
        times = (
            status.start_time,
            status.attempt_time,
            status.running_time,
            status.created_time,
            status.waiting_time,
            status.scheduling_time,
            status.hold_time,
            status.completion_time,
            *(condition.last_transition_time for condition in status.conditions),
        )
        for text in filter(None, times):
            from_text(text)
    except ValueError:
        return None
    return status


def _unreadable(body: Body, status: Status | None, message: str) -> Unreadable:
    metadata, spec = body["metadata"], body.get("spec")
    return Unreadable(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata.get("resourceVersion", ""),
        is_deleting="deletionTimestamp" in metadata,
        is_ours=not isinstance(spec, Mapping) or spec.get("managedBy", MANAGED_BY) == MANAGED_BY,
        message=message,
        status=Status() if status is None else status,
        is_status_readable=status is not None,
    )


def _explain(root: str, error: ValidationError) -> str:
    """Every field that is wrong, in one line."""
    problems = (
        f"{'.'.join(str(part) for part in (root, *problem['loc']))}: {problem['msg']}" for problem in error.errors()
    )
    return "; ".join(problems)


def read_pod(body: Body) -> Pod:
    """The facts of one Pod. Identity comes from the name, which cannot be edited as labels can."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    job = controller_of(body) or {}
    attempt, index = identity_of(metadata["name"], job.get("name", ""))
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    state = _worker_state(status)
    end = _terminated(state)
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        job_uid=job.get("uid", ""),
        attempt=attempt,
        index=index,
        created=_time(metadata.get("creationTimestamp")) or _EPOCH,
        started=_time(status.get("startTime")),
        phase=_phase(status, end),
        is_outlived=end is not None and _is_outlived(status),
        is_deleting="deletionTimestamp" in metadata,
        is_ready=_holds(conditions, "Ready"),
        unready="" if _holds(conditions, "Ready") else conditions.get("Ready", {}).get("message", ""),
        is_scheduled=bool(spec.get("nodeName")),
        node=spec.get("nodeName"),
        ip=status.get("podIP"),
        gates=tuple(gate["name"] for gate in spec.get("schedulingGates") or ()),
        unschedulable=_unschedulable(conditions),
        waiting=None if end else _waiting(status),
        terminated=end,
        disruption=_disruption(conditions),
        reason=status.get("reason", ""),
        message=status.get("message") or _disruption_text(conditions),
        init_failure="" if end else _init_failure(status),
    )


def controller_of(body: Body) -> Body | None:
    """The reference to the owner that controls an object; None if nobody does."""
    owners = body["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def _worker_state(status: Body) -> Body:
    """Of the worker container: a mesh may have put others beside it."""
    containers = status.get("containerStatuses") or ()
    return next((c.get("state") or {} for c in containers if c.get("name") == WORKER_CONTAINER), {})


def _is_outlived(status: Body) -> bool:
    """Whether a container beside the worker has not ended. Of the end of a Pod kubelets tell a moment after that of its last one."""
    others = (c for c in status.get("containerStatuses") or () if c.get("name") != WORKER_CONTAINER)
    is_open = any("terminated" not in (container.get("state") or {}) for container in others)
    return is_open and status.get("phase") not in _END_PHASES


def _init_failure(status: Body) -> str:
    """Which init container, as a mesh injects them, has kept the worker from its start.

    Those of a Pod whose end has a reason of its own (Evicted, ...) were ended with it.
    """
    if status.get("phase") != "Failed" or status.get("reason"):
        return ""
    for container in status.get("initContainerStatuses") or ():
        end = (container.get("state") or {}).get("terminated") or {}
        if code := end.get("exitCode"):
            how = f" ({end['reason']})" if end.get("reason", "Error") != "Error" else ""
            return f"init container {container.get('name')} ended with exit code {code}{how}"
    return ""


def _phase(status: Body, end: Terminated | None) -> PodPhase:
    """Of the worker, once it has ended; that of the Pod waits for containers beside it, and fails with them.

    But an end of the whole Pod that comes with a reason (Evicted, Preempting, Terminated, ...) did not wait for the worker's.
    """
    phase = status.get("phase", "Pending")
    if end and not (phase == "Failed" and status.get("reason")):
        return "Succeeded" if end.exit_code == 0 else "Failed"
    return next((known for known in _PHASES if known == phase), "Unknown")


def _holds(conditions: Mapping[str, Body], name: str) -> bool:
    return bool(conditions.get(name, {}).get("status") == "True")


def _unschedulable(conditions: Mapping[str, Body]) -> str | None:
    scheduled = conditions.get("PodScheduled", {})
    is_refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return scheduled.get("message", "") if is_refused else None


def _disruption(conditions: Mapping[str, Body]) -> str | None:
    is_target = _holds(conditions, "DisruptionTarget")
    return conditions["DisruptionTarget"].get("reason", "") if is_target else None


def _disruption_text(conditions: Mapping[str, Body]) -> str:
    """Of who takes the Pod away: the scheduler, the eviction API, the taint manager."""
    return conditions["DisruptionTarget"].get("message", "") if _holds(conditions, "DisruptionTarget") else ""


def _waiting(status: Body) -> Waiting | None:
    """Of the worker; while the Pod has not started, the most telling one of all its containers."""
    states = [_own_wait(_worker_state(status))]
    if status.get("phase", "Pending") == "Pending":
        states += [
            _wait_of_other(container, noun)
            for field, noun in (("initContainerStatuses", "init container"), ("containerStatuses", "container"))
            for container in status.get(field) or ()
            if container.get("name") != WORKER_CONTAINER
        ]
    waits = [wait for wait in states if wait]
    return next((wait for wait in waits if wait.reason not in _USUAL_WAITS), waits[0] if waits else None)


def _own_wait(state: Body) -> Waiting | None:
    waiting = state.get("waiting")
    return Waiting(reason=waiting.get("reason", ""), message=waiting.get("message", "")) if waiting else None


def _wait_of_other(container: Body, noun: str) -> Waiting | None:
    """A container that others have put into the Pod. One that ends again and again waits also while it is tried once more."""
    whose = f"{noun} {container.get('name')}"
    if container.get("restartCount") and not (container.get("started") or container.get("ready")):
        return Waiting(reason="CrashLoopBackOff", message=f"{whose} ends again and again")
    found = _own_wait(container.get("state") or {})
    return found and Waiting(reason=found.reason, message=": ".join(filter(None, (whose, found.message))))


def _terminated(state: Body) -> Terminated | None:
    terminated = state.get("terminated")
    if not terminated:
        return None
    return Terminated(
        exit_code=terminated.get("exitCode", 0),
        reason=terminated.get("reason", ""),
        message=terminated.get("message", ""),
        started=_time(terminated.get("startedAt")),
        finished=_time(terminated.get("finishedAt")),
    )


def _time(text: str | None) -> datetime | None:
    return from_text(text) if text else None
