"""Puts the parts together and runs them: reflectors, the resync of ScaleJobs, workers, the poller, the recorder, the health server."""

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

from scalejob.contract import KIND, LABEL_JOB
from scalejob.kube.backoff import backoff
from scalejob.kube.client import PODS, Client, Object, Selection
from scalejob.kube.config import load_config
from scalejob.kube.errors import ApiError, Forbidden, NotFound
from scalejob.kube.lease import Elector, LeaseLost
from scalejob.kube.limiter import TokenBucket
from scalejob.kube.reflector import Reflector
from scalejob.kube.store import Entry, Store
from scalejob.kube.workqueue import WorkQueue
from scalejob.plan.model import Pod
from scalejob.plan.observe import controller_of, read_pod
from scalejob.plan.pods import PodDefaults

from . import trace
from .departed import Departed
from .events import EventRecorder
from .executor import Executor, Voices
from .expectations import Expectations
from .health import Check, serve_health
from .jobs import JobStore, key_of
from .liveness import Answers, Debts, watches, works
from .metrics import Metrics
from .options import Options
from .progress import ProgressPoller
from .reconciler import Reconciler, Seen
from .status import SCALEJOBS, StatusWriter
from .workers import Workers

logger = logging.getLogger(__name__)

# kopf's watch does not notice jobs that were deleted while it was interrupted; a full list does.
_RESYNC_SECONDS = 300.0
_RETRY_LIST_SECONDS = (1.0, 15.0)
# A look at a job costs some 15 us for each of its Pods, and each Pod gives several events: those that come together share a look.
_GATHER_SECONDS_PER_POD = 1e-4


