"""Sees every ScaleJob and every Pod, asking the API server itself, and remembers what must never be."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from scalejob.contract import LABEL_ATTEMPT, Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import PODS, Client, Object, Resource, Selection
from scalejob.kube.reflector import Reflector
from scalejob.kube.store import Entry, Store
from scalejob.plan.observe import controller_of

_ENDED = ("Succeeded", "Failed")


class Record:
    """What was seen of one job and of the Pods that it controls. `violations` are sentences.

    A Pod that others delete before its attempt is complete is made again, rightly: whoever does so names it in `taken` first.
    """

    def __init__(self) -> None:
        self.pods: dict[str, Object] = {}  # by name
        self.job: Object | None = None
        self.status: Object = {}  # the last one, also when the job is gone
        self.made: defaultdict[str, list[str]] = defaultdict(list)  # uids that a name of a Pod has had
        self.taken: set[str] = set()  # uids
        self.violations: list[str] = []

    def see_pod(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            assert before
            self.pods.pop(before["metadata"]["name"], None)
            return
        name = after["metadata"]["name"]
        self.pods[name] = after
        if before is None:
            self._check_new(name, after)

    def see_job(self, before: Object | None, after: Object | None) -> None:
        self.job = after
        if after is None:
            return
        status = after.get("status", {})
        if before:
            self.violations += _steps_back(before.get("status", {}), status)
        self.status = status

    def _check_new(self, name: str, pod: Object) -> None:
        earlier = self.made[name][-1:]
        self.made[name].append(pod["metadata"]["uid"])
        if earlier and not (earlier[0] in self.taken and self._may_be_incomplete(_attempt(pod))):
            self.violations.append(f"Pod {name} was made twice")
        for other, body in self.pods.items():
            if _attempt(body) != _attempt(pod) and _is_live(body):
                self.violations.append(f"Pod {name} was made while {other} was live")

    def _may_be_incomplete(self, attempt: str) -> bool:
        is_known = str(self.status.get("attempt", 0)) == attempt and "createdTime" in self.status
        return not is_known


def _steps_back(old: Object, new: Object) -> list[str]:
    """What a status must not do from one write to the next."""
    found = []
    if old.get("phase") in (Phase.SUCCEEDED, Phase.FAILED) and new != old:
        found.append(f"the status changed after the end: {old} became {new}")
    attempts = [status.get("attempt", 0) for status in (old, new)]
    totals = [status.get("restarts", {}).get("total", 0) for status in (old, new)]
    for name, (before, after) in (("attempt", attempts), ("restarts.total", totals)):
        if not before <= after <= before + 1:
            found.append(f"{name} went from {before} to {after}")
    if attempts[0] == attempts[1]:
        found += [f"{text} in attempt {attempts[0]}" for text in _steps_back_in_an_attempt(old, new, totals)]
    return found


def _steps_back_in_an_attempt(old: Object, new: Object, totals: list[int]) -> list[str]:
    found = [f"{name} was taken back" for name in ("createdTime", "runningTime") if name in old and name not in new]
    if totals[0] != totals[1]:
        found.append("a restart was counted that was none")
    if old.get("workers", {}).get("succeeded", 0) > new.get("workers", {}).get("succeeded", 0):
        found.append("a worker that was done was forgotten")
    return found


class Witness:
    """Records by the uid of the job, while `watching`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._records: defaultdict[str, Record] = defaultdict(Record)

    def __getitem__(self, uid: str) -> Record:
        return self._records[uid]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Sees while the context lasts."""
        reflectors = [self._reflector(PODS, Record.see_pod), self._reflector(SCALEJOBS, Record.see_job)]
        tasks = [asyncio.create_task(reflector.run()) for reflector in reflectors]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _reflector(
        self, resource: Resource, see: Callable[[Record, Object | None, Object | None], None]
    ) -> Reflector[Object]:
        def on_change(before: Entry[Object] | None, after: Entry[Object] | None) -> None:
            entry = after or before
            assert entry
            see(self[entry.owner_uid], before.value if before else None, after.value if after else None)

        return Reflector(self._client, Selection(resource=resource), Store(on_change), _entry)


def _entry(body: Object) -> Entry[Object]:
    """A job counts as its own."""
    metadata = body["metadata"]
    owner = controller_of(body) or metadata
    return Entry(uid=metadata["uid"], namespace=metadata["namespace"], owner_uid=owner["uid"], owner_key="", value=body)


def _attempt(pod: Object) -> str:
    found: str = pod["metadata"]["labels"][LABEL_ATTEMPT]
    return found


def _is_live(pod: Object) -> bool:
    return pod["status"].get("phase") not in _ENDED and "deletionTimestamp" not in pod["metadata"]
