"""Two replicas of the operator, of which the leader is killed again and again while jobs come, run, fail and end.

    python -m tests.controlplane.failover [--kills 20] [--jobs 200] [--seed 0]

Half of the kills are SIGKILL, half SIGTERM, in an order and at moments that follow from the seed. A failover lasts from the signal
until the other replica's `scalejob_leader` is 1; then the killed one is started again, to stand by. Each job plays one of those
`lives` that end well. It is lost if its life does not come to its end. It is doubled if a Pod was made twice, two attempts
were live, a failure was counted twice (`witness`), or if the end differs from that of the same life under one operator that nobody
killed: an attempt that no fault explains is such a difference.
"""

import argparse
import asyncio
import itertools
import math
import random
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from scalejob.engine.options import Options
from scalejob.kube.client import Object
from tests.controlplane.alone import alone
from tests.controlplane.api import Api, Jobs
from tests.controlplane.control_plane import ControlPlane, free_port
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.lives import COMMON, LIVES, Life, Stage, difference, end_state
from tests.controlplane.nursery import Nursery
from tests.controlplane.replicas import (
    FAILOVER_SECONDS,
    HANDOVER_SECONDS,
    LEASE,
    wait_until_it_leads,
    wait_until_ready,
)
from tests.controlplane.witness import Witness

BOUNDS = {signal.SIGKILL: FAILOVER_SECONDS, signal.SIGTERM: HANDOVER_SECONDS}
_LIVES = tuple(life for life in LIVES if life.name in ("succeeds", "fails once", "suspended and resumed"))
_LEADS_SECONDS = (0.3, 3.0)  # between two kills, once the other is ready to follow
_JOBS_COME_SECONDS = 5.0  # those of one kill: before it, while nobody leads, and after it
_SETTLE_SECONDS = 20.0
# A job may meet several failovers in a row, and between them few seconds in which anybody acts.
_PATIENCE_SECONDS = 120.0


@dataclass(slots=True, kw_only=True)
class Replica:
    """One operator of the two, whatever process it is at present."""

    nursery: Nursery
    options: Options
    pid: int = 0

    @property
    def port(self) -> int:
        return self.options.metrics_port

    def start(self) -> None:
        self.pid = self.nursery.start(self.options)

    async def end(self, how: signal.Signals) -> None:
        """The event loop goes on meanwhile: the kubelets live in it."""
        if how is signal.SIGTERM:
            assert await asyncio.to_thread(self.nursery.stop, self.pid) == 0
        else:
            assert await asyncio.to_thread(self.nursery.kill, self.pid), "it had ended by itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of one run. `doubled` and `lost` are sentences."""

    seconds: dict[signal.Signals, list[float]]  # of each failover
    job_seconds: list[float]  # of the whole life of each job
    doubled: list[str]
    lost: list[str]

    @property
    def is_good(self) -> bool:
        in_time = all(p95(times) < BOUNDS[how] for how, times in self.seconds.items() if times)
        return in_time and not self.doubled and not self.lost

    def __str__(self) -> str:
        lines = [f"{'signal':10}{'kills':>6}{'median s':>10}{'p95 s':>8}{'max s':>8}{'p95 must be below':>20}"]
        for how, times in self.seconds.items():
            if times:
                figures = f"{statistics.median(times):10.2f}{p95(times):8.2f}{max(times):8.2f}"
                lines.append(f"{how.name:10}{len(times):6}{figures}{BOUNDS[how]:20.0f}")
        times = self.job_seconds or [math.nan]
        lines.append(
            f"{len(self.job_seconds) + len(self.lost)} jobs, {statistics.median(times):.1f} s each, at most {max(times):.1f}"
        )
        lines.append(f"{len(self.doubled)} duplicates (0 expected), {len(self.lost)} lost (0 expected)")
        return "\n".join([*lines, *self.doubled, *self.lost])


def p95(times: Sequence[float]) -> float:
    """Nearest rank: one of the times, never between two."""
    return sorted(times)[math.ceil(0.95 * len(times)) - 1]


