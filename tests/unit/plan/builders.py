"""Jobs and Pods with sane defaults: `make_job().workers(4).gpus(1).build()`, `running(0)`, `failed(1, code=137)`."""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from scalejob.api.v1alpha1 import Status
from scalejob.contract import LastWord
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Plan, Pod, Terminated, Waiting
from scalejob.plan.names import pod_name
from scalejob.plan.observe import read_job
from scalejob.plan.pods import PodDefaults

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB_UID = "5d0f7c1e-0000-4000-8000-000000000001"
DEFAULTS = PodDefaults(trainer_image="scalejob/trainer:test")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class JobBuilder:
    """Every method returns a new builder; `build` parses what the API server would send."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def spec(self, **fields: Any) -> "JobBuilder":
        return self._with("spec", fields)

    def metadata(self, **fields: Any) -> "JobBuilder":
        return self._with("metadata", fields)

    def workers(self, number: int) -> "JobBuilder":
        return self.spec(workers=number)

    def gpus(self, number: int) -> "JobBuilder":
        return self.spec(gpus={"perWorker": number})

    def pod(self, **fields: Any) -> "JobBuilder":
        return self.spec(pod=fields)

    def command(self, *argv: str, restartable: bool = True) -> "JobBuilder":
        return self.spec(workload={"command": {"argv": list(argv), "restartable": restartable}})

    def status(self, status: Status) -> "JobBuilder":
        return JobBuilder(self.body | {"status": status.to_wire()})

    def build(self) -> Job:
        job = read_job(self.body)
        assert isinstance(job, Job), job
        return job

    def _with(self, part: str, fields: dict[str, Any]) -> "JobBuilder":
        body = copy.deepcopy(self.body)
        body[part] = body.get(part, {}) | fields
        return JobBuilder(body)


def make_job() -> JobBuilder:
    """A K-Means job of one worker that was just created."""
    return JobBuilder(
        {
            "metadata": {
                "name": "segments",
                "namespace": "team-a",
                "uid": JOB_UID,
                "generation": 1,
                "resourceVersion": "1",
                "creationTimestamp": "2026-01-02T03:04:05Z",
            },
            "spec": {
                "workload": {"kmeans": {"clusters": 3}},
                "data": {"synthetic": {"blobs": {"rows": 1000, "features": 4}}},
                "output": {"uri": "/models/segments"},
            },
        }
    )


def pending(index: int, attempt: int = 0, **fields: Any) -> Pod:
    """A Pod that was created and not yet placed."""
    name = pod_name("segments", attempt, index)
    basis = Pod(
        name=name,
        uid=f"uid-{name}",
        job_uid=JOB_UID,
        attempt=attempt,
        index=index,
        created=NOW,
        phase="Pending",
    )
    return replace(basis, **fields)


def running(index: int, attempt: int = 0, **fields: Any) -> Pod:
    placed = {"phase": "Running", "is_ready": True, "is_scheduled": True, "node": f"n{index}", "started": NOW}
    return pending(index, attempt, **placed | fields)


def succeeded(index: int, attempt: int = 0, *, word: LastWord | None = None, at: float = 60) -> Pod:
    end = Terminated(exit_code=0, reason="Completed", message=word.to_json() if word else "", finished=after(at))
    return running(index, attempt, phase="Succeeded", is_ready=False, terminated=end)


def failed(index: int, attempt: int = 0, *, code: int = 1, at: float = 60, **fields: Any) -> Pod:
    """`message` and `reason` are those of the container; other fields are the Pod's."""
    said = {name: fields.pop(name) for name in ("message", "reason") if name in fields}
    end = Terminated(exit_code=code, finished=after(at), **{"reason": "Error"} | said)
    return running(index, attempt, phase="Failed", is_ready=False, terminated=end, **fields)


def blocked(index: int, reason: str = "ImagePullBackOff", **fields: Any) -> Pod:
    """A Pod on a node that cannot start its container."""
    waiting = Waiting(reason=reason, message="not found")
    return pending(index, is_scheduled=True, node=f"n{index}", started=NOW, waiting=waiting, **fields)


def word(**fields: Any) -> str:
    """A termination message of the trainer."""
    return LastWord(**{"rank": 0} | fields).to_json()


def store(job: Job, plan: Plan) -> Job:
    """The job as the API server sends it after the plan's status was written."""
    status = Status.model_validate(json.loads(json.dumps(plan.status.to_wire())))
    return replace(job, status=status, resource_version=str(int(job.resource_version) + 1))


def planned(job: Job, *looks: tuple[list[Pod], datetime]) -> Job:
    """The job after it was decided about at each look."""
    for pods, now in looks:
        job = store(job, decide(job, pods, now))
    return job


def started(builder: JobBuilder) -> Job:
    """A job whose workers all run since NOW."""
    job = builder.build()
    return planned(job, ([], NOW), ([running(index) for index in range(job.spec.workers)], NOW))
