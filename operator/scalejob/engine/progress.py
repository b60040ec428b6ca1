"""Asks rank 0 of each running job how far it is. Never waits for an answer: a figure that comes late is shown late."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from scalejob.api.v1alpha1 import Progress
from scalejob.contract import PROGRESS_PATH, PROGRESS_PORT, Phase, ProgressLine
from scalejob.plan.model import Job, Plan, Pod

logger = logging.getLogger(__name__)

_INTERVAL = 5.0
_POLLS_PER_SECOND = 20  # with more than 100 running jobs each is asked less often
_TIMEOUT = aiohttp.ClientTimeout(total=2)
_MAX_IN_FLIGHT = 16
# The answer comes from a user's program.
_MAX_BYTES = 4096
_MAX_WORD = 64  # characters of a name in a column of `kubectl get`


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    uid: str
    attempt: int
    ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    target: _Target
    line: ProgressLine
    progress: Progress


class ProgressPoller:
    """`on_change` gets the key of a job whose progress is another than the last time."""

    def __init__(
        self, on_change: Callable[[str], None], *, port: int = PROGRESS_PORT, interval: float = _INTERVAL
    ) -> None:
        self._on_change = on_change
        self._port = port
        self._interval = interval
        self._targets: dict[str, _Target] = {}
        self._latest: dict[str, _Reading] = {}

    def follow(self, key: str, job: Job, pods: tuple[Pod, ...], plan: Plan) -> None:
        """Ask this job from now on if it runs, else no longer."""
        target = _target(job, pods, plan)
        if target is None:
            self.forget(key)
        else:
            self._targets[key] = target

    def forget(self, key: str) -> None:
        """Do not ask this job any longer."""
        self._targets.pop(key, None)
        self._latest.pop(key, None)

    def latest(self, key: str) -> Progress | None:
        """What the present attempt last said."""
        reading = self._latest.get(key)
        return reading.progress if reading and reading.target == self._targets.get(key) else None

    async def run(self) -> None:
        """Ask all jobs in turn until cancelled."""
        limit = asyncio.Semaphore(_MAX_IN_FLIGHT)
        # A session of its own: the operator's token must not reach a user's program.
        async with aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False) as session:
            while True:
                await asyncio.sleep(max(self._interval, len(self._targets) / _POLLS_PER_SECOND))
                await asyncio.gather(*(self._ask(session, limit, *item) for item in tuple(self._targets.items())))

    async def _ask(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, key: str, target: _Target) -> None:
        async with limit:
            line = await _fetch(session, key, target.ip, self._port)
        before = self._latest.get(key)
        is_same = before is not None and (before.target, before.line) == (target, line)
        if line is None or is_same or self._targets.get(key) != target:
            return
        self._latest[key] = _Reading(target=target, line=line, progress=_progress(line))
        self._on_change(key)


def _target(job: Job, pods: tuple[Pod, ...], plan: Plan) -> _Target | None:
    """Rank 0 of the present attempt, if the job runs."""
    if plan.status.phase is not Phase.RUNNING:
        return None
    attempt = plan.status.attempt
    first = next((pod for pod in pods if (pod.attempt, pod.index) == (attempt, 0) and pod.is_live), None)
    return _Target(uid=job.uid, attempt=attempt, ip=first.ip) if first and first.ip else None


async def _fetch(session: aiohttp.ClientSession, key: str, ip: str, port: int) -> ProgressLine | None:
    """None if there is no answer, or none that is progress: the workload may be any program."""
    host = f"[{ip}]" if ":" in ip else ip
    try:
        async with session.get(f"http://{host}:{port}{PROGRESS_PATH}", allow_redirects=False) as response:
            body = await response.content.read(_MAX_BYTES)
            return ProgressLine.from_json(body.decode(errors="replace").strip()) if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        logger.debug("no progress", extra={"job": key, "ip": ip, "error": str(error)})
        return None


def _progress(line: ProgressLine) -> Progress:
    return Progress(
        phase=_word(line.phase),
        step=line.step,
        of=line.of,
        metric=None if line.metric is None else _word(line.metric),
        value=None if line.value is None else f"{line.value:.6g}",
        eta_seconds=line.eta_seconds,
        updated_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _word(text: str) -> str:
    return " ".join(text.split())[:_MAX_WORD]
