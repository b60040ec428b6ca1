"""What tests ask of the API server, as admin."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from scalejob.contract import LABEL_JOB, Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import EVENTS, PODS, Client, Object, Resource, Selection
from scalejob.kube.errors import NotFound, error_of

NAMESPACES = Resource("v1", "namespaces")
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts")
WAIT_SECONDS = 20.0


def make_job(name: str = "job", **spec: Any) -> Object:
    """A ScaleJob that runs any program; `spec` replaces parts of it."""
    base = {"workload": {"command": {"argv": ["train"]}}, "restarts": {"backoffSeconds": 0}}
    return {
        "apiVersion": "scalejob.io/v1alpha1",
        "kind": "ScaleJob",
        "metadata": {"name": name},
        "spec": base | spec,
    }


class Api:
    """The client of the tests."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def raw(self, method: str, path: str, *, body: Object | None = None, **params: str) -> bytes:
        """One request in full freedom. Raises ApiError."""
        url = self.client.server + path
        async with self.client.session.request(method, url, json=body, params=params) as response:
            content = await response.read()
            if response.status >= 400:
                raise error_of(response.status, content, response.headers)
            return content

    async def delete_now(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> None:
        """What a kubelet does when the containers have ended. With `uid` a namesake is safe; without, any object of that name goes."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        await self.raw("DELETE", resource.path(namespace, name), body=body)

    async def new_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """A namespace in which Pods can be created at once."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}
        await self.client.create(NAMESPACES, None, body)
        await self.until(lambda: self._has_account(name))

    async def _has_account(self, namespace: str) -> bool:
        try:
            await self.client.get(SERVICE_ACCOUNTS, namespace, "default")
        except NotFound:
            return False
        return True

    async def until(self, probe: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """What `probe` returns as soon as that is true."""
        deadline = time.monotonic() + seconds
        while not (found := await probe()):
            assert time.monotonic() < deadline, f"not within {seconds} s"
            await asyncio.sleep(0.05)
        return found


class Jobs:
    """The ScaleJobs and Pods of one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    async def create(self, name: str = "job", **spec: Any) -> Object:
        return await self.api.client.create(SCALEJOBS, self.namespace, make_job(name, **spec))

    async def patch(self, name: str = "job", **spec: Any) -> Object:
        return await self.api.client.merge_patch(SCALEJOBS, self.namespace, name, {"spec": spec})

    async def get(self, name: str = "job") -> Object:
        return await self.api.client.get(SCALEJOBS, self.namespace, name)

    async def is_gone(self, name: str = "job") -> bool:
        try:
            await self.get(name)
        except NotFound:
            return True
        return False

    async def delete(self, name: str = "job") -> None:
        uid = (await self.get(name))["metadata"]["uid"]
        await self.api.client.delete(SCALEJOBS, self.namespace, name, uid=uid)

    async def status(self, name: str = "job") -> Object:
        found: Object = (await self.get(name)).get("status", {})
        return found

    async def reaches(self, phase: Phase, name: str = "job", *, attempt: int | None = None, **fields: Any) -> Object:
        """The status once it has this phase, attempt and these other fields."""
        wanted = {"phase": phase.value, **({} if attempt is None else {"attempt": attempt}), **fields}
        last: Object = {}

        async def probe() -> Object | None:
            nonlocal last
            last = await self.status(name)
            return last if all(last.get(k) == v for k, v in wanted.items()) else None

        try:
            return await self.api.until(probe)
        except AssertionError:
            raise AssertionError(f"wanted {wanted}, the status is {last}") from None

    async def pods(self, name: str = "job") -> dict[str, Object]:
        """Pods of a job by name, those that are being deleted included."""
        selection = Selection(resource=PODS, namespace=self.namespace, label_selector=f"{LABEL_JOB}={name}")
        page = await self.api.client.list_page(selection)
        return {pod["metadata"]["name"]: pod for pod in page.items}

    async def has_pods(self, *names: str, job: str = "job") -> dict[str, Object]:
        """The Pods once they are exactly these."""

        async def probe() -> dict[str, Object] | bool:
            found = await self.pods(job)
            return (found or True) if set(found) == set(names) else False

        found: dict[str, Object] = await self.api.until(probe)
        return found

    async def delete_pod(self, name: str) -> None:
        await self.api.raw("DELETE", PODS.path(self.namespace, name))

    async def hold_pod(self, name: str, *finalizers: str) -> None:
        """It does not go as long as it has some."""
        await self.api.client.merge_patch(PODS, self.namespace, name, {"metadata": {"finalizers": finalizers}})

    async def events(self) -> list[Object]:
        page = await self.api.client.list_page(Selection(resource=EVENTS, namespace=self.namespace))
        return [event for event in page.items if event["involvedObject"]["kind"] == "ScaleJob"]


def condition(status: Object, kind: str) -> Object:
    """One condition of a status."""
    return next((c for c in status.get("conditions", ()) if c["type"] == kind), {})
