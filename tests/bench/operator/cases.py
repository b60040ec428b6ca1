"""What the operator promises: how fast, with how much of the machine, in how many writes."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from tests.bench.figure import Absent, Figure, Line, spread
from tests.bench.operator.sides import INDEXED_JOB, JOBSET, OURS, Side
from tests.bench.operator.stage import Stage, memory_mib, metric, start, until

CPU_MS = 1.5  # of the operator for one Pod, until all Pods run and all is quiet
MANY_SECONDS = 30.0
RESTART_SECONDS = 5.0
MEMORY_MIB = 120.0
REACTION_SECONDS = 1.0
OTHER_WRITES = 6  # besides the creates of Pods, in the life of a job
_QUIET_SECONDS = 2.0
_SETTLED_SECONDS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Seconds from the first apply; `cpu` in seconds, by program."""

    created: float
    running: float
    pods: int
    cpu: dict[str, float]

    def cpu_ms(self, *programs: str) -> float:
        """Of these programs, for one Pod."""
        return 1000 * sum(self.cpu[program] for program in programs) / self.pods

    @property
    def shares(self) -> str:
        return ", ".join(f"{name} {1000 * seconds / self.pods:.1f}" for name, seconds in self.cpu.items())


CONTROLLERS = {
    OURS: ("operator",),
    INDEXED_JOB: ("kube-controller-manager",),
    JOBSET: ("kube-controller-manager", "jobset"),
}


async def bring_up(stage: Stage, side: Side, jobs: int, workers: int) -> Run:
    """Apply `jobs` objects in a new namespace and wait until all their Pods run and nothing happens any more."""
    namespace, pods = await stage.namespace(), jobs * workers
    before, started = stage.cpu_seconds(), time.perf_counter()
    applied = asyncio.create_task(stage.apply(side, namespace, (f"job-{i}" for i in range(jobs)), workers))
    await until(lambda: len(stage.kubelet.seen[namespace]) >= pods, f"not all Pods of {side.name} are created")
    created = time.perf_counter() - started
    await until(lambda: len(stage.kubelet.started[namespace]) >= pods, f"not all Pods of {side.name} run")
    running = time.perf_counter() - started
    print(f"  {side.name}, {jobs} x {workers} Pods: created in {created:.1f} s, running in {running:.1f} s", flush=True)
    await applied
    await asyncio.sleep(_QUIET_SECONDS)
    cpu = {name: seconds - before[name] for name, seconds in stage.cpu_seconds().items()}
    return Run(created=created, running=running, pods=pods, cpu=cpu)


async def one_job(stage: Stage, scale: float, repeats: int) -> list[Line]:
    """A job of 1,000 Pods, the sides in turns."""
    workers = max(2, round(1000 * scale))
    runs: dict[Side, list[Run]] = {side: [] for side in stage.sides}
    for turn in range(repeats):
        for side in stage.sides if turn % 2 == 0 else reversed(stage.sides):
            runs[side].append(await bring_up(stage, side, 1, workers))
    title = f"1 job x {workers:,} Pods"
    return [
        *_beside(runs, f"{title}: all created", lambda run: run.created),
        *_cpu(runs, title),
    ]


async def many_jobs(stage: Stage, scale: float, _repeats: int) -> list[Line]:
    """1,000 jobs of 5 Pods; then the operator is at rest, and then it is started again."""
    jobs = max(2, round(1000 * scale))
    title = f"{jobs:,} jobs x 5 Pods"
    run = await bring_up(stage, OURS, jobs, 5)
    await until(lambda: metric(stage.operator, 'scalejob_jobs{.*phase="Running".*}') >= jobs, "not all jobs run", 0.1)
    lines: list[Line] = [
        _promise(f"{title}: all Running", [run.running], MANY_SECONDS, note=f"ms of CPU per Pod: {run.shares}"),
        *_cpu({OURS: [run]}, title),
        *await _at_rest(stage, title),
        *await _restart(stage, title, jobs),
    ]
    return lines


