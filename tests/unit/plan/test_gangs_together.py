"""Jobs that do not all fit at once, on a scheduler that knows nothing of jobs: all of them end."""

import random
from dataclasses import dataclass, field, replace

import pytest

from scalejob.contract import Phase
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Pod, Terminated
from scalejob.plan.names import pod_name
from scalejob.plan.times import from_text
from tests.unit.plan.builders import after, make_job

NO_ROOM = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
LIMIT_SECONDS = 10_000
RUN_SECONDS = 200
LOOK_AGAIN_SECONDS = 10  # of kube-scheduler, at most


@dataclass
class Gang:
    """A job, and its Pods by name."""

    job: Job
    pods: dict[str, Pod] = field(default_factory=dict)

    def reconcile(self, second: int) -> None:
        """One look of an operator that sees all, with deletions that take no time."""
        plan = decide(self.job, list(self.pods.values()), after(second))
        status = plan.status
        self.job = replace(self.job, status=status)
        for ref in plan.deletes:
            del self.pods[ref.name]
        for index in plan.creates:
            name = pod_name("segments", status.attempt, index)
            self.pods[name] = Pod(
                name=name,
                uid=name,
                job_uid=self.job.uid,
                attempt=status.attempt,
                index=index,
                created=after(second),
                phase="Pending",
            )

    def finish(self, second: int) -> None:
        """Workers that have run together for long enough are done."""
        since = self.job.status.running_time
        if since and (after(second) - from_text(since)).total_seconds() >= RUN_SECONDS:
            end = Terminated(exit_code=0, finished=after(second))
            self.pods = {
                name: replace(pod, phase="Succeeded", terminated=end) if pod.is_live else pod
                for name, pod in self.pods.items()
            }

    @property
    def is_over(self) -> bool:
        return self.job.status.phase.is_finished


def schedule(gangs: list[Gang], room: int, dice: random.Random) -> None:
    """Places Pods one by one, in any order; one that found no node is looked at again some seconds later."""
    waiting = [(gang, name) for gang in gangs for name, pod in gang.pods.items() if pod.phase == "Pending"]
    dice.shuffle(waiting)
    for gang, name in waiting:
        used = sum(pod.phase == "Running" for g in gangs for pod in g.pods.values())
        is_new = gang.pods[name].unschedulable is None
        if not is_new and dice.random() > 2 / LOOK_AGAIN_SECONDS:
            continue
        placed = {"phase": "Running", "is_ready": True, "is_scheduled": True, "node": "n", "unschedulable": None}
        fate = placed if used < room else {"unschedulable": NO_ROOM}
        gang.pods[name] = replace(gang.pods[name], **fate)


def seconds_until_all_end(sizes: list[int], room: int, seed: int) -> tuple[int, list[Gang]]:
    dice = random.Random(seed)  # noqa: S311 - no secret
    gangs = [Gang(make_job().workers(size).metadata(uid=f"{seed}-{i}").build()) for i, size in enumerate(sizes)]
    for second in range(LIMIT_SECONDS):
        for gang in gangs:
            gang.reconcile(second)
        schedule(gangs, room, dice)
        for gang in gangs:
            gang.reconcile(second)
            gang.finish(second)
        if all(gang.is_over for gang in gangs):
            return second, gangs
    raise AssertionError([gang.job.status.message for gang in gangs])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("sizes", "room"), [([4, 4], 4), ([8, 8, 8], 8), ([3, 4, 5], 6)])
def test_all_jobs_end(sizes: list[int], room: int, seed: int) -> None:
    """Whatever the scheduler gave to whom at first. The time is bounded by that of one after the other, and some tries."""
    end, gangs = seconds_until_all_end(sizes, room, seed)
    assert {gang.job.status.phase for gang in gangs} == {Phase.SUCCEEDED}
    assert end < 5 * RUN_SECONDS * len(sizes)
