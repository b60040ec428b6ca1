"""Requests to the API server: get, list, watch, create, delete, patch. One connection pool, one rate limit, one error tree."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from .config import ClusterConfig, TokenFile
from .errors import NotLeading, ServerError, TooManyRequests, Unreachable, error_of, error_of_status
from .limiter import TokenBucket

logger = logging.getLogger(__name__)

Object = dict[str, Any]
RequestObserver = Callable[[str, str, int, float], None]  # verb, resource, HTTP code (0: no answer), seconds

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json", "Accept": "application/json"}
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)

# Objects in a page of a list. Each of them takes some 50 KiB while it is read, and the heap never gives back what was scattered.
PAGE = 50
# The API server sends a bookmark about once a minute, so a stream that is silent for longer is dead.
WATCH_SILENCE_SECONDS = 150.0
_WATCH_SECONDS = 300
# Waits for 429 before the caller hears of it; the API server says how long each one is, within reason.
_MAX_RETRY_AFTER = 3
_MAX_RETRY_AFTER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object: `Resource("v1", "pods")`, `Resource("apps/v1", "deployments")`."""

    group_version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of a collection, an object or a part of it."""
        root = "/apis/" if "/" in self.group_version else "/api/"
        scope = f"/namespaces/{namespace}" if namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{self.group_version}{scope}/{self.plural}{tail}"


PODS = Resource("v1", "pods")
SERVICES = Resource("v1", "services")
EVENTS = Resource("v1", "events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects to list or watch."""

    resource: Resource
    namespace: str | None = None  # None: all
    label_selector: str | None = None

    @property
    def params(self) -> dict[str, str]:
        return {"labelSelector": self.label_selector} if self.label_selector else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list. `continue_` is empty on the last one."""

    items: list[Object]
    resource_version: str
    continue_: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One event of a watch stream: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class Client:
    """A context manager. Every method raises ApiError only; see `errors` for what to do then."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        limiter: TokenBucket | None = None,
        observe: RequestObserver | None = None,
        may_write: Callable[[], bool] | None = None,
    ) -> None:
        """`may_write` is asked before each request that changes something, after the wait for the limiter: NotLeading if not."""
        self._config = config
        self._limiter = limiter or TokenBucket(qps=200, burst=400)
        self._may_write = may_write or (lambda: True)
        self._observe = observe or (lambda verb, resource, code, seconds: None)
        self._token_file = TokenFile(config.token_path, time.monotonic) if config.token_path else None
        self.session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self.session = self.new_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    @property
    def server(self) -> str:
        return self._config.server

    def new_session(self) -> aiohttp.ClientSession:
        """A session that authenticates by itself; the caller closes it."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._config.ssl or False),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(self._authorize,),
            timeout=_TIMEOUT,
            headers={"User-Agent": "scalejob-operator"},
        )

    async def get(
        self, resource: Resource, namespace: str | None, name: str, *, subresource: str | None = None
    ) -> Object:
        """One object."""
        return await self._json("get", resource, resource.path(namespace, name, subresource))

    async def list_page(self, selection: Selection, *, limit: int = PAGE, continue_: str = "") -> Page:
        """One page of a list, in the order of names. A continue token that is too old raises Gone."""
        params = {**selection.params, "limit": str(limit)} | ({"continue": continue_} if continue_ else {})
        path = selection.resource.path(selection.namespace)
        found = await self._json("list", selection.resource, path, params=params)
        meta = found.get("metadata") or {}
        return Page(
            items=found.get("items") or [],
            resource_version=meta.get("resourceVersion", ""),
            continue_=meta.get("continue", ""),
        )

    async def create(self, resource: Resource, namespace: str | None, body: Object) -> Object:
        """Create one object. Raises AlreadyExists, Forbidden, Invalid."""
        return await self._json("create", resource, resource.path(namespace), body=body)

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str) -> None:
        """Delete the object with this uid and let the garbage collector take its children. Raises NotFound, Conflict."""
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},  # a namesake made in the meantime is safe
        }
        await self._json("delete", resource, resource.path(namespace, name), body=body)

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, body: Object, *, subresource: str | None = None
    ) -> Object:
        """JSON merge patch; a metadata.resourceVersion in `body` is a precondition (Conflict)."""
        return await self._json("patch", resource, resource.path(namespace, name, subresource), body=body)

    async def discovers(self, resource: Resource) -> bool:
        """Whether discovery names the resource: for a new kind that may be a moment later than it can be listed."""
        group = resource.group_version.split("/")[0]
        groups = (await self._json("get", resource, "/apis"))["groups"]
        if group not in {found["name"] for found in groups}:
            return False
        resources = (await self._json("get", resource, f"/apis/{resource.group_version}"))["resources"]
        return resource.plural in {found["name"] for found in resources}

    async def watch(self, selection: Selection, resource_version: str) -> AsyncIterator[WatchEvent]:
        """Events since a version, until the API server ends the stream. An ERROR in it is raised: Gone for a version too old."""
        params = selection.params | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=WATCH_SILENCE_SECONDS)
        path = selection.resource.path(selection.namespace)
        async with self._request("watch", selection.resource, path, params=params, timeout=timeout) as response:
            async for line in _lines(response):
                yield _watch_event(line)

    async def _json(self, verb: str, resource: Resource, path: str, **options: Any) -> Object:
        for _ in range(_MAX_RETRY_AFTER):
            try:
                return await self._json_once(verb, resource, path, **options)
            except TooManyRequests as error:
                await self._pause(error)
        return await self._json_once(verb, resource, path, **options)

    async def _json_once(self, verb: str, resource: Resource, path: str, **options: Any) -> Object:
        async with self._request(verb, resource, path, **options) as response:
            return _decode(await response.read())

    async def _pause(self, error: TooManyRequests) -> None:
        """Wait as long as the API server asks for, spread a little so that not all come back at once."""
        seconds = min(error.retry_after, _MAX_RETRY_AFTER_SECONDS)
        await asyncio.sleep(seconds * random.uniform(1.0, 1.25))  # noqa: S311 - no secret

    @asynccontextmanager
    async def _request(
        self, verb: str, resource: Resource, path: str, *, body: Object | None = None, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request under the rate limit; failures of every kind leave as ApiError."""
        await self._limiter.acquire()
        if verb in _WRITES and not self._may_write():
            raise NotLeading(f"{verb} {path} was not sent: this replica does not lead")
        started, code = time.monotonic(), 0
        headers = _MERGE_PATCH if verb == "patch" else _JSON
        data = orjson.dumps(body) if body is not None else None
        options["allow_redirects"] = False  # the token must not follow one to another host
        try:
            url = self._config.server + path
            async with self.session.request(_METHODS[verb], url, data=data, headers=headers, **options) as response:
                code = response.status
                if code >= 300:
                    raise error_of(code, await response.read(), response.headers)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{verb} {path}: {error or type(error).__name__}") from error
        finally:
            seconds = time.monotonic() - started
            self._observe(verb, resource.plural, code, seconds)
            if logger.isEnabledFor(logging.DEBUG):
                _trace(verb, path, options.get("params"), code, seconds)

    async def _authorize(
        self,
        request: aiohttp.ClientRequest,
        handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        """Middleware: the bearer token, read anew once when it is refused."""
        if token := self._token():
            request.headers["Authorization"] = f"Bearer {token}"
        response = await handler(request)
        if response.status == 401 and self._token_file:
            self._token_file.expire()
            response.release()
            request.headers["Authorization"] = f"Bearer {self._token()}"
            response = await handler(request)
        return response

    def _token(self) -> str | None:
        return self._token_file.get() if self._token_file else self._config.token


def _trace(verb: str, path: str, params: object, code: int, seconds: float) -> None:
    extra = {"verb": verb, "path": path, "params": params or None, "code": code, "ms": round(1000 * seconds, 3)}
    logger.debug("request", extra=extra)


_WRITES = {"create", "delete", "patch"}
_METHODS: Mapping[str, str] = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "delete": "DELETE",
    "patch": "PATCH",
}


def _decode(body: bytes) -> Object:
    try:
        found: Object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServerError(f"the answer is no JSON: {body[:100]!r}") from error
    return found


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines of any length; aiohttp's own readline refuses those above 128 KiB, and objects may have 1.5 MiB."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line


def _watch_event(line: bytes) -> WatchEvent:
    event = _decode(line)
    if event["type"] == "ERROR":
        raise error_of_status(event["object"])
    return WatchEvent(type=event["type"], object=event["object"])