async def many_beside_peers(stage: Stage, scale: float, _repeats: int) -> list[Line]:
    """As many small jobs as all sides can bring up in the time of one measurement."""
    jobs = max(2, round(200 * scale))
    runs = {side: [await bring_up(stage, side, jobs, 5)] for side in stage.sides}
    title = f"{jobs:,} jobs x 5 Pods"
    return list(_beside(runs, f"{title}: all Running", lambda run: run.running))


async def _at_rest(stage: Stage, title: str) -> list[Line]:
    """Events are sent one after the other, and come last."""
    before = -1
    while len(_all_writes(stage)) != before:
        before = len(_all_writes(stage))
        await asyncio.sleep(_QUIET_SECONDS)
    await asyncio.sleep(5.0)
    writes = len(_all_writes(stage)) - before
    return [_promise(f"{title}: writes in 5 s at rest", [writes], 0, unit="writes")]


async def _restart(stage: Stage, title: str, jobs: int) -> list[Line]:
    """Reconciled: each job has been looked at, and none waits."""
    before_memory = memory_mib(stage.operator)
    stage.operator.kill()
    before, started = len(_all_writes(stage)), time.perf_counter()
    await start(stage.operator)
    looks = "scalejob_reconcile_duration_seconds_count"
    await until(lambda: metric(stage.operator, looks) >= jobs, "not all jobs were looked at", 0.1)
    await until(lambda: metric(stage.operator, "scalejob_queue_depth") == 0, "jobs wait", 0.1)
    seconds = time.perf_counter() - started
    await asyncio.sleep(_QUIET_SECONDS)
    writes, memory = len(_all_writes(stage)) - before, memory_mib(stage.operator)
    return [
        _promise(
            f"{title}: restart until all is reconciled",
            [seconds],
            RESTART_SECONDS,
            note="from the start of the process",
        ),
        _promise(f"{title}: writes of that", [writes], 0, unit="writes"),
        _promise(
            f"{title}: memory",
            [max(memory, before_memory)],
            MEMORY_MIB,
            unit="MiB",
            note=f"resident: {before_memory:.0f} MiB after all were brought up, {memory:.0f} MiB after the restart",
        ),
    ]


def _all_writes(stage: Stage) -> list[str]:
    return [r.uri for r in stage.plane.audited() if r.is_write and r.user in OURS.users]


async def lives(stage: Stage, _scale: float, repeats: int) -> list[Line]:
    """Writes in the life of a job, and the time from the end of a worker to the next attempt."""
    kills = 4 * repeats
    return [*await _writes(stage), *await _reactions(stage, kills)]


async def _writes(stage: Stage) -> list[Line]:
    """Each side's job of 10 Pods runs and succeeds."""
    workers, counts = 10, {}
    for side in stage.sides:
        namespace = await stage.namespace()
        await stage.apply(side, namespace, ["job"], workers)
        await until(lambda: len(stage.kubelet.started[namespace]) >= workers, "not all run")  # noqa: B023
        await asyncio.sleep(_QUIET_SECONDS)
        names = sorted(stage.kubelet.started[namespace])
        await asyncio.gather(*(stage.kubelet.end(namespace, name, 0) for name in names))
        await asyncio.sleep(2 * _QUIET_SECONDS)
        counts[side] = Counter(stage.writes(side, namespace))
    ours = _others(counts[OURS])
    notes = "; ".join(f"{side.name}: {_told(count)}" for side, count in counts.items())
    name = f"writes for a job of {workers} Pods, besides creating them"
    return [
        _promise(name, [ours], OTHER_WRITES, unit="writes", note=notes),
        *(
            Figure(
                name=f"{name}, beside {side.name}", ours=ours, peer=_others(count), spread=0.0, bound=1.0, unit="writes"
            )
            for side, count in counts.items()
            if side is not OURS
        ),
    ]


def _others(count: Counter[str]) -> int:
    """Without Events, which are no state and may be dropped, and the account that every namespace gets."""
    counted = (number for what, number in count.items() if not what.endswith((" pods", " events", " serviceaccounts")))
    return sum(counted) + count["patch pods"] + count["delete pods"]


