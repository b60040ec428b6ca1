"""Makes the Service and the Pods of an attempt, or says why the API server will not have them. Nothing stays half made."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scalejob.contract import Reason
from scalejob.kube.client import PODS, SERVICES, Client, Object, Resource
from scalejob.kube.errors import (
    AlreadyExists,
    ApiError,
    Forbidden,
    Invalid,
    NotFound,
    PolicyDenied,
    QuotaExceeded,
)
from scalejob.plan.model import Job, PodRef, Refusal, Unreadable
from scalejob.plan.observe import controller_of
from scalejob.plan.pods import PodDefaults, build_pod, build_service

from .expectations import Expectations
from .jobs import key_of

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 32
# Of one job in one reconcile, so that a job of thousands does not keep a worker for minutes. The next pass does the next ones.
MAX_PER_PASS = 1000

# What the API server may hold against the objects, or against our making them. Trying again changes nothing until somebody
# changes something.
_REFUSALS: dict[type[ApiError], Reason] = {
    QuotaExceeded: Reason.QUOTA_EXCEEDED,
    PolicyDenied: Reason.POLICY_DENIED,
    Forbidden: Reason.POLICY_DENIED,
    Invalid: Reason.INVALID_SPEC,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An object of ours that now exists. `is_new` is False for one that had existed before."""

    body: Object
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why the gang is not complete. `undone` are uids of its Pods that had been made and are deleted again."""

    refusal: Refusal
    undone: frozenset[str] = frozenset()


class Workers:
    """Creates and deletes the children of jobs."""

    def __init__(
        self,
        client: Client,
        expectations: Expectations,
        defaults: PodDefaults,
        on_created: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_created` is called for each Pod that was made, whatever becomes of the others."""
        self._on_created = on_created
        self._client = client
        self._expectations = expectations
        self._defaults = defaults
        self._served: dict[str, tuple[str, int]] = {}  # key -> uid and attempt whose Service was seen

    async def create(self, job: Job, indices: Sequence[int], earlier: Sequence[PodRef] = ()) -> Refused | None:
        """The Service, then the Pods `indices` of the present attempt.

        A refusal undoes them and the `earlier` Pods of the attempt: a part of a gang would hold nodes and do nothing.
        """
        new: list[PodRef] = []
        refusal = await self._ensure_service(job) or await self._create_all(job, indices, new)
        if refusal is None:
            return None
        undone = [*earlier, *new]
        await self.delete(job, undone)
        return Refused(refusal=refusal, undone=frozenset(pod.uid for pod in undone))

    async def delete(self, job: Job | Unreadable, pods: Sequence[PodRef]) -> None:
        """Delete these very Pods; those that are gone already are no error. Raises Conflict if a namesake has taken the place of one.

        A refusal may have another cause too, and then the Pod is still there: only another look tells.
        """
        for batch in _chunks(pods):
            _raise_first(await asyncio.gather(*(self._delete(job, p) for p in batch), return_exceptions=True))

    def forget(self, key: str) -> None:
        """The job is gone."""
        self._served.pop(key, None)

    async def _ensure_service(self, job: Job) -> Refusal | None:
        """Once per attempt: DNS names of the Pods must resolve when they start."""
        key, known = key_of(job.namespace, job.name), (job.uid, job.status.attempt)
        if self._served.get(key) == known:
            return None
        made = await self._make(SERVICES, job, build_service(job))
        if isinstance(made, Refusal):
            return made
        self._served[key] = known
        return None

    async def _create_all(self, job: Job, indices: Sequence[int], new: list[PodRef]) -> Refusal | None:
        """Slow start, so that an API server in trouble gets one request, not hundreds (kubernetes/kubernetes#49142).

        The first batch is one Pod: most refusals concern all Pods alike, and then not even one is made. What is made is added to
        `new`, also if an error ends it.
        """
        for batch in slow_start(indices):
            results = await asyncio.gather(*(self._create(job, i) for i in batch), return_exceptions=True)
            new += [_ref(r.body) for r in results if isinstance(r, Made) and r.is_new]
            _raise_first(results)
            if refusal := next((r for r in results if isinstance(r, Refusal)), None):
                return refusal
        return None

    async def _create(self, job: Job, index: int) -> Made | Refusal:
        key, pod = key_of(job.namespace, job.name), self._pod(job, index)
        name = pod["metadata"]["name"]
        self._expectations.expect(key, name)
        try:
            made = await self._make(PODS, job, pod)
        except ApiError:
            self._expectations.fulfil(key, name)
            raise
        if isinstance(made, Refusal) or not made.is_new:
            self._expectations.fulfil(key, name)
        else:
            self._on_created()
        return made

    async def _delete(self, job: Job | Unreadable, pod: PodRef) -> None:
        key = key_of(job.namespace, job.name)
        self._expectations.expect(key, pod.uid)
        try:
            await self._client.delete(PODS, job.namespace, pod.name, uid=pod.uid)
        except NotFound:
            self._expectations.fulfil(key, pod.uid)
        except ApiError:
            self._expectations.fulfil(key, pod.uid)
            raise

    async def _make(self, resource: Resource, job: Job, body: Object) -> Made | Refusal:
        """Create one object; one of the same name and owner is as good: it was made before a crash or a lost answer."""
        try:
            return Made(body=await self._client.create(resource, job.namespace, body), is_new=True)
        except AlreadyExists:
            return await self._adopt(resource, job, body)
        except tuple(_REFUSALS) as error:
            return Refusal(reason=_REFUSALS[type(error)], message=error.message)

    async def _adopt(self, resource: Resource, job: Job, body: Object) -> Made | Refusal:
        name = body["metadata"]["name"]
        found = await self._client.get(resource, job.namespace, name)
        owner = controller_of(found)
        if owner and owner["uid"] == job.uid:
            return Made(body=found, is_new=False)
        whose = f"another {owner['kind']} {owner['name']}" if owner else "nobody"
        whose = f"{body['kind']} {job.namespace}/{name} exists and belongs to {whose}"
        return Refusal(reason=Reason.NAME_CONFLICT, message=whose + _hope(found))

    def _pod(self, job: Job, index: int) -> dict[str, Any]:
        return build_pod(job, job.status.attempt, index, self._defaults)


def slow_start(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    """Batches of 1, 2, 4, ..., MAX_IN_FLIGHT, MAX_IN_FLIGHT, ..."""
    start, size = 0, 1
    while start < len(indices):
        yield indices[start : start + size]
        start, size = start + size, min(2 * size, MAX_IN_FLIGHT)


def _hope(body: Object) -> str:
    """A job that is made anew meets what its predecessor of the same name has left, for a while."""
    return "; it is being deleted" if "deletionTimestamp" in body["metadata"] else ""


def _ref(body: Object) -> PodRef:
    return PodRef(name=body["metadata"]["name"], uid=body["metadata"]["uid"])


def _chunks(pods: Sequence[PodRef]) -> Iterator[Sequence[PodRef]]:
    return (pods[i : i + MAX_IN_FLIGHT] for i in range(0, len(pods), MAX_IN_FLIGHT))


def _raise_first(results: Sequence[object]) -> None:
    """All requests of a batch have ended; if some failed, one of their errors stands for them."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