class Engine:
    """Everything but the watch of ScaleJobs, which tells `see` what it sees.

    `async with engine.running()` starts it; `failed` is set when a part of it has died: then the process should end.
    """

    def __init__(
        self,
        options: Options,
        client: Client,
        metrics: Metrics,
        elector: Elector | None = None,
        answers: Answers | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """With an elector all is read at once, and acted on when the lease is held. `answers`: to requests of `client` and elector."""
        self._options = options
        self._client = client
        self._metrics = metrics
        self._elector = elector
        self._answers = answers or Answers()
        self._queue = WorkQueue()
        self.jobs = JobStore(self._queue.add)
        self._debts = Debts(lambda key: self.jobs.get(key) is not None)
        self.listed = asyncio.Event()
        self._list_now = asyncio.Event()
        self.failed = asyncio.Event()
        self._expectations = Expectations()
        self._pods: Store[Pod] = Store(self._on_pod)
        self._reflectors = [self._reflector(scope) for scope in options.scopes]
        self._departed = Departed()
        self._progress = ProgressPoller(self._queue.add)
        self._events = EventRecorder(client)
        self._reconciler = self._new_reconciler(clock)
        metrics.follow(self.jobs, self._queue.__len__, lambda: elector is None or elector.is_leading)

    def see(self, kind: str | None, body: Object) -> None:
        """An event of the watch of ScaleJobs."""
        metadata = body["metadata"]
        self._debts.pay(metadata["namespace"] if self._options.namespaces else None)
        if kind == "DELETED":
            self.jobs.drop(key_of(metadata["namespace"], metadata["name"]), metadata["uid"])
        else:
            self.jobs.put(body)

    def list_anew(self) -> None:
        """The watch of ScaleJobs has ended: `listed` is set again when there is something to watch."""
        self.listed.clear()
        self._list_now.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All parts run while the context lasts."""
        tasks = [asyncio.create_task(self._guard(part)) for part in self._parts()]
        try:
            async with serve_health(self._options.metrics_port, self._healthy, self._ready, self._metrics.registry):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._elector:
                await self._elector.release()

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        return [
            *(reflector.run() for reflector in self._reflectors),
            self._resync(),
            self._progress.run(),
            self._events.run(),
            *([self._elector.run()] if self._elector else []),
            *(self._work() for _ in range(self._options.workers)),
        ]

    async def _guard(self, part: Coroutine[Any, Any, None]) -> None:
        """A part that ends by itself is a defect: say so and let the process end, since half an operator is worse than none."""
        try:
            await part
        except LeaseLost as error:
            logger.error("ending: another replica goes on", extra={"error": str(error)})
            self.failed.set()
        except Exception:
            logger.exception("a part of the operator has died")
            self.failed.set()

    def _new_reconciler(self, clock: Callable[[], datetime] | None) -> Reconciler:
        defaults = PodDefaults(trainer_image=self._options.trainer_image)
        status = StatusWriter(self._client, self.jobs)
        workers = Workers(self._client, self._expectations, defaults, self._metrics.count_created)
        executor = Executor(self._client, status, workers, Voices(events=self._events, metrics=self._metrics))
        seen = Seen(
            jobs=self.jobs,
            pods=self._pods,
            departed=self._departed,
            expectations=self._expectations,
            progress=self._progress,
        )
        return Reconciler(self._client, self._queue, seen, executor, clock)

    def _reflector(self, scope: str | None) -> Reflector[Pod]:
        selection = Selection(resource=PODS, namespace=scope, label_selector=LABEL_JOB)
        return Reflector(self._client, selection, self._pods, trim_pod)

    def _on_pod(self, before: Entry[Pod] | None, after: Entry[Pod] | None) -> None:
        """A Pod has changed: its job is to be looked at, and our own writes have been seen."""
        entry = after or before
        assert entry
        if after:
            self._expectations.fulfil(entry.owner_key, entry.value.name)
        else:
            self._departed.note(entry.owner_key, entry.value)
        if after is None or after.value.is_deleting:
            self._expectations.fulfil(entry.owner_key, entry.uid)
        self._queue.add_after(entry.owner_key, _GATHER_SECONDS_PER_POD * self._pods.num_owned_by(entry.owner_uid))

    async def _work(self) -> None:
        """One worker."""
        for reflector in self._reflectors:
            await reflector.synced.wait()
        if self._elector:
            await self._elector.acquired.wait()
        while True:
            key = await self._queue.get()
            started = time.monotonic()
            try:
                with trace.look(key, self.jobs.get(key)):
                    await self._look(key)
            finally:
                self._queue.done(key)
                self._metrics.reconcile_duration.observe(time.monotonic() - started)

    async def _look(self, key: str) -> None:
        """One that fails is told of, and comes again."""
        try:
            await self._reconciler.reconcile(key)
        except Exception as error:
            self._report(key, error)
            self._queue.retry(key)

    def _report(self, key: str, error: Exception) -> None:
        """Failures of the API server are a line; anything else is a defect and needs its trace."""
        self._metrics.reconcile_errors.inc()
        trace = None if isinstance(error, ApiError) else error
        fields = {"job": key, "reason": type(error).__name__, "error": str(error)}
        logger.warning("reconcile failed, will try again", extra=fields, exc_info=trace)

    async def _resync(self) -> None:
        """List all ScaleJobs now and then; until the first time that the API server lets us, ask more often."""
        failures = 0
        while True:
            try:
                await self._list_all_jobs()
            except ApiError as error:
                failures += 1
                logger.warning("cannot list ScaleJobs", extra={"reason": _advice(error), "error": str(error)})
                await asyncio.sleep(backoff(failures, *_RETRY_LIST_SECONDS))
            else:
                failures = 0
                self.listed.set()
                await self._wait_for_resync()

    async def _wait_for_resync(self) -> None:
        self._list_now.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._list_now.wait(), _RESYNC_SECONDS)

    async def _list_all_jobs(self) -> None:
        for scope in self._options.scopes:
            await self._list_jobs(scope)
        self._departed.sweep(self.jobs.get)
        if not self.listed.is_set() and not await self._client.discovers(SCALEJOBS):
            raise NotFound("scalejobs can be listed, but discovery does not name them yet")

    async def _list_jobs(self, scope: str | None) -> None:
        """Page by page, so that the bodies of all jobs are never there at once."""
        selection, keys, continue_ = Selection(resource=SCALEJOBS, namespace=scope), set[str](), None
        while continue_ != "":
            page = await self._client.list_page(selection, continue_=continue_ or "")
            keys |= {key_of(body["metadata"]["namespace"], body["metadata"]["name"]) for body in page.items}
            self._debts.owe(self.jobs.put_page(page.items))
            continue_ = page.continue_
        self.jobs.keep_only(keys, namespace=scope, version=page.resource_version)

    @property
    def _healthy(self) -> dict[str, Check]:
        """Nothing of the world outside; see `liveness`."""
        answers = self._answers
        return {
            "parts": lambda: "a part has died" if self.failed.is_set() else None,
            "watch of scalejobs": watches(answers, SCALEJOBS.plural, lambda: self._debts.oldest, apart=False),
            "watch of pods": watches(answers, PODS.plural, lambda: min(r.heard for r in self._reflectors)),
            "queue": works(self._queue, answers),
        }

    @property
    def _ready(self) -> dict[str, Check]:
        return {
            "scalejobs": lambda: None if self.listed.is_set() else "not listed yet",
            "pods": lambda: None if all(r.synced.is_set() for r in self._reflectors) else "not listed yet",
        }


@asynccontextmanager
async def open_engine(
    options: Options, clock: Callable[[], datetime] | None = None
) -> AsyncIterator[tuple[Engine, Client]]:
    """A running engine and its client. `clock`: one that is no SteadyClock. Raises ConfigError."""
    metrics, answers, config = Metrics(), Answers(), load_config(options.kubeconfig)

    def observe(verb: str, resource: str, code: int, seconds: float) -> None:
        metrics.observe_request(verb, resource, code, seconds)
        answers.observe(verb, resource, code, seconds)

    async with AsyncExitStack() as stack:
        elector = None
        if options.lease:
            # Of its own: a renewal must not wait behind other requests.
            own = await stack.enter_async_context(Client(config, observe=observe))
            elector = Elector(own, *options.lease, identity=f"{socket.gethostname()}_{secrets.token_hex(4)}")
        client = Client(
            config,
            limiter=TokenBucket(qps=options.qps, burst=options.burst),
            observe=observe,
            may_write=(lambda: elector.is_leading) if elector else None,
        )
        engine = Engine(options, await stack.enter_async_context(client), metrics, elector, answers, clock)
        await stack.enter_async_context(engine.running())
        yield engine, client


def trim_pod(body: Object) -> Entry[Pod] | None:
    """None for Pods that no ScaleJob controls: they carry our label, but are not of our making."""
    job, namespace = controller_of(body), body["metadata"]["namespace"]
    if job is None or job["kind"] != KIND:
        return None
    pod = read_pod(body)
    return Entry(
        uid=pod.uid,
        namespace=namespace,
        owner_uid=pod.job_uid,
        owner_key=key_of(namespace, job["name"]),
        value=pod,
    )


def _advice(error: ApiError) -> str:
    advice = {NotFound: "is the CRD installed?", Forbidden: "may the service account list scalejobs?"}
    return advice.get(type(error), type(error).__name__)
