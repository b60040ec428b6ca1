"""How Service and Pods are made, and what the API server may have against it."""

import asyncio

import pytest
from aiohttp import web

from scalejob.contract import Reason
from scalejob.engine import executor
from scalejob.engine.workers import slow_start
from tests.unit.engine.cluster import KEY, Operator, job_body, status_of
from tests.unit.engine.memory_server import MemoryServer, Object, refusal


async def started(server: MemoryServer, steps: int = 3, **spec: object) -> Operator:
    """An operator that has looked at a new job a few times; the server goes on only inside `serving`."""
    server.put("scalejobs", job_body(**spec))
    async with server.serving() as client:
        operator = Operator(server, client)
        for _ in range(steps):
            await operator.step()
    return operator


def names(server: MemoryServer, plural: str = "pods") -> list[str]:
    return sorted(body["metadata"]["name"] for body in server.of(plural))


def test_slow_start_doubles():
    """1, 2, 4, ... up to 32 at once."""
    assert [len(batch) for batch in slow_start(range(100))] == [1, 2, 4, 8, 16, 32, 32, 5]


async def test_the_service_comes_first():
    """The status is stored, then the Service, then the Pods."""
    server = MemoryServer()
    await started(server, workers=2)
    assert server.writes[:4] == [("PATCH", "scalejobs"), ("POST", "services"), ("POST", "pods"), ("POST", "pods")]
    assert names(server) == ["job-0-0", "job-0-1"]


async def test_quota_undoes_the_gang():
    """A quota that holds for the second Pod only leaves none behind."""

    def admit(plural: str, body: Object) -> web.Response | None:
        is_full = plural == "pods" and len(server.of("pods")) >= 1
        return refusal(403, "Forbidden", "exceeded quota: q") if is_full else None

    server = MemoryServer()
    server.admit = admit
    await started(server, workers=3)
    assert names(server) == []
    assert status_of(server)["reason"] == Reason.QUOTA_EXCEEDED


async def test_a_refusal_is_put_to_the_test_again():
    """By itself after a while, not before."""
    server = MemoryServer()
    server.put("scalejobs", job_body())
    server.admit = lambda plural, _: refusal(403, "Forbidden", "exceeded quota: q") if plural == "pods" else None
    async with server.serving() as client:
        operator = Operator(server, client)
        for _ in range(3):
            await operator.step()
        server.admit = lambda plural, _: None
        await operator.step()
        assert names(server) == []
        while not names(server):
            key = await asyncio.wait_for(operator.queue.get(), timeout=2)
            await operator.step()
            operator.queue.done(key)
    assert names(server) == ["job-0-0"]


async def test_the_same_refusal_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture):
    """Though each try meets it with another Pod, and another process makes it."""
    server = MemoryServer()
    server.put("scalejobs", job_body(workers=2))
    rooms = [1, 0, 1]

    def admit(plural: str, body: Object) -> web.Response | None:
        name, used = body["metadata"]["name"], len(server.of("pods"))
        words = f'pods "{name}" is forbidden: exceeded quota: q, requested: pods=1, used: pods={used}, limited: pods=1'
        return refusal(403, "Forbidden", words) if plural == "pods" and used >= rooms[0] else None

    server.admit = admit
    told = set()
    while rooms:
        async with server.serving() as client:
            operator = Operator(server, client)
            for _ in range(3):
                await operator.step()
        told.add(status_of(server)["message"])
        rooms.pop(0)
    assert (len(told), server.writes.count(("POST", "pods"))) == (1, 5)
    assert [record.levelname for record in caplog.records if record.message == "workers refused"] == ["WARNING"]


async def test_quota_undoes_what_a_former_process_made():
    """A gang that was begun before a restart and cannot be completed is undone as a whole, and is no loss of a Pod."""
    server = MemoryServer()
    await started(server, steps=1, workers=3)
    del server.objects["pods", "job-0-2"]
    server.admit = lambda plural, _: refusal(403, "Forbidden", "exceeded quota: q") if plural == "pods" else None
    async with server.serving() as client:
        operator = Operator(server, client)
        for _ in range(3):
            await operator.step()
    assert names(server) == []
    assert (status_of(server)["reason"], status_of(server)["attempt"]) == (Reason.QUOTA_EXCEEDED, 0)


async def test_thousands_are_made_in_passes(monkeypatch: pytest.MonkeyPatch):
    """A large job does not keep a worker until all its Pods are made."""
    monkeypatch.setattr(executor, "MAX_PER_PASS", 2)
    server = MemoryServer()
    await started(server, steps=1, workers=5)
    assert names(server) == ["job-0-0", "job-0-1"]
    async with server.serving() as client:
        operator = Operator(server, client)
        for _ in range(2):
            await operator.step()
    assert len(names(server)) == 5


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (403, 'pods "job-0-0" is forbidden: violates PodSecurity "restricted:latest"'),
        (403, 'pods is forbidden: User "operator" cannot create resource "pods" in API group ""'),
        (500, 'Internal error occurred: failed calling webhook "w.x": connection refused'),
    ],
)
async def test_a_refusal_is_found_by_the_first_pod(code: int, message: str):
    """Not even one Pod is made if the first is refused, and the status says why."""
    server = MemoryServer()
    server.admit = lambda plural, _: refusal(code, "Any", message) if plural == "pods" else None
    await started(server, workers=3)
    assert server.created == ["job"]
    assert server.writes.count(("POST", "pods")) == 1
    assert (status_of(server)["reason"], status_of(server)["message"]) == (Reason.POLICY_DENIED, message)


