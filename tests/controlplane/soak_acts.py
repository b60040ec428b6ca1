"""What happens to one job of the soak: some acts, after each of which it has to run again, and one end.

Each act says what has to follow from it: the number of the attempt, and what was counted. Where the operator may see a thing or
not before it is gone, both answers are right, and the act takes over the one that was given.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from scalejob.contract import Phase
from scalejob.kube.client import Object
from scalejob.kube.errors import NotFound
from scalejob.plan.names import pod_name
from tests.controlplane.lives import Stage

_ANY_CODES = (1, 3, 134, 139)
_FINAL_CODES = (2, 93)
KEPT = {"None": (), "Failed": ("Failed",), "All": ("Succeeded", "Failed")}


@dataclass(slots=True, kw_only=True)
class Player:
    """The job, and what its status has to say. It has begun."""

    stage: Stage
    chance: Random
    workers: int
    attempt: int = 0
    failures: int = 0
    disruptions: int = 0

    @property
    def restarts(self) -> tuple[int, int, int]:
        """Failures, disruptions and their sum, as the status tells."""
        found = self.stage.record.status.get("restarts", {})
        return found.get("failures", 0), found.get("disruptions", 0), found.get("total", 0)

    @property
    def any_index(self) -> int:
        return self.chance.randrange(self.workers)

    async def runs(self) -> None:
        """All workers do, in the attempt that is due."""
        await self.stage.reaches(Phase.RUNNING, self.attempt)
        self.check()

    def check(self) -> None:
        due = (self.failures, self.disruptions, self.failures + self.disruptions)
        if self.restarts != due:
            self.violate(f"restarts are {self.restarts}, not {due}")
        if (found := self.stage.record.status.get("attempt")) != self.attempt:
            self.violate(f"the attempt is {found}, not {self.attempt}")

    def violate(self, what: str) -> None:
        self.stage.record.violations.append(what)

    async def end(self, index: int, code: int, *, reason: str = "") -> None:
        await self.stage.end(self.attempt, index, code, reason=reason)

    def has_failed(self) -> None:
        self.failures, self.attempt = self.failures + 1, self.attempt + 1

    def was_disrupted(self) -> None:
        self.disruptions, self.attempt = self.disruptions + 1, self.attempt + 1

    async def delete_pod(self, name: str) -> None:
        self.stage.record.taken.add(self.stage.record.pods[name]["metadata"]["uid"])
        await self.stage.jobs.delete_pod(name)

    async def patch(self, **spec: Any) -> Object:
        """The job as it is then."""
        return await self.stage.jobs.patch(self.stage.name, **spec)

    async def is_gone(self) -> None:
        record = self.stage.record
        await self.stage.until("the end of the job and its Pods", lambda: not (record.job or record.pods))


async def _exits(player: Player) -> None:
    await player.end(player.any_index, player.chance.choice(_ANY_CODES))
    player.has_failed()


async def _runs_out_of_memory(player: Player) -> None:
    await player.end(player.any_index, 137, reason="OOMKilled")
    player.has_failed()


async def _hangs(player: Player) -> None:
    await player.end(player.any_index, 94)
    player.has_failed()


async def _all_exit(player: Player) -> None:
    """One after the other; the operator may tell the others to stop before."""
    for index in range(player.workers):
        with contextlib.suppress(NotFound):
            await player.end(index, 1)
    player.has_failed()


async def _is_preempted(player: Player) -> None:
    await player.end(player.any_index, 85)
    player.was_disrupted()


async def _is_evicted(player: Player) -> None:
    name = pod_name(player.stage.name, player.attempt, player.any_index)
    await player.stage.kubelet.evict(player.stage.jobs.namespace, name)
    player.was_disrupted()


async def _loses_a_pod(player: Player) -> None:
    await player.delete_pod(pod_name(player.stage.name, player.attempt, player.any_index))
    player.was_disrupted()


async def _loses_a_pod_at_the_start(player: Player) -> None:
    """Before all of an attempt are there, one that has vanished unseen is made again."""
    await _exits(player)
    record, due, name = player.stage.record, player.attempt, await _first_pod(player)
    await player.delete_pod(name)

    def is_made_up_for() -> bool:
        is_again = name in record.pods and record.pods[name]["metadata"]["uid"] not in record.taken
        return is_again or record.status["attempt"] > due

    await player.stage.until(f"another {name} or attempt", is_made_up_for)
    if record.status["attempt"] > due:
        player.was_disrupted()


async def _first_pod(player: Player) -> str:
    """Of the attempt that is due, as soon as there is one."""
    pods, start = player.stage.record.pods, pod_name(player.stage.name, player.attempt, 0)[:-1]
    await player.stage.until(f"a Pod {start}", lambda: any(name.startswith(start) for name in pods))
    return next(name for name in pods if name.startswith(start))


async def _is_suspended(player: Player) -> None:
    await player.patch(suspend=True)
    player.attempt += 1
    await player.stage.reaches(Phase.SUSPENDED, player.attempt)
    await player.patch(suspend=False)


async def _is_suspended_for_a_moment(player: Player) -> None:
    """The operator may have looked at it meanwhile."""
    await player.patch(suspend=True)
    await asyncio.sleep(player.chance.uniform(0, 0.3))
    job = await player.patch(suspend=False)
    player.attempt = job["status"]["attempt"]  # nothing that the operator has decided before can be stored any more


async def _is_scaled(player: Player) -> None:
    player.workers += 1 if player.workers == 1 else player.chance.choice((-1, 1))
    await player.patch(workers=player.workers)
    player.attempt += 1


async def _is_made_anew(player: Player) -> None:
    """One of the Pods that are left goes later than the others."""
    player.stage.spec = player.stage.spec | {"workers": player.workers}
    name = pod_name(player.stage.name, player.attempt, player.any_index)
    await player.stage.jobs.hold_pod(name, "test/held")
    await player.stage.begin_anew()
    await asyncio.sleep(player.chance.choice((0, 0, 1)))
    await player.stage.jobs.hold_pod(name)
    player.attempt = player.failures = player.disruptions = 0


Act = Callable[[Player], Awaitable[None]]
FAILING: dict[str, Act] = {
    "a worker exits": _exits,
    "out of memory": _runs_out_of_memory,
    "a worker hangs": _hangs,
    "all workers exit": _all_exit,
    "a Pod deleted at the start": _loses_a_pod_at_the_start,
}
ACTS: dict[str, Act] = FAILING | {
    "preempted": _is_preempted,
    "evicted": _is_evicted,
    "a Pod deleted": _loses_a_pod,
    "suspended": _is_suspended,
    "suspended for a moment": _is_suspended_for_a_moment,
    "scaled": _is_scaled,
    "made anew": _is_made_anew,
}


async def _succeeds(player: Player) -> None:
    order = player.chance.sample(range(player.workers), player.workers)
    for index in order:
        await player.end(index, 0)
        await asyncio.sleep(player.chance.choice((0, 0, 0.3)))
    await _has_ended(player, Phase.SUCCEEDED, "AllWorkersSucceeded")


async def _fails_for_good(player: Player) -> None:
    await player.end(player.any_index, player.chance.choice(_FINAL_CODES))
    await _has_ended(player, Phase.FAILED, "UserError")


async def _uses_up_its_restarts(player: Player) -> None:
    while player.failures < player.stage.spec["restarts"]["failures"]:
        await _exits(player)
        await player.runs()
    await player.end(player.any_index, 1)
    await _has_ended(player, Phase.FAILED, "RestartLimitExceeded")


async def _runs_too_long(player: Player) -> None:
    await player.patch(suspend=True)
    player.attempt += 1
    await player.stage.reaches(Phase.SUSPENDED, player.attempt)
    await player.patch(suspend=False, deadlines={"activeSeconds": 1})
    await _has_ended(player, Phase.FAILED, "DeadlineExceeded")


async def _is_deleted(player: Player) -> None:
    await player.stage.jobs.delete(player.stage.name)
    await player.is_gone()


async def _is_deleted_at_the_start(player: Player) -> None:
    await _exits(player)
    await _first_pod(player)
    await _is_deleted(player)


async def _expires(player: Player) -> None:
    await player.patch(ttlSecondsAfterFinished=0)
    for index in range(player.workers):
        await player.end(index, 0)
    await player.is_gone()
    if player.stage.record.status["phase"] != Phase.SUCCEEDED:
        player.violate("it expired before its end")


async def _has_ended(player: Player, phase: Phase, reason: str) -> None:
    """With the right counts, and with the Pods that it was asked to keep; half of those jobs are deleted then."""
    await player.stage.reaches(phase, player.attempt)
    player.check()
    if (found := player.stage.record.status["reason"]) != reason:
        player.violate(f"{phase.value} for {found}, not for {reason}")
    await _keeps_what_it_should(player, phase)
    if player.chance.random() < 0.5:
        await _is_deleted(player)


async def _keeps_what_it_should(player: Player, phase: Phase) -> None:
    kept = KEPT[player.stage.spec["keepPods"]]
    pods, start = player.stage.record.pods, pod_name(player.stage.name, player.attempt, 0)[:-1]

    def is_so() -> bool:
        are_right = all(pod["status"]["phase"] in kept and name.startswith(start) for name, pod in pods.items())
        return are_right and (phase is Phase.FAILED or len(pods) == (player.workers if "Succeeded" in kept else 0))

    await player.stage.until(f"the Pods that keepPods: {player.stage.spec['keepPods']} keeps", is_so)


ENDS: dict[str, Act] = {
    "succeeds": _succeeds,
    "fails for good": _fails_for_good,
    "uses up its restarts": _uses_up_its_restarts,
    "runs too long": _runs_too_long,
    "is deleted": _is_deleted,
    "is deleted at the start": _is_deleted_at_the_start,
    "expires": _expires,
}
