"""Requests, and what becomes of answers that are no success."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from scalejob.kube import client as client_module
from scalejob.kube.client import PODS, Client, Resource, Selection
from scalejob.kube.config import ClusterConfig
from scalejob.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    PolicyDenied,
    QuotaExceeded,
    ServerError,
    Unauthorized,
    Unreachable,
)
from tests.unit.kube.api_server import Script, event, pod, serving, status

ERRORS = (
    (404, "NotFound", 'pods "x" not found', NotFound),
    (409, "AlreadyExists", 'pods "x" already exists', AlreadyExists),
    (409, "Conflict", "the object has been modified", Conflict),
    (410, "Expired", "too old resource version", Gone),
    (422, "Invalid", "Pod is invalid", Invalid),
    (401, "Unauthorized", "Unauthorized", Unauthorized),
    (403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q, requested: pods=1', QuotaExceeded),
    (403, "Forbidden", 'pods "x" is forbidden: violates PodSecurity "restricted:latest"', PolicyDenied),
    (403, "Forbidden", 'pods is forbidden: User "u" cannot create resource "pods" in API group ""', Forbidden),
    (400, "BadRequest", 'admission webhook "w.x" denied the request: no', PolicyDenied),
    (500, "InternalError", 'Internal error occurred: failed calling webhook "w.x": connection refused', PolicyDenied),
    (
        422,
        "Invalid",
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        PolicyDenied,
    ),
    (413, "RequestEntityTooLarge", "limit is 3145728", Invalid),
    (500, "InternalError", "etcd", ServerError),
    (503, "ServiceUnavailable", "", ServerError),
)


@pytest.mark.parametrize(("code", "reason", "message", "want"), ERRORS)
async def test_errors_are_told_apart(code: int, reason: str, message: str, want: type[ApiError]):
    """Each kind of failure becomes the error that says what to do about it, with the API server's text."""
    async with serving(Script(status(code, reason, message))) as client:
        with pytest.raises(ApiError) as error:
            await client.get(PODS, "n", "x")
    assert type(error.value) is want
    assert message in error.value.message


async def test_an_answer_that_is_no_json():
    """The page of a proxy is told as it came."""
    async with serving(Script(web.Response(status=502, text="<html>bad gateway"))) as client:
        with pytest.raises(ServerError, match="bad gateway"):
            await client.get(PODS, "n", "x")


async def test_no_wait_is_without_bounds(monkeypatch: pytest.MonkeyPatch):
    """An hour that a proxy asks for would be an hour without a worker."""
    monkeypatch.setattr(client_module, "_MAX_RETRY_AFTER_SECONDS", 0.01)
    script = Script(status(429, "TooManyRequests", headers={"Retry-After": "3600"}), web.json_response({"kind": "Pod"}))
    async with asyncio.timeout(2), serving(script) as client:
        assert await client.get(PODS, "n", "x") == {"kind": "Pod"}


async def test_a_redirect_is_not_followed():
    """The token goes to the API server only."""
    script = Script(web.Response(status=302, headers={"Location": "/elsewhere"}))
    async with serving(script, token="t") as client:
        with pytest.raises(ServerError, match="302"):
            await client.get(PODS, "n", "x")
    assert len(script.requests) == 1


async def test_no_answer_is_unreachable():
    """A refused connection is one of our errors too."""
    async with Client(ClusterConfig(server="http://127.0.0.1:1")) as client:
        with pytest.raises(Unreachable):
            await client.get(PODS, "n", "x")


async def test_retry_after_is_obeyed():
    """429 is waited for, not passed on."""
    script = Script(status(429, "TooManyRequests", headers={"Retry-After": "0"}), web.json_response({"kind": "Pod"}))
    async with serving(script) as client:
        assert await client.get(PODS, "n", "x") == {"kind": "Pod"}


async def test_delete_names_the_uid():
    """A namesake of the object cannot be hit."""
    bodies = []

    class Recorder(Script):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            bodies.append(await request.json())
            return await super().handle(request)

    async with serving(Recorder(web.json_response({}))) as client:
        await client.delete(PODS, "n", "x", uid="u1")
    assert bodies[0]["preconditions"] == {"uid": "u1"}


async def test_status_is_patched_as_a_subresource():
    """Groups, namespaces and subresources make up the path."""
    script = Script(web.json_response({}))
    async with serving(script) as client:
        await client.merge_patch(Resource("g.io/v1", "things"), "n", "x", {"status": {}}, subresource="status")
    assert script.requests == [("PATCH", "/apis/g.io/v1/namespaces/n/things/x/status", {})]
    assert script.headers[0]["Content-Type"] == "application/merge-patch+json"


@pytest.mark.parametrize(
    ("groups", "resources", "want"), [([], [], False), (["g.io"], ["others"], False), (["g.io"], ["things"], True)]
)
async def test_discovery(groups: list[str], resources: list[str], want: bool):
    """A kind is there when its group and its version name it."""
    answers = ({"groups": [{"name": n} for n in groups]}, {"resources": [{"name": n} for n in resources]})
    async with serving(Script(*map(web.json_response, answers))) as client:
        assert await client.discovers(Resource("g.io/v1", "things")) is want


async def test_watch_lines_may_be_long():
    """An event of a megabyte, in many pieces, arrives whole."""
    big = pod("a", 2) | {"spec": "x" * 1_000_000}
    async with serving(Script([event("ADDED", big)], [])) as client:
        events = [e async for e in client.watch(Selection(resource=PODS), "1")]
    assert [e.object for e in events] == [big]


async def test_an_error_in_the_stream_is_raised():
    """An ERROR event is a failure like any other."""
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    async with serving(Script([event("ERROR", gone)])) as client:
        with pytest.raises(Gone):
            async for _ in client.watch(Selection(resource=PODS), "1"):
                pass


async def test_token_file_is_read_again_when_refused(tmp_path: Path):
    """A token that was replaced before its time costs one request more, not an error."""
    path = tmp_path / "token"
    path.write_text("old")
    script = Script(web.json_response({}), status(401, "Unauthorized"), web.json_response({"kind": "Pod"}))
    async with serving(script, token_path=path) as client:
        await client.get(PODS, "n", "x")
        path.write_text("new")
        assert await client.get(PODS, "n", "x") == {"kind": "Pod"}
    assert [h["Authorization"] for h in script.headers] == ["Bearer old", "Bearer old", "Bearer new"]


async def test_requests_are_observed():
    """Whoever counts requests sees verb, resource and code."""
    seen = []
    async with serving(Script(status(404, "NotFound"))) as client:
        client._observe = lambda *found: seen.append(found[:3])
        with pytest.raises(NotFound):
            await client.get(PODS, "n", "x")
    assert seen == [("get", "pods", 404)]