OTHERS = (
    ("services", "job", {}, "Service n/job exists and belongs to nobody"),
    (
        "pods",
        "job-0-0",
        {
            "ownerReferences": [{"uid": "u", "kind": "Job", "name": "job", "controller": True}],
            "deletionTimestamp": "x",
        },
        "Pod n/job-0-0 exists and belongs to another Job job; it is being deleted",
    ),
)


@pytest.mark.parametrize(("plural", "name", "metadata", "want"), OTHERS)
async def test_a_foreign_object_is_named(plural: str, name: str, metadata: Object, want: str):
    """The message says what stands in the way, whose it is, and whether it is about to go; it is left as it is."""
    server = MemoryServer()
    foreign = server.put(plural, {"metadata": {"name": name, "namespace": "n"} | metadata})
    await started(server)
    assert (status_of(server)["reason"], status_of(server)["message"]) == (Reason.NAME_CONFLICT, want)
    assert server.objects[plural, name] == foreign


@pytest.mark.parametrize("left", ["job-0-0", "job-0-2"])
async def test_nothing_is_made_beside_what_a_namesake_has_left(left: str):
    """A job that was made anew waits until every name is free, and then makes each Pod once; Pods of other names are in nobody's way."""
    owner = {"uid": "old", "kind": "ScaleJob", "name": "job", "controller": True}
    server = MemoryServer()
    for name in (left, "job-1-0", "job-0-3"):
        server.put("pods", {"metadata": {"name": name, "namespace": "n", "ownerReferences": [owner]}})
    await started(server, workers=3)
    assert (server.created, status_of(server)["reason"]) == ([], Reason.NAME_CONFLICT)
    del server.objects["pods", left]
    async with server.serving() as client:
        await Operator(server, client).step()
    assert server.created == ["job", "job-0-0", "job-0-1", "job-0-2"]


async def test_a_pod_of_ours_is_adopted():
    """A Pod that a former process made counts as made, seen or not."""
    server = MemoryServer()
    await started(server, workers=2)
    async with server.serving() as client:
        fresh = Operator(server, client)
        fresh.jobs.put(server.objects["scalejobs", "job"])
        job = fresh.jobs.get(KEY)
        assert await fresh.workers.create(job, [0, 1]) is None
    assert names(server) == ["job-0-0", "job-0-1"]


async def test_a_namesake_is_not_deleted_unseen():
    """The uid is a precondition: a Pod that was replaced in the meantime is looked at again before it goes."""
    server = MemoryServer()
    await started(server)
    async with server.serving() as client:
        operator = Operator(server, client)
        job, pod = server.objects["scalejobs", "job"], server.objects["pods", "job-0-0"]
        server.put("scalejobs", job | {"spec": job["spec"] | {"suspend": True}})
        operator.see()
        server.put("pods", pod | {"metadata": pod["metadata"] | {"uid": "other"}})
        await operator.reconciler.reconcile(KEY)
        assert (names(server), operator.queue._failures) == (["job-0-0"], {KEY: 1})
        await operator.step()
    assert names(server) == []


async def test_a_stale_view_does_nothing():
    """The job has changed since it was seen: its status is not overwritten, and nothing is made of what was decided."""
    server = MemoryServer()
    server.put("scalejobs", job_body())
    async with server.serving() as client:
        operator = Operator(server, client)
        operator.see()
        changed = server.put("scalejobs", job_body(suspend=True))
        await operator.reconciler.reconcile(KEY)
        assert server.objects["scalejobs", "job"] == changed
        assert server.created == []
        await operator.step()
    assert status_of(server)["phase"] == "Suspended"


async def test_invalid_pods_end_the_job():
    """What the API server calls invalid will not become valid by trying again."""
    server = MemoryServer()
    server.admit = lambda plural, _: refusal(422, "Invalid", "spec.x is wrong") if plural == "pods" else None
    await started(server)
    assert (status_of(server)["phase"], status_of(server)["reason"]) == ("Failed", Reason.INVALID_SPEC)


@pytest.mark.parametrize(
    "change", [{"uid": "another"}, {"deletionTimestamp": "2026-01-02T03:04:06Z"}, {"generation": 2}]
)
async def test_no_pod_for_a_ghost(change: Object):
    """The cache says the job is there; the API server says that it is another, going, or has changed: no Pod is made."""
    server = MemoryServer()
    await started(server, steps=1, workers=2)
    for name in names(server):
        del server.objects["pods", name]
    async with server.serving() as client:
        operator = Operator(server, client)
        operator.see()
        body = server.objects["scalejobs", "job"]
        server.put("scalejobs", body | {"metadata": body["metadata"] | change})
        await operator.reconciler.reconcile(KEY)
    assert names(server) == []


async def test_conflicts_in_a_row_wait_longer_each_time():
    """A status that cannot be written is not tried over and over again at once; a success starts anew."""
    server = MemoryServer()
    seen = server.put("scalejobs", job_body())
    async with server.serving() as client:
        operator = Operator(server, client)
        operator.see()
        server.objects["scalejobs", "job"] = seen | {"metadata": seen["metadata"] | {"resourceVersion": "1"}}
        for _ in range(9):
            await operator.reconciler.reconcile(KEY)
        assert operator.queue._failures[KEY] == 9
        server.objects["scalejobs", "job"] = seen
        await operator.reconciler.reconcile(KEY)
    assert KEY not in operator.queue._failures
