"""One reconcile: fetch, guard, decide, act. Level-triggered: it looks at what is, never at what happened."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from scalejob.kube.backoff import backoff
from scalejob.kube.client import Client
from scalejob.kube.clock import SteadyClock
from scalejob.kube.errors import Conflict, NotFound
from scalejob.kube.store import Store
from scalejob.kube.workqueue import WorkQueue
from scalejob.plan.decide import decide
from scalejob.plan.model import Job, Pod, Unreadable
from scalejob.plan.unreadable import decide_unreadable

from . import trace
from .departed import Departed
from .executor import Executor
from .expectations import Expectations
from .jobs import JobStore
from .progress import ProgressPoller
from .status import SCALEJOBS
from .workers import Refused

logger = logging.getLogger(__name__)

_REFUSAL_SECONDS = (0.5, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A refusal that stands: told in the status, and not put to the test again before `until`, nor before the Pods that were
    made in vain are gone.
    """

    uid: str
    refused: Refused
    until: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a reconcile looks at."""

    jobs: JobStore
    pods: Store[Pod]
    departed: Departed
    expectations: Expectations
    progress: ProgressPoller


class Reconciler:
    """`reconcile(key)` is called by one worker per key at a time."""

    def __init__(
        self,
        client: Client,
        queue: WorkQueue,
        seen: Seen,
        executor: Executor,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._clock = clock or SteadyClock()
        self._client = client
        self._queue = queue
        self._seen = seen
        self._executor = executor
        self._standing: dict[str, Standing] = {}

    async def reconcile(self, key: str) -> None:
        """Bring the job one step nearer to what it should be. Raises ApiError: try again later."""
        job = self._seen.jobs.get(key)
        if job is None:
            return self._forget(key)
        try:
            if wait := self._seen.expectations.remaining(key):
                logger.debug("waits for echoes of its own writes", extra={"again_after": wait})
                self._queue.add_after(key, wait)
            elif isinstance(job, Unreadable):
                await self._explain(job)
            else:
                await self._advance(key, job)
        except (NotFound, Conflict) as error:
            logger.debug("is behind the times", extra={"error": str(error)})
            await self._look_again(key, job.uid)
        else:
            self._queue.succeeded(key)

    async def _advance(self, key: str, job: Job) -> None:
        pods = self._seen.pods.owned_by(job.uid)
        standing = self._still_standing(key, job, pods)
        if standing:
            # We deleted them ourselves: the planner would take it for a loss.
            pods = tuple(pod for pod in pods if pod.uid not in standing.refused.undone)
        trace.saw(job, pods)
        refusal = standing.refused.refusal if standing else None
        known = pods + self._seen.departed.of(key, job, pods)
        plan = decide(
            job,
            known,
            self._clock(),
            leftovers=self._seen.pods.of_namesakes(key, job.uid),
            progress=self._seen.progress.latest(key),
            refusal=refusal,
        )
        trace.decided(job, plan)
        outcome = await self._executor.carry_out(job, pods, plan)
        self._seen.progress.follow(key, job, pods, plan)
        if outcome.refused:
            self._stand(key, job, outcome.refused)
        elif plan.creates:
            self._standing.pop(key, None)
        if outcome.again_after is not None:
            self._queue.add_after(key, outcome.again_after)

    def _still_standing(self, key: str, job: Job, pods: tuple[Pod, ...]) -> Standing | None:
        """Why nothing is created at present; None once it is time to try again."""
        standing = self._standing.get(key)
        if standing is None or standing.uid != job.uid:
            return None
        left = standing.until - time.monotonic()
        if left > 0:
            self._queue.add_after(key, left)
        return standing if left > 0 or any(pod.uid in standing.refused.undone for pod in pods) else None

    def _stand(self, key: str, job: Job, refused: Refused) -> None:
        """Remember it and look again at once: the status has to say so."""
        before = self._standing.get(key)
        times = before.times + 1 if before and before.uid == job.uid else 1
        until = time.monotonic() + backoff(times, *_REFUSAL_SECONDS)
        self._standing[key] = Standing(uid=job.uid, refused=refused, until=until, times=times)
        self._queue.add(key)

    async def _explain(self, job: Unreadable) -> None:
        plan = decide_unreadable(job, self._clock(), self._seen.pods.owned_by(job.uid))
        trace.decided(job, plan)
        await self._executor.explain(job, plan)

    async def _look_again(self, key: str, uid: str) -> None:
        """Something has changed behind our back: read the job itself, and try again if that is not what has changed."""
        namespace, name = key.split("/")
        try:
            body = await self._client.get(SCALEJOBS, namespace, name)
        except NotFound:
            self._seen.jobs.drop(key, uid)
        else:
            self._seen.jobs.put(body)
            self._queue.retry(key)

    def _forget(self, key: str) -> None:
        self._standing.pop(key, None)
        self._seen.expectations.forget(key)
        self._seen.progress.forget(key)
        self._seen.departed.forget(key)
        self._executor.forget(key)
        self._queue.forget(key)