def _told(count: Counter[str]) -> str:
    return ", ".join(f"{number} x {what}" for what, number in count.most_common())


async def _reactions(stage: Stage, kills: int) -> list[Line]:
    """A worker of a job of 8 fails; until all Pods of the next attempt are created."""
    found = {side: await _killed(stage, side, kills) for side in stage.sides if side is not INDEXED_JOB}
    p95 = {side: quantiles(seconds, n=20)[-1] for side, seconds in found.items()}
    name = "a worker ends: next 8 Pods created, p95"
    lines: list[Line] = [
        _promise(name, [p95[OURS]], REACTION_SECONDS, note=f"of {kills}; median {median(found[OURS]):.2f} s")
    ]
    if JOBSET in p95:
        lines.append(Figure(name=f"{name}, beside JobSet", ours=p95[OURS], peer=p95[JOBSET], spread=0.0, bound=1.0))
    return lines


async def _killed(stage: Stage, side: Side, kills: int) -> list[float]:
    namespace, kubelet, workers, seconds = await stage.namespace(), stage.kubelet, 8, []
    body = side.make("job", workers)
    if side is OURS:
        body["spec"]["restarts"] = {"failures": kills, "backoffSeconds": 0}
    await stage.api.client.create(side.resource, namespace, body)
    gone: set[str] = set()
    for _ in range(kills):
        await until(lambda: len(kubelet.started[namespace] - gone) == workers, f"the workers of {side.name} do not run")  # noqa: B023
        await asyncio.sleep(_SETTLED_SECONDS)
        victim, gone = min(kubelet.started[namespace] - gone), set(kubelet.seen[namespace])
        started = time.perf_counter()
        await kubelet.end(namespace, victim, 137)
        await until(lambda: len(kubelet.seen[namespace] - gone) == workers, f"no next attempt of {side.name}")  # noqa: B023
        seconds.append(time.perf_counter() - started)
    return seconds


def _promise(name: str, found: list[float], promised: float, *, unit: str = "s", note: str = "") -> Figure:
    """Beside what was promised."""
    return Figure(name=name, ours=median(found), peer=promised, spread=spread(found), bound=1.0, unit=unit, note=note)


def _beside(runs: dict[Side, list[Run]], name: str, of: Callable[[Run], float]) -> Iterator[Line]:
    """Ours and each peer's, which took turns."""
    ours = [of(run) for run in runs[OURS]]
    for side in (INDEXED_JOB, JOBSET):
        if side not in runs:
            yield Absent(
                name=f"{name}, beside {side.name}", reason="`python -m tests.tools build jobset` builds it, given Go"
            )
            continue
        theirs = [of(run) for run in runs[side]]
        yield Figure(
            name=f"{name}, beside {side.name}",
            ours=median(ours),
            peer=median(theirs),
            spread=spread(ours),
            peer_spread=spread(theirs),
            bound=1.25,
            note=f"wall seconds; ms of CPU per Pod of ours: {runs[OURS][-1].shares}; of theirs: {runs[side][-1].shares}",
        )


def _cpu(runs: dict[Side, list[Run]], title: str) -> Iterator[Line]:
    """Of the operator, and of the controllers that do its work for the others."""
    found = {side: [run.cpu_ms(*CONTROLLERS[side]) for run in of_side] for side, of_side in runs.items()}
    others = ", ".join(f"{side.name} {median(values):.2f} ms" for side, values in found.items() if side is not OURS)
    name = f"{title}: CPU of the operator per Pod brought to Running"
    yield _promise(name, found[OURS], CPU_MS, unit="ms", note=f"controllers of the others: {others}" if others else "")


Case = Callable[[Stage, float, int], Coroutine[Any, Any, list[Line]]]
CASES: dict[str, Case] = {
    "one job": one_job,
    "many jobs": many_jobs,
    "many jobs beside others": many_beside_peers,
    "life": lives,
}
