"""kopf at the edge: process life cycle, login and the watch of ScaleJobs. The only file that imports kopf.

What kopf asks of the cluster with these settings, besides the watch of ScaleJobs (list, watch): discovery only (`/version`,
`/api`, `/apis`, `/apis/scalejob.io/v1alpha1`, ...), which every authenticated account may read (`system:discovery`). It neither lists nor watches
CustomResourceDefinitions and namespaces (`scanning.disabled`), knows no peering, posts no events and writes nothing to any
object. A role for the operator therefore needs:

    scalejob.io   scalejobs          get list watch delete    (delete: ttlSecondsAfterFinished)
    scalejob.io   scalejobs/status   patch
    (core)        pods               create get list watch delete
    (core)        services           create get
    (core)        events             create patch

in a ClusterRole, or in a Role of each namespace that is given by --namespace; with --lease also create, get and patch for leases
(coordination.k8s.io) in a Role of that one's namespace. kopf starts when
ScaleJobs can be listed, again if their definition goes and comes back, and the process ends if the watch is refused otherwise.
"""

import asyncio
import gc
import logging
import random
import signal
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any

import kopf

from scalejob.contract import GROUP, PLURAL, VERSION
from scalejob.engine.engine import Engine, open_engine
from scalejob.engine.logs import configure_logs
from scalejob.engine.options import Options
from scalejob.kube.client import PAGE, Client

logger = logging.getLogger(__name__)


async def run(options: Options, clock: Callable[[], datetime] | None = None) -> bool:
    """Run until SIGTERM or SIGINT (True), or until a part has died (False)."""
    configure_logs(options.log_format, options.log_level)
    _look_for_garbage_seldom()
    stopped = asyncio.Event()
    _heed_sigterm(stopped)
    async with open_engine(options, clock) as (engine, client):
        await _until_first(engine.failed.wait(), stopped.wait(), _watch(engine, client, options, stopped))
        return not engine.failed.is_set()


def _heed_sigterm(stopped: asyncio.Event) -> None:
    """kopf puts a handler of its own in its place; before and after that there would be none, and process 1 of a container cannot be ended."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)


async def _watch(engine: Engine, client: Client, options: Options, stopped: asyncio.Event) -> None:
    """Feed the engine with ScaleJobs until a signal comes. kopf ends when their definition goes, and starts anew when it is back."""
    while True:
        await engine.listed.wait()
        tasks = await kopf.spawn_tasks(
            registry=build_registry(engine, client),
            settings=build_settings(),
            standalone=True,
            clusterwide=not options.namespaces,
            namespaces=options.namespaces,
        )
        try:
            return await kopf.run_tasks(tasks, ignored=_EveryTask())
        except Exception as error:
            if getattr(error, "status", None) != HTTPStatus.NOT_FOUND:  # kopf does not export its classes
                raise
            logger.warning("the definition of ScaleJobs is gone, waiting for it")
            engine.list_anew()
            _heed_sigterm(stopped)


def _look_for_garbage_seldom() -> None:
    """What was loaded stays, and answers of the API server are trees: with Python's defaults a fifth of all CPU time went there."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _until_first(*parts: Coroutine[Any, Any, object]) -> None:
    """Until one of them is over; the others are cancelled. (kopf's own `stop_flag` leaves a task behind and then waits 5 s for it.)"""
    tasks = [asyncio.create_task(part) for part in parts]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


def build_registry(engine: Engine, client: Client) -> kopf.OperatorRegistry:
    """All handlers there are. Any other kind would make kopf write to the objects it watches."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=client.server, aiohttp_session=client.new_session())

    @kopf.on.startup(registry=registry)
    async def startup(**_: Any) -> None:
        logger.info("watching ScaleJobs", extra={"server": client.server})

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        logger.info("stopping")

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:
        body: Any = event["object"]
        engine.see(event["type"], body)

    return registry


def build_settings() -> kopf.OperatorSettings:
    """kopf without anything that writes, and without anything that needs more rights than ours."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.consistency_timeout = 0
    # A handler only puts a job into a queue: there is nothing to wait for, neither for more events nor at the end.
    settings.queueing.idle_timeout = 1
    settings.queueing.exit_timeout = 0.1
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 5
    settings.watching.reconnect_backoff = 1
    settings.watching.chunk_size = PAGE
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = _EndlessBackoff()
    settings.process.ultimate_exiting_timeout = 20  # less than a Pod's grace period of 30 s
    return settings


class _EveryTask(Collection["asyncio.Task[Any]"]):
    """At its end kopf waits 5 s for every task that began after it, our requests and open connections to /metrics too: for none."""

    def __contains__(self, task: object) -> bool:
        return True

    def __iter__(self) -> Iterator["asyncio.Task[Any]"]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _EndlessBackoff(Iterable[float]):
    """An API server that is away for long is no reason to end: the caches stay, and nothing can be written anyway."""

    def __iter__(self) -> Iterator[float]:
        delay = 1.0
        while True:
            yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            delay = min(30.0, 2 * delay)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Nothing is compared, so nothing is copied (it would be four fifths of the time per event) and nothing is stored."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return {}

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """No handler of ours is retried, so there is no progress to store."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: Any) -> Any:
        return essence
