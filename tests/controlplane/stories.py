"""What happens to the workers of one job, and what was seen of it: the words of which the failure table is made."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from scalejob.contract import LABEL_JOB, LastWord, Phase
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import PODS, Client, Object, Selection
from scalejob.kube.reflector import Reflector
from scalejob.kube.store import Entry, Store
from tests.controlplane.api import Api, Jobs
from tests.controlplane.fake_nodes import NODES, FakeKubelet, condition, container, now, running

PATIENCE_SECONDS = 60.0  # all stories of the table are played at once, on two cores
_LOOK_SECONDS = 0.05


class Seen:
    """All that there was of a job and its Pods in one namespace."""

    def __init__(self) -> None:
        self.told: list[Object] = [{}]  # every status
        self.pods: dict[str, Object] = {}  # that exist
        self.made: Counter[str] = Counter()  # how often there was a Pod of that name

    @property
    def status(self) -> Object:
        return self.told[-1]

    def see(self, before: Object | None, after: Object | None) -> None:
        body = after or before
        assert body
        name = body["metadata"]["name"]
        if "workload" in body["spec"]:
            self.told.append((after or {}).get("status", {}))
        elif LABEL_JOB in body["metadata"].get("labels", {}):
            self.made[name] += before is None
            self.pods.pop(name, None)
            self.pods |= {name: after} if after else {}


@asynccontextmanager
async def watching(client: Client) -> AsyncIterator[dict[str, Seen]]:
    """By namespace: what has been put into the dictionary is filled while the context lasts."""
    seen: dict[str, Seen] = {}

    def on_change(before: Entry[Object] | None, after: Entry[Object] | None) -> None:
        namespace = (after or before).namespace  # type: ignore[union-attr]  # one of them is there
        if namespace in seen:
            seen[namespace].see(before and before.value, after and after.value)

    reflectors = [Reflector(client, Selection(resource=r), Store(on_change), _entry) for r in (PODS, SCALEJOBS)]
    tasks = [asyncio.create_task(reflector.run()) for reflector in reflectors]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _entry(body: Object) -> Entry[Object]:
    metadata = body["metadata"]
    return Entry(uid=metadata["uid"], namespace=metadata["namespace"], owner_uid="", owner_key="", value=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a story is played: the job is `job`, in a namespace of its own."""

    jobs: Jobs
    kubelet: FakeKubelet
    seen: Seen

    @property
    def api(self) -> Api:
        return self.jobs.api

    async def until(self, what: str, holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Raises AssertionError with `what` and all that was told if it does not come to hold."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come in {seconds:.0f} s; told was: {self.lines()}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def reaches(self, phase: Phase, attempt: int = 0, reason: str | None = None) -> None:
        """An end that was not asked for is an error at once."""
        wanted = (phase.value, attempt, reason)

        def found() -> tuple[Any, ...]:
            status = self.seen.status
            return status.get("phase"), status.get("attempt"), status.get("reason") if reason else None

        await self.until(f"{wanted}", lambda: found() == wanted or found()[0] in ("Failed", "Succeeded"))
        assert found() == wanted, self.lines()

    def lines(self) -> list[str]:
        """`PHASE REASON: MESSAGE` of every status that differs from the one before."""
        texts = [f"{s.get('phase')} {s.get('reason')}: {s.get('message')}" for s in self.seen.told if s]
        return [text for text, before in zip(texts, ["", *texts], strict=False) if text != before]


Act = Callable[[Stage], Awaitable[None]]


def each_attempt(*acts: Act) -> Act:
    """The first act when all workers of the first attempt run, the second when those of the next one do, and so on."""

    async def story(stage: Stage) -> None:
        for attempt, act in enumerate(acts):
            await stage.reaches(Phase.RUNNING, attempt)
            await act(stage)

    return story


def all_of(*acts: Act) -> Act:
    """One after another."""

    async def story(stage: Stage) -> None:
        for act in acts:
            await act(stage)

    return story


def worker(stage: Stage, index: int) -> tuple[str, str]:
    """Namespace and name of a Pod of the present attempt."""
    return stage.jobs.namespace, f"job-{stage.seen.status.get('attempt', 0)}-{index}"


def ends(code: int, words: str | LastWord = "", *, index: int = 1, reason: str = "") -> Act:
    """A worker ends with an exit code and leaves words in its termination message."""
    text = words.to_json() if isinstance(words, LastWord) else words

    async def act(stage: Stage) -> None:
        await stage.kubelet.end(*worker(stage, index), code, message=text, reason=reason)

    return act


def becomes(status: Object, *, index: int = 1) -> Act:
    """The kubelet tells something else of a Pod."""

    async def act(stage: Stage) -> None:
        await stage.kubelet.report(*worker(stage, index), status)

    return act


def starts_as(status: Object, *, index: int = 1, attempt: int = 0) -> Act:
    """To be done before there is a job: what the kubelet tells of a Pod that comes, in place of that it runs."""

    async def act(stage: Stage) -> None:
        stage.kubelet.will_start(stage.jobs.namespace, f"job-{attempt}-{index}", status)

    return act


def is_deleted(*, index: int = 1, **options: Any) -> Act:
    """`kubectl delete pod`, with the options of the request."""

    async def act(stage: Stage) -> None:
        await stage.api.raw("DELETE", PODS.path(*worker(stage, index)), body=options or None)

    return act


async def is_evicted_by_the_api(stage: Stage) -> None:
    """As `kubectl drain` does it."""
    namespace, name = worker(stage, 1)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    await stage.api.raw("POST", PODS.path(namespace, name) + "/eviction", body=eviction)


async def is_evicted_by_the_kubelet(stage: Stage) -> None:
    await stage.kubelet.evict(*worker(stage, 1))


async def loses_its_node(stage: Stage) -> None:
    """The node object goes, and the garbage collector of Pods does what it does then."""
    target = condition("DisruptionTarget", "True", reason="DeletionByPodGC", message="PodGC: node no longer exists")
    await stage.kubelet.report(*worker(stage, 1), {"phase": "Failed", "conditions": [target]})
    await is_deleted(gracePeriodSeconds=0)(stage)


def taints(node: str, *taints: Object) -> Act:
    async def act(stage: Stage) -> None:
        await stage.api.client.merge_patch(NODES, None, node, {"spec": {"taints": list(taints)}})

    return act


def falls_silent(node: str) -> Act:
    """Its Lease has not been renewed for long: what then is told of it and its Pods. The node controllers do the rest."""

    async def act(stage: Stage) -> None:
        stage.kubelet.silence(node)
        await stage.kubelet.report(*worker(stage, 0), {"conditions": [condition("Ready", "False")]})
        unknown = condition("Ready", "Unknown", reason="NodeStatusUnknown")
        await stage.api.client.merge_patch(
            NODES, None, node, {"status": {"conditions": [unknown]}}, subresource="status"
        )

    return act


def beside(name: str, state: Object, **fields: Any) -> Object:
    """The status of a running worker with another container beside it."""
    status = running()
    return status | {"containerStatuses": [container(name, state, **fields), *status["containerStatuses"]]}


def ended(code: int, reason: str = "Error") -> Object:
    """The state of a container."""
    return {"terminated": {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of the failure table: a job of two workers, what happens to it, and what must be told, made and left.

    `told` are `PHASE REASON: MESSAGE`, in this order, perhaps with others between them. `failure` is of `status.lastFailure`.
    """

    name: str
    story: Act
    told: tuple[str, ...] = ()
    phase: Phase = Phase.RUNNING
    attempt: int = 0
    failure: dict[str, Any] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)  # those that are not 0
    left: tuple[str, ...] | None = None  # names of Pods, if they are not those of the present attempt
    waits: float = 0  # seconds at least between the failure and the Pods of the next attempt
    before: Act | None = None  # done before the job is made
    spec: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)  # of the namespace
    is_made_once: bool = True  # each Pod; a gang that is refused is undone and made again

    async def play(self, stage: Stage) -> None:
        """Raises AssertionError."""
        if self.before:
            await self.before(stage)
        spec = self.spec | {"pod": {"nodeSelector": {"test/node": "cpu-node"}} | self.spec.get("pod", {})}
        await stage.jobs.create(**{"workers": 2} | spec)
        await self.story(stage)
        await stage.reaches(self.phase, self.attempt)
        await self._check(stage, spec.get("workers", 2))

    async def _check(self, stage: Stage, num_workers: int) -> None:
        await stage.until(f"one of the lines {self.told}", lambda: not untold(self.told, stage.lines()))
        status = stage.seen.status
        found = {key: status.get("lastFailure", {}).get(key) for key in self.failure}
        assert self.failure == found, stage.lines()
        counted = {key: n for key, n in status.get("restarts", {}).items() if n and key in ("failures", "disruptions")}
        assert self.restarts == counted, stage.lines()
        names = [[f"job-{k}-{index}" for index in range(num_workers)] for k in range(self.attempt + 1)]
        left = set(names[-1] if self.left is None else self.left)
        await stage.until(f"Pods {left}, not {set(stage.seen.pods)}", lambda: left == set(stage.seen.pods))
        if self.waits:
            times = status["lastFailure"]["time"], stage.seen.pods[names[-1][0]]["metadata"]["creationTimestamp"]
            failed, made = map(datetime.fromisoformat, times)
            assert (made - failed).total_seconds() >= self.waits
        if self.is_made_once:
            assert {name: 1 for group in names for name in group} == dict(stage.seen.made)


def untold(wanted: tuple[str, ...], lines: list[str]) -> str | None:
    """The first of the wanted lines that does not come in this order; None if all do. `*` stands for any text."""
    rest = iter(lines)
    for want in wanted:
        pattern = re.compile(".*".join(map(re.escape, want.split("*"))))
        if not any(pattern.fullmatch(line) for line in rest):
            return want
    return None
