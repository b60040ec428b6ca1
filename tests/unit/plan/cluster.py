"""A small simulated cluster, and an operator in it that dies, sees late, and loses writes.

The cluster is the truth; the operator acts on `seen`, which catches up object by object and in any order. As the engine does,
the operator knows its own writes until it dies, and reads everything anew when it starts.
Every write is checked when it is committed, so that a rule that is broken for a moment is found, too.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from scalejob.api.v1alpha1 import Status
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Plan, Pod, PodRef, Refusal, Terminated, Waiting
from scalejob.plan.names import pod_name
from scalejob.plan.observe import read_job
from scalejob.plan.view import succeeded
from tests.unit.plan.builders import JOB_UID, NOW, JobBuilder


class Conflict(Exception):
    """409: the version is not the present one."""


class Crash(Exception):
    """The operator is dead."""


@dataclass
class Cluster:
    """The API server and the kubelets."""

    body: dict[str, Any]
    now: datetime = NOW
    pods: dict[str, Pod] = field(default_factory=dict)
    num_created: int = 0
    num_writes: int = 0

    @property
    def job(self) -> Job:
        job = read_job(self.body)
        assert isinstance(job, Job), job
        return job

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def edit_spec(self, **fields: Any) -> None:
        self.body = self.body | {"spec": self.body["spec"] | fields}
        self.body["metadata"] = self.body["metadata"] | {"generation": self.body["metadata"]["generation"] + 1}
        self._bump()

    def touch(self) -> None:
        """Somebody else writes to the job."""
        self._bump()

    def write_status(self, version: str, status: Status) -> None:
        if version != self.body["metadata"]["resourceVersion"]:
            raise Conflict
        check_transition(self.job.status, status)
        self.num_writes += 1
        self.body = self.body | {"status": copy.deepcopy(status.to_wire())}
        self._bump()

    def create(self, attempt: int, index: int) -> None:
        """A Pod of that name that is there already is adopted."""
        name, status = pod_name(self.job.name, attempt, index), self.job.status
        self.num_writes += 1
        if name in self.pods:
            return
        assert not status.phase.is_finished, "a finished job got a Pod"
        assert attempt == status.attempt, "a Pod of an attempt that was not written ahead"
        assert status.created_time is None, "a lone worker was replaced"
        assert index not in succeeded(status), "a worker that was done was run again"
        self.num_created += 1
        uid = f"pod-{self.num_created}"
        self.pods[name] = Pod(
            name=name, uid=uid, job_uid=JOB_UID, attempt=attempt, index=index, created=self.now, phase="Pending"
        )

    def delete(self, name: str, uid: str) -> None:
        """Asks a Pod to stop; one that never started or has ended goes at once."""
        self.num_writes += 1
        pod = self.pods.get(name)
        if pod is None or pod.uid != uid:
            return
        if pod.phase == "Pending" or pod.is_finished:
            del self.pods[name]
        else:
            self.pods[name] = replace(pod, is_deleting=True)

    def start(self, name: str) -> None:
        placed = {
            "phase": "Running",
            "is_ready": True,
            "is_scheduled": True,
            "node": "n1",
            "started": self.now,
            "waiting": None,
        }
        self._change(name, lambda pod: pod.phase == "Pending" and not pod.is_deleting, **placed)

    def end(self, name: str, code: int, message: str = "", reason: str = "Error") -> None:
        end = Terminated(exit_code=code, reason=reason, message=message, finished=self.now)
        phase = "Failed" if code else "Succeeded"
        self._change(name, lambda pod: pod.phase == "Running", phase=phase, is_ready=False, terminated=end)

    def evict(self, name: str) -> None:
        self._change(
            name, lambda pod: not pod.is_finished, phase="Failed", is_ready=False, disruption="EvictionByEvictionAPI"
        )

    def lose_node(self, name: str) -> None:
        self._change(name, lambda pod: pod.phase == "Running", phase="Unknown", is_ready=False)

    def heal_node(self, name: str) -> None:
        self._change(name, lambda pod: pod.phase == "Unknown", phase="Running", is_ready=True)

    def refuse_to_schedule(self, name: str) -> None:
        self._change(name, lambda pod: pod.phase == "Pending", unschedulable="0/2 nodes are available")

    def block_start(self, name: str) -> None:
        waiting = Waiting(reason="ErrImagePull", message="not found")
        self._change(name, lambda pod: pod.phase == "Pending", is_scheduled=True, started=self.now, waiting=waiting)

    def vanish(self, name: str) -> None:
        """The kubelet has stopped a Pod, or the garbage collector took one that had ended."""
        if self.pods[name].is_deleting or self.pods[name].is_finished:
            del self.pods[name]

    def stop_deleted(self) -> None:
        """The kubelets have stopped all that was told to stop."""
        for name, pod in list(self.pods.items()):
            if pod.is_deleting:
                self.vanish(name)

    def _change(self, name: str, applies: Callable[[Pod], bool], **fields: Any) -> None:
        if applies(self.pods[name]):
            self.pods[name] = replace(self.pods[name], **fields)

    def _bump(self) -> None:
        metadata = self.body["metadata"]
        version = str(int(metadata["resourceVersion"]) + 1)
        self.body = self.body | {"metadata": metadata | {"resourceVersion": version}}

    def check(self) -> None:
        """What must hold at every moment."""
        running = [pod for pod in self.pods.values() if pod.is_live]
        assert len({pod.attempt for pod in running}) <= 1, f"two attempts run: {sorted(pod.name for pod in running)}"
        places = [(pod.attempt, pod.index) for pod in running]
        assert len(places) == len(set(places)), "two live Pods in one place"


def check_transition(before: Status, after: Status) -> None:
    """What one write of the status may change."""
    if before.phase.is_finished:
        assert (before.phase, before.reason, before.attempt, before.restarts, before.cost) == (
            after.phase,
            after.reason,
            after.attempt,
            after.restarts,
            after.cost,
        ), "terminal is terminal"
    step = after.attempt - before.attempt
    assert step in (0, 1), "attempts are counted one by one"
    assert after.restarts.total - before.restarts.total in (0, step), "a restart without a new attempt"
    assert after.restarts.total == after.restarts.failures + after.restarts.disruptions
    assert after.restarts.total <= after.attempt
    if step == 1:
        assert after.phase.is_finished or not succeeded(after), "a new attempt begins with work that is done"
    if step == 0:
        assert succeeded(before) <= succeeded(after), "a worker that was done is not done any more"
        assert before.created_time in (None, after.created_time)
        assert before.running_time in (None, after.running_time)
        is_end = after.phase.is_finished and not before.phase.is_finished
        assert is_end or before.cost == after.cost, "an attempt was paid for before its end"


class Operator:
    """Sees, decides, acts. It dies instead of making the write that would be number `dies_at` of the cluster, counted from 0.

    To die after a write is committed and before its answer is read is to die before the next one.
    """

    def __init__(self, cluster: Cluster, dies_at: int | None = None) -> None:
        self.cluster = cluster
        self.dies_at = dies_at
        self.restart()

    def restart(self) -> None:
        """A new process lists everything."""
        self.body = self.cluster.body
        self.seen = dict(self.cluster.pods)

    def see_job(self) -> None:
        self.body = self.cluster.body

    def see_pod(self, name: str) -> None:
        """The watch brings one object up to date; the others stay as they were."""
        if name in self.cluster.pods:
            self.seen[name] = self.cluster.pods[name]
        else:
            self.seen.pop(name, None)

    def see_all(self) -> None:
        self.restart()

    def reconcile(self, refusal: Refusal | None = None) -> Plan:
        """One look. A crash is a restart; a conflict is a look at the job as it is now."""
        job = read_job(self.body)
        assert isinstance(job, Job)
        plan = decide(job, list(self.seen.values()), self.cluster.now, refusal=refusal)
        self._check_twice(job, plan, refusal)
        try:
            self._carry_out(job, plan)
        except Crash:
            self.restart()
        except Conflict:
            self.see_job()
        self.cluster.check()
        return plan

    def _check_twice(self, job: Job, plan: Plan, refusal: Refusal | None) -> None:
        """Planning again with the plan's own answer changes nothing."""
        status = JobBuilder(self.body).status(plan.status).build().status
        again = decide(replace(job, status=status), list(self.seen.values()), self.cluster.now, refusal=refusal)
        assert plan.status == again.status
        assert (plan.deletes, plan.creates, plan.delete_job) == (again.deletes, again.creates, again.delete_job)
        assert again.events == ()
        to_stop = [ref for ref in plan.deletes if self.seen[ref.name].is_live]
        assert not (plan.creates and to_stop), "deletes and creates of two attempts in one plan"

    def _carry_out(self, job: Job, plan: Plan) -> None:
        writes: list[Callable[[], None]] = []
        if plan.status != job.status:
            writes.append(lambda: self._write_status(job, plan.status))
        writes += [lambda ref=ref: self._delete(ref) for ref in plan.deletes]
        writes += [lambda index=index: self._create(plan.status.attempt, index) for index in plan.creates]
        for write in writes:
            if self.cluster.num_writes == self.dies_at:
                self.dies_at = None
                raise Crash
            write()

    def _write_status(self, job: Job, status: Status) -> None:
        self.cluster.write_status(job.resource_version, status)
        self.see_job()

    def _delete(self, ref: PodRef) -> None:
        self.cluster.delete(ref.name, ref.uid)
        self.see_pod(ref.name)

    def _create(self, attempt: int, index: int) -> None:
        self.cluster.create(attempt, index)
        self.see_pod(pod_name(self.cluster.job.name, attempt, index))
