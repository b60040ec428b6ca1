"""The operator dies at each of its writes in turn, before or after it is stored. It always ends where an undisturbed one does."""

import pytest

from scalejob.kube.errors import ApiError
from tests.unit.engine.cluster import Operator, job_body, set_pod, status_of
from tests.unit.engine.memory_server import MemoryServer, Object

WORKERS = 3


def act(server: MemoryServer) -> None:
    """The kubelets: all workers start, one of the first attempt fails, those of the second succeed."""
    attempt = status_of(server).get("attempt", 0)
    names = [f"job-{attempt}-{index}" for index in range(WORKERS)]
    pods = {body["metadata"]["name"]: body.get("status", {}).get("phase") for body in server.of("pods")}
    if any(name not in pods for name in names):
        return
    for name in names:
        if pods[name] is None:
            set_pod(server, name, "Running")
        elif status_of(server)["phase"] == "Running" and pods[name] == "Running":
            _end(server, name, attempt)


def _end(server: MemoryServer, name: str, attempt: int) -> None:
    if attempt == 1:
        set_pod(server, name, "Succeeded", 0)
    elif name.endswith("-1"):
        set_pod(server, name, "Failed", 1)


async def run(break_at: tuple[int, str] | None) -> MemoryServer:
    """The whole life of a job with a crash at one write; the server as it is then."""
    server = MemoryServer()
    server.break_at = break_at
    server.put("scalejobs", job_body(workers=WORKERS, keepPods="All"))
    async with server.serving() as client:
        operator = Operator(server, client)
        quiet = 0
        while quiet < 2:
            act(server)
            before = len(server.writes)
            try:
                await operator.step()
            except ApiError:
                operator = Operator(server, client)
            quiet = quiet + 1 if len(server.writes) == before else 0
    return server


def end_state(server: MemoryServer) -> Object:
    """What must be the same whatever happened on the way."""
    status = status_of(server)
    return {
        "phase": status["phase"],
        "reason": status["reason"],
        "attempt": status["attempt"],
        "restarts": status["restarts"],
        "failed": status["lastFailure"]["index"],
        "pods": sorted(body["metadata"]["name"] for body in server.of("pods")),
        "created": sorted(server.created),
    }


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_write_changes_nothing(when: str):
    """No Pod twice, none lost, no failure counted twice."""
    undisturbed = await run(None)
    want = end_state(undisturbed)
    assert (want["phase"], want["attempt"], want["restarts"]["total"]) == ("Succeeded", 1, 1)
    for number in range(len(undisturbed.writes)):
        assert end_state(await run((number, when))) == want, f"write {number}: {undisturbed.writes[number]}"


async def test_nothing_is_written_in_the_end():
    """A job that stays as it is costs no write, also for an operator that was just started."""
    server = await run(None)
    before = len(server.writes)
    async with server.serving() as client:
        operator = Operator(server, client)
        for _ in range(3):
            await operator.step()
    assert len(server.writes) == before
