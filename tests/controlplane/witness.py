"""Sees every Pod and every status of a namespace, and remembers what must never be."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from scalejob.contract import LABEL_ATTEMPT, Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import PODS, Client, Object, Resource, Selection
from scalejob.kube.reflector import Reflector
from scalejob.kube.store import Entry, Store

_ENDED = ("Succeeded", "Failed")


class Record:
    """What was seen in one namespace, which has one job. `violations` are sentences."""

    def __init__(self) -> None:
        self.pods: dict[str, Object] = {}  # by name
        self.job: Object | None = None
        self.made: defaultdict[str, set[str]] = defaultdict(set)  # uids that a name of a Pod has had
        self.violations: list[str] = []

    @property
    def status(self) -> Object:
        """Empty if there is no job."""
        found: Object = (self.job or {}).get("status", {})
        return found

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
        if before and after:
            self._check_progress(before.get("status", {}), after.get("status", {}))
        self.job = after

    def _check_new(self, name: str, pod: Object) -> None:
        self.made[name].add(pod["metadata"]["uid"])
        if len(self.made[name]) > 1:
            self.violations.append(f"Pod {name} was made twice")
        for other, body in self.pods.items():
            if _attempt(body) != _attempt(pod) and _is_live(body):
                self.violations.append(f"Pod {name} was made while {other} was live")

    def _check_progress(self, old: Object, new: Object) -> None:
        if old.get("phase") in (Phase.SUCCEEDED, Phase.FAILED) and new != old:
            self.violations.append(f"the status changed after the end: {old} became {new}")
        for name, before, after in (
            ("attempt", old.get("attempt", 0), new.get("attempt", 0)),
            ("restarts.total", *(status.get("restarts", {}).get("total", 0) for status in (old, new))),
        ):
            if not before <= after <= before + 1:
                self.violations.append(f"{name} went from {before} to {after}")


class Witness:
    """Records of all namespaces, while `watching`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._records: defaultdict[str, Record] = defaultdict(Record)

    def __getitem__(self, namespace: str) -> Record:
        return self._records[namespace]

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
            see(self[entry.namespace], before.value if before else None, after.value if after else None)

        return Reflector(self._client, Selection(resource=resource), Store(on_change), _entry)


def _entry(body: Object) -> Entry[Object]:
    metadata = body["metadata"]
    return Entry(uid=metadata["uid"], namespace=metadata["namespace"], owner_uid="", owner_key="", value=body)


def _attempt(pod: Object) -> str:
    found: str = pod["metadata"]["labels"][LABEL_ATTEMPT]
    return found


def _is_live(pod: Object) -> bool:
    return pod["status"].get("phase") not in _ENDED and "deletionTimestamp" not in pod["metadata"]