@dataclass(slots=True, kw_only=True)
class Soak:
    """`replicas` run; the first of them leads."""

    api: Api
    kubelet: FakeKubelet
    witness: Witness
    replicas: list[Replica]
    chance: random.Random
    ends: dict[str, Object] = field(default_factory=dict)
    job_seconds: list[float] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def run(self, kills: int, num_jobs: int) -> Result:
        """All of it."""
        await asyncio.gather(*(self._learn(life) for life in _LIVES))
        signals = [how for how, _ in zip(itertools.cycle(BOUNDS), range(kills), strict=False)]
        self.chance.shuffle(signals)
        seconds: dict[signal.Signals, list[float]] = {how: [] for how in BOUNDS}
        jobs: list[asyncio.Task[None]] = []
        for number, how in enumerate(signals, 1):
            share = num_jobs * number // kills - len(jobs)
            jobs += [
                asyncio.create_task(self._play_later(self.chance.uniform(0, _JOBS_COME_SECONDS))) for _ in range(share)
            ]
            seconds[how].append(await self._fail_over(how))
        await asyncio.gather(*jobs)
        return Result(seconds=seconds, job_seconds=self.job_seconds, doubled=self.doubled, lost=self.lost)

    async def _fail_over(self, how: signal.Signals) -> float:
        """The leader is killed and started again, and the other leads. Seconds until it did."""
        leader, other = self.replicas
        await wait_until_ready(other.port)
        await asyncio.sleep(self.chance.uniform(*_LEADS_SECONDS))
        took, _ = await asyncio.gather(wait_until_it_leads(other.port), leader.end(how))
        leader.start()
        self.replicas = [other, leader]
        return took

    async def _learn(self, life: Life) -> None:
        """How the life ends if nobody is killed: once nothing of it changes any more."""
        stage = await self._begin(life)
        await life.story(stage)
        before, end = None, await end_state(stage)
        while end != before:
            await asyncio.sleep(2)
            before, end = end, await end_state(stage)
        assert not stage.violations
        self.ends[life.name] = end

    async def _play_later(self, seconds: float) -> None:
        life = self.chance.choice(_LIVES)
        await asyncio.sleep(seconds)
        started, stage = time.monotonic(), await self._begin(life)
        name = f"{stage.jobs.namespace} ({life.name})"
        try:
            await life.story(stage)
        except TimeoutError as error:
            self.lost.append(f"{name}: {error}")
        else:
            self.job_seconds.append(time.monotonic() - started)
            if found := await self._differs(stage, self.ends[life.name]):
                self.doubled.append(f"{name}: {found}")
        self.doubled += [f"{name}: {violation}" for violation in stage.violations]

    async def _begin(self, life: Life) -> Stage:
        jobs = Jobs(self.api, f"failover-{next(self._numbers)}")
        await self.api.new_namespace(jobs.namespace)
        spec = COMMON | life.spec
        stage = Stage(jobs=jobs, kubelet=self.kubelet, witness=self.witness, spec=spec, patience=_PATIENCE_SECONDS)
        await stage.begin()
        return stage

    async def _differs(self, stage: Stage, want: Object) -> str:
        """How the end differs from the wanted one, which may take a moment to come: Pods are deleted after the last status."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            found = difference(want, await end_state(stage))
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)


@asynccontextmanager
async def open_soak(plane: ControlPlane, api: Api, kubelet: FakeKubelet, seed: int) -> AsyncIterator[Soak]:
    """Both replicas run, and one leads. No other operator may."""
    witness, kubeconfig = Witness(api.client), str(plane.write_operator_kubeconfig())
    with Nursery(plane.home / "failover.log") as nursery:
        options = Options(trainer_image="trainer", kubeconfig=kubeconfig, lease=LEASE, log_format="text")
        replicas = [Replica(nursery=nursery, options=replace(options, metrics_port=free_port())) for _ in range(2)]
        async with witness.watching():
            for replica in replicas:
                replica.start()
                await (wait_until_it_leads if replica is replicas[0] else wait_until_ready)(replica.port)
            yield Soak(
                api=api,
                kubelet=kubelet,
                witness=witness,
                replicas=replicas,
                chance=random.Random(seed),  # noqa: S311 - no secret
            )


async def _main(options: argparse.Namespace) -> int:
    started = time.monotonic()
    async with alone() as (plane, api, kubelet), open_soak(plane, api, kubelet, options.seed) as soak:
        result = await soak.run(options.kills, options.jobs)
    print(result)
    print(f"{time.monotonic() - started:.0f} s")
    return 0 if result.is_good else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of the replica that leads")
    parser.add_argument("--jobs", type=int, default=200, help="over the run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, the signals and the lives")
    sys.exit(asyncio.run(_main(parser.parse_args())))


if __name__ == "__main__":
    main()
