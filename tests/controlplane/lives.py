"""Lives of a job of three workers, as the people and the kubelets around it make them. The operator is started beside them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from scalejob.contract import Phase
from scalejob.kube.client import SERVICES, Object, Selection
from scalejob.plan.names import pod_name
from tests.controlplane.api import Jobs
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.witness import Record, Witness

WORKERS = 3
# On one node, since messages name it.
COMMON: dict[str, Any] = {"workers": WORKERS, "pod": {"nodeSelector": {"test/node": "cpu-node"}}}
_PATIENCE_SECONDS = 40.0  # an operator is killed and started, and shares two cores with many others
_LOOK_SECONDS = 0.05
_TELLING = ("phase", "attempt", "reason", "message")


@dataclass(slots=True, kw_only=True)
class Stage:
    """Where a life is played, after `begin`."""

    jobs: Jobs
    kubelet: FakeKubelet
    witness: Witness
    spec: dict[str, Any]
    name: str = "job"
    patience: float = _PATIENCE_SECONDS
    records: list[Record] = field(default_factory=list)

    @property
    def record(self) -> Record:
        """Of the present job; a job that is made anew is another."""
        return self.records[-1]

    @property
    def violations(self) -> list[str]:
        return [violation for record in self.records for violation in record.violations]

    async def begin(self) -> None:
        """The job is made."""
        body = await self.jobs.create(self.name, **self.spec)
        self.records.append(self.witness[body["metadata"]["uid"]])

    async def begin_anew(self) -> None:
        """It is deleted, and another one of its name is made at once."""
        await self.jobs.delete(self.name)
        await self.begin()

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Raises TimeoutError with `what` if it does not come to hold."""
        deadline = time.monotonic() + self.patience
        while not holds():
            if time.monotonic() > deadline:
                status = {key: self.record.status.get(key) for key in _TELLING}
                raise TimeoutError(f"{what} did not come in {self.patience:.0f} s; of the status: {status}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def reaches(self, phase: Phase, attempt: int) -> None:
        await self.until(
            f"{phase.value} in attempt {attempt}",
            lambda: (self.record.status.get("phase"), self.record.status.get("attempt")) == (phase.value, attempt),
        )

    async def end(self, attempt: int, index: int, code: int, *, reason: str = "") -> None:
        name = pod_name(self.name, attempt, index)
        await self.kubelet.end(self.jobs.namespace, name, code, message="" if code == 0 else "boom", reason=reason)

    async def succeed(self, attempt: int, workers: int = WORKERS) -> None:
        """All workers run and end well."""
        await self.reaches(Phase.RUNNING, attempt)
        for index in range(workers):
            await self.end(attempt, index, 0)
        await self.reaches(Phase.SUCCEEDED, attempt)


async def _succeeds(stage: Stage) -> None:
    await stage.succeed(0)


async def _fails_once(stage: Stage) -> None:
    await stage.reaches(Phase.RUNNING, 0)
    await stage.end(0, 1, 1)
    await stage.succeed(1)


async def _is_suspended(stage: Stage) -> None:
    await stage.reaches(Phase.RUNNING, 0)
    await stage.jobs.patch(suspend=True)
    await stage.reaches(Phase.SUSPENDED, 1)
    await stage.jobs.patch(suspend=False)
    await stage.succeed(1)


async def _is_scaled(stage: Stage) -> None:
    await stage.reaches(Phase.RUNNING, 0)
    await stage.jobs.patch(workers=2)
    await stage.succeed(1, workers=2)


async def _is_made_anew(stage: Stage) -> None:
    """What is left of the first one has the names that the second one needs."""
    await stage.reaches(Phase.RUNNING, 0)
    await stage.begin_anew()
    await stage.succeed(0)


async def _is_deleted(stage: Stage) -> None:
    """While its Pods are made."""
    await stage.until("a Pod", lambda: bool(stage.record.pods))
    await stage.jobs.delete()
    await stage.until("the end of all Pods", lambda: not (stage.record.job or stage.record.pods))


async def _fails_for_good(stage: Stage) -> None:
    await stage.reaches(Phase.RUNNING, 0)
    await stage.end(0, 1, 1)
    await stage.reaches(Phase.RUNNING, 1)
    await stage.end(1, 2, 1)
    await stage.reaches(Phase.FAILED, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What a spec has besides COMMON, and what happens to a job that has it."""

    name: str
    story: Callable[[Stage], Awaitable[None]]
    spec: dict[str, Any] = field(default_factory=dict)


LIVES = (
    Life(name="succeeds", story=_succeeds, spec={"keepPods": "None"}),
    Life(name="fails once", story=_fails_once, spec={"keepPods": "All"}),
    Life(name="suspended and resumed", story=_is_suspended),
    Life(name="scaled", story=_is_scaled),
    Life(name="made anew", story=_is_made_anew),
    Life(name="deleted", story=_is_deleted),
    Life(
        name="fails for good",
        story=_fails_for_good,
        spec={"keepPods": "Failed", "restarts": {"failures": 1, "backoffSeconds": 0}},
    ),
)


async def end_state(stage: Stage) -> Object:
    """What must not depend on what went wrong on the way: everything but times and uids."""
    record = stage.record
    status = record.status if record.job else {}
    services = await stage.jobs.api.client.list_page(Selection(resource=SERVICES, namespace=stage.jobs.namespace))
    return {
        "exists": record.job is not None,
        "status": {key: status.get(key) for key in ("phase", "reason", "message", "attempt", "restarts", "workers")},
        "times": sorted(key for key in status if key.endswith("Time")),
        "failure": {key: status.get("lastFailure", {}).get(key) for key in ("attempt", "index", "class", "exitCode")},
        "conditions": {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions", ())},
        "pods": {name: pod["status"]["phase"] for name, pod in sorted(record.pods.items())},
        "made": sorted(record.made) if record.job else [],
        "services": [service["metadata"]["name"] for service in services.items],
    }


def difference(want: Object, end: Object) -> str:
    """`status.workers.ready is 1, not 2`."""
    wanted, found = dict(_leaves(want)), dict(_leaves(end))
    return "; ".join(
        f"{path} is {found.get(path)!r}, not {wanted.get(path)!r}"
        for path in sorted(wanted | found)
        if wanted.get(path) != found.get(path)
    )


def _leaves(obj: Object, path: str = "") -> Iterator[tuple[str, object]]:
    for key, value in obj.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield path + key, value
