"""Nodes and kubelets that exist only as objects: Pods go through the phases that a kubelet would report."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from scalejob.contract import WORKER_CONTAINER, LastWord
from scalejob.kube.client import PODS, Object, Resource, Selection
from scalejob.kube.errors import ApiError, Conflict, NotFound
from scalejob.kube.reflector import Reflector
from scalejob.kube.store import Entry, Store
from tests.controlplane.api import Api

NODES = Resource("v1", "nodes")

# A Pod with this image never starts, as if the registry did not have it.
MISSING_IMAGE = "registry.example/missing:1"
_NOT_PULLED = f'Back-off pulling image "{MISSING_IMAGE}"'


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class FakeKubelet:
    """Runs every Pod that is bound to a node, at once, until a test says how it ends.

    Each Pod gets an address of its own in 127.0.0.0/8, so that a test can serve something there.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._addresses = itertools.count(2)
        self._store: Store[Object] = Store(self._on_change)
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: dict[tuple[str, str], Object] = {}
        self._silent: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Acts on Pods while the context lasts."""
        reflector = Reflector(self._api.client, Selection(resource=PODS), self._store, _trim)
        task = asyncio.create_task(reflector.run())
        try:
            await reflector.synced.wait()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, *self._tasks, return_exceptions=True)

    async def succeed(self, namespace: str, name: str, word: LastWord | None = None) -> None:
        """The worker ends with 0 and leaves its last word."""
        await self.end(namespace, name, 0, message=word.to_json() if word else "")

    async def end(self, namespace: str, name: str, code: int, *, message: str = "", reason: str = "") -> None:
        """The worker ends with an exit code."""
        state = {"exitCode": code, "reason": reason or ("Completed" if code == 0 else "Error"), "message": message}
        state |= {"startedAt": now(), "finishedAt": now()}
        status: Object = {"phase": "Succeeded" if code == 0 else "Failed"} | _container({"terminated": state})
        await self.report(namespace, name, status)

    async def evict(self, namespace: str, name: str) -> None:
        """The node is short of memory."""
        target = condition("DisruptionTarget", "True", reason="TerminationByKubelet")
        status = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
        await self.report(namespace, name, status | {"conditions": [target]})

    def will_start(self, namespace: str, name: str, status: Object) -> None:
        """What is told of a Pod that is yet to come, instead of that it runs."""
        self._starts[namespace, name] = status

    def silence(self, node: str) -> None:
        """From now on nothing is told of its Pods, and none of them goes."""
        self._silent.add(node)

    async def report(self, namespace: str, name: str, status: Object) -> None:
        """Tell something else of a Pod; lists in `status` replace those that were told before."""
        await self._api.client.merge_patch(PODS, namespace, name, {"status": status}, subresource="status")

    def _on_change(self, _before: Entry[Object] | None, after: Entry[Object] | None) -> None:
        """A kubelet acts on a Pod that is bound and has not started, and on one that is to go."""
        if after is None:
            return
        pod = after.value
        if pod["spec"].get("nodeName") in self._silent:
            return
        if "deletionTimestamp" in pod["metadata"]:
            self._spawn(self._remove(pod))
        elif pod["spec"].get("nodeName") and not pod["status"].get("containerStatuses"):
            self._spawn(self._start(pod))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, pod: Object) -> None:
        number = next(self._addresses)
        address = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        is_missing = pod["spec"]["containers"][0]["image"] == MISSING_IMAGE
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        status = self._starts.get(key) or (waiting("ImagePullBackOff", _NOT_PULLED) if is_missing else running())
        with contextlib.suppress(NotFound, Conflict):
            await self.report(*key, status | {"podIP": address, "startTime": now()})

    async def _remove(self, pod: Object) -> None:
        """Each event of a Pod that is to go brings one here; the last ones come when it has gone, and a namesake may be there."""
        metadata = pod["metadata"]
        with contextlib.suppress(ApiError):
            await self._api.delete_now(PODS, metadata["namespace"], metadata["name"], uid=metadata["uid"])


def _trim(pod: Object) -> Entry[Object]:
    metadata = pod["metadata"]
    return Entry(uid=metadata["uid"], namespace=metadata["namespace"], owner_uid="", owner_key="", value=pod)


def running() -> Object:
    """Of a Pod whose worker runs."""
    conditions = [condition("Ready", "True"), condition("PodScheduled", "True")]
    return {"phase": "Running", "conditions": conditions} | _container({"running": {"startedAt": now()}}, is_ready=True)


def waiting(reason: str, message: str = "") -> Object:
    """Of a Pod whose worker waits on its node."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "conditions": [condition("PodScheduled", "True")]} | _container(state)


def _container(state: Object, *, is_ready: bool = False) -> Object:
    return {"containerStatuses": [container(WORKER_CONTAINER, state, ready=is_ready)]}


def container(name: str, state: Object, **fields: Any) -> Object:
    """One entry of a Pod's `containerStatuses` or `initContainerStatuses`."""
    return {"name": name, "state": state, "ready": False, "restartCount": 0, "image": "", "imageID": ""} | fields


def condition(kind: str, status: str, *, reason: str = "", message: str = "") -> Object:
    """One entry of `conditions` of a Pod or a node."""
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}


async def add_node(api: Api, name: str, **resources: str) -> None:
    """A node that is ready and offers what is said, besides much CPU and memory. Labels: test/node=NAME."""
    capacity = {"cpu": "10000", "memory": "10000Gi", "pods": "10000"} | {
        key.replace("__", "/").replace("_", "."): value for key, value in resources.items()
    }
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"test/node": name}}}
    await api.client.create(NODES, None, node)
    status = {"capacity": capacity, "allocatable": capacity, "conditions": [condition("Ready", "True")]}
    await api.client.merge_patch(NODES, None, name, {"status": status}, subresource="status")
