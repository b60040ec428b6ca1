"""Runs one job here: the planner's loop with processes for Pods.

decide(job, pods, now) -> stop what it deletes, start what it creates -> wait for an end, a deadline, or Ctrl-C -> again
"""

import asyncio
import signal
import tempfile
import uuid
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from scalejob.api.v1alpha1 import ScaleJob, Spec, Status
from scalejob.contract import MANAGED_BY, ProgressLine
from scalejob.plan.decide import decide
from scalejob.plan.environment import grace_seconds
from scalejob.plan.model import Job, Plan
from scalejob.plan.pods import PodDefaults, build_pod

from .container import Place, Unresolvable, build_container, find_place
from .forks import ForkServer
from .paths import ROOT
from .volumes import localise, missing_inputs, prepare_folders
from .watchdog import watch
from .worker import Worker, start

NAMESPACE = "local"
# Between SIGTERM and SIGKILL; shorter than a Pod's 30 s, because somebody waits at the terminal.
GRACE_SECONDS = 5
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NO_IMAGE = PodDefaults(trainer_image="none")


class Observer(Protocol):
    """Who watches a run."""

    def on_status(self, status: Status) -> None:
        """The status after each decision."""

    def on_progress(self, line: ProgressLine) -> None:
        """Progress of rank 0."""

    def on_line(self, index: int, line: str) -> None:
        """Anything else that a worker printed."""


class Interrupted(Exception):
    """The run was ended by a signal; all workers are gone."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def run_job(job: ScaleJob, documents: Sequence[Mapping[str, Any]], observer: Observer) -> Status:
    """Runs a job to its end and returns its last status.

    `documents` is all that stands in the job's file: its ConfigMaps become files. Raises Unresolvable if the job needs what
    only a cluster has, Interrupted after Ctrl-C, SIGTERM or SIGHUP. No process is left in any case.
    """
    if missing := missing_inputs(job.spec):
        raise Unresolvable("\\n".join(missing))
    try:
        prepare_folders(job.spec, documents)
    except (OSError, ValueError) as error:
        raise Unresolvable(f"the volumes of the job cannot be made below {ROOT}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="scalejob-") as folder:
        return asyncio.run(_Run(plan_job(job), Path(folder), observer).to_the_end())


def plan_job(job: ScaleJob) -> Job:
    """The job as the planner sees it. What only concerns a cluster is taken out: this command has asked for the run."""
    return Job(
        namespace=job.metadata.namespace or NAMESPACE,
        name=job.metadata.name,
        uid=str(uuid.uuid4()),
        generation=1,
        resource_version="",
        created=datetime.now(UTC),
        is_deleting=False,
        spec=_own(localise(job.spec)),
        status=Status(),
    )


def _own(spec: Spec) -> Spec:
    grace = spec.pod.termination_grace_period_seconds
    pod = {"termination_grace_period_seconds": GRACE_SECONDS if grace is None else grace}
    life_cycle = {"suspend": False, "managed_by": MANAGED_BY, "ttl_seconds_after_finished": None}
    return spec.model_copy(update=life_cycle | {"pod": spec.pod.model_copy(update=pod)})


@dataclass(slots=True)
class _Run:
    job: Job
    folder: Path
    observer: Observer
    workers: dict[str, Worker] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)  # of each attempt
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    signals: list[int] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    forks: ForkServer = field(default_factory=ForkServer)

    async def to_the_end(self) -> Status:
        with self._signals(), watch(self.job.uid, self.folder):
            try:
                while not (self.job.status.phase.is_finished or self.signals):
                    await self._step()
            finally:
                await self._stop(self.workers.values())
                await self.forks.close()
        if self.signals:
            raise Interrupted(self.signals[0])
        return self.job.status

    async def _step(self) -> None:
        self.changed.clear()
        plan = decide(self.job, tuple(worker.to_pod() for worker in self.workers.values()), datetime.now(UTC))
        self.job = replace(self.job, status=plan.status)
        self.observer.on_status(plan.status)
        await self._stop([self.workers[pod.name] for pod in plan.deletes])
        for pod in plan.deletes:
            del self.workers[pod.name]
        for index in plan.creates:
            await self._start(index)
        if not (plan.deletes or plan.creates or plan.status.phase.is_finished):
            await self._wait(plan)

    async def _wait(self, plan: Plan) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), plan.requeue_after)

    async def _start(self, index: int) -> None:
        attempt = self.job.status.attempt
        if attempt not in self.places:
            self.places[attempt] = find_place(self.job.spec, self.folder)
        pod = build_pod(self.job, attempt, index, _NO_IMAGE)
        container = build_container(pod, self.job.spec, self.places[attempt])
        try:
            worker = await start(container, self.job.uid, self.forks, partial(self._on_line, index))
        except OSError as error:
            raise Unresolvable(f"cannot start {container.argv[0]}: {error.strerror}") from error
        self.workers[container.name] = worker
        self._spawn(self._follow(worker))

    async def _follow(self, worker: Worker) -> None:
        await worker.follow()
        self.changed.set()

    def _on_line(self, index: int, line: str) -> None:
        progress = ProgressLine.from_json(line)
        try:
            if progress is None:
                self.observer.on_line(index, line)
            elif index == 0:
                self.observer.on_progress(progress)
        except BrokenPipeError:  # nobody reads what we print: `scalejob run ... | head`
            self._on_signal(signal.SIGPIPE)

    async def _stop(self, workers: Collection[Worker]) -> None:
        await asyncio.gather(*(worker.stop(grace_seconds(self.job.spec)) for worker in workers))

    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal ends the run, the second one does not wait."""
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        yield

    def _on_signal(self, number: int) -> None:
        self.signals.append(number)
        self.changed.set()
        if len(self.signals) > 1:
            for worker in self.workers.values():
                self._spawn(worker.kill())
