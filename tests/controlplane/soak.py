"""Many jobs of all shapes to which everything happens, looked after by an operator to which everything happens too.

    python -m tests.controlplane.soak [--jobs 300] [--seed 0] [--at-once 30] [--share 0.03] [--outage SECONDS]

Workers exit, hang and are evicted, Pods are deleted, jobs are suspended, scaled, made anew under their name and deleted
(`soak_acts`). Meanwhile a share of the operator's calls goes wrong in one of the ways of `fault_proxy`: it is killed before or after
their commit, answers are lost, refused or late, watches break or tell of things late, twice or in another order. With --outage
nobody reaches the API server for some time in the middle. The seed decides what happens; when, the machine.

At all times hold, as a witness sees that asks the API server itself: no Pod of an attempt is made twice, no two attempts are live at
once, attempts and counters go up by one at a time, an end stays. And each job comes to the end that it must, with a count of its
restarts that is exactly that of what ended an attempt. In the end nothing is left that belongs to no job.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scalejob.contract import LABEL_JOB
from scalejob.engine.options import Options
from scalejob.engine.status import SCALEJOBS
from scalejob.kube.client import PODS, SERVICES, Object, Resource, Selection
from scalejob.kube.config import from_kubeconfig
from scalejob.kube.errors import Conflict, NotFound
from scalejob.plan.observe import controller_of
from tests.controlplane.alone import alone
from tests.controlplane.api import Api, Jobs
from tests.controlplane.control_plane import ControlPlane
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.fault_proxy import Fault, FaultProxy, open_upstream
from tests.controlplane.lives import Stage
from tests.controlplane.nursery import Nursery, operating
from tests.controlplane.soak_acts import ACTS, ENDS, FAILING, KEPT, Player
from tests.controlplane.witness import Witness

_NUM_NAMESPACES = 4
_PATIENCE_SECONDS = 120.0
_GARBAGE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The names of the acts and of the end, and the spec that goes with them."""

    acts: tuple[str, ...]
    end: str
    spec: dict[str, Any]


def draw(chance: random.Random) -> Script:
    """The same state of `chance` gives the same one."""
    acts = tuple(chance.sample(sorted(ACTS), chance.choice((0, 1, 1, 2, 2, 3))))
    return Script(
        acts=acts,
        end=chance.choice((*ENDS, "succeeds", "succeeds")),
        spec={
            "workers": chance.randint(1, 4),
            "keepPods": chance.choice(sorted(KEPT)),
            "restarts": {
                "failures": len(set(acts) & set(FAILING)) + 1,
                "backoffSeconds": chance.choice((0, 0, 1)),
                "backoffMaxSeconds": 2,
            },
        },
    )


async def play(stage: Stage, script: Script, chance: random.Random) -> None:
    """The whole life of the job. What is not as it should be is in the record; the first thing that does not come ends it."""
    await stage.begin()
    player = Player(stage=stage, chance=chance, workers=script.spec["workers"])
    try:
        await player.runs()
        for act in script.acts:
            await ACTS[act](player)
            await player.runs()
        await ENDS[script.end](player)
    except (TimeoutError, NotFound, Conflict) as error:
        player.violate(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Chance:
    """A fault of any kind, at a share of the calls."""

    random: random.Random
    share: float

    def __call__(self, _number: int, call: str) -> Fault | None:
        if self.random.random() >= self.share:
            return None
        return self.random.choice([fault for fault in Fault if fault.fits(call)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of one run. `violations` are sentences."""

    scripts: Sequence[Script]
    pods: int
    calls: int
    faults: Counter[Fault]
    seconds: float
    violations: Sequence[str]

    def __str__(self) -> str:
        acts = Counter(act for script in self.scripts for act in script.acts)
        ends = Counter(script.end for script in self.scripts)
        lines = [
            f"{len(self.scripts)} jobs, {self.pods} Pods, {self.calls} calls, {self.seconds:.0f} s",
            *_table("what happened to jobs", [(act, acts[act]) for act in ACTS]),
            *_table("how they ended", [(end, ends[end]) for end in ENDS]),
            *_table("what happened to the operator", [(fault.value, self.faults[fault]) for fault in Fault]),
            f"violations: {len(self.violations)}",
        ]
        return "\n".join([*lines, *self.violations])


def _table(title: str, rows: Sequence[tuple[str, int]]) -> list[str]:
    return [f"{title:40}{sum(count for _, count in rows):6}", *(f"  {name:38}{count:6}" for name, count in rows)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of it; `share` of the calls that go wrong, `outage` in seconds."""

    jobs: int = 300
    seed: int = 0
    at_once: int = 30
    share: float = 0.03
    outage: float = 0.0

    def chances(self) -> list[random.Random]:
        """One for each job."""
        return [random.Random(f"{self.seed}/{number}") for number in range(self.jobs)]  # noqa: S311 - no secret


@dataclass(slots=True, kw_only=True)
class Soak:
    """An operator runs behind `proxy`."""

    api: Api
    kubelet: FakeKubelet
    witness: Witness
    proxy: FaultProxy
    plan: Plan
    stages: list[Stage] = field(default_factory=list)

    @property
    def namespaces(self) -> list[str]:
        return [f"soak-{self.plan.seed}-{number}" for number in range(_NUM_NAMESPACES)]

    async def run(self) -> Result:
        """All of it."""
        started, plan = time.monotonic(), self.plan
        for namespace in self.namespaces:
            await self.api.new_namespace(namespace)
        chances = plan.chances()
        scripts, places = [draw(chance) for chance in chances], asyncio.Semaphore(plan.at_once)
        lives = [self._play(places, n, *life) for n, life in enumerate(zip(scripts, chances, strict=True))]
        await asyncio.gather(*lives, self._lose_the_api_server())
        orphans = await self._orphans()
        return Result(
            scripts=scripts,
            pods=sum(len(record.made) for stage in self.stages for record in stage.records),
            calls=len(self.proxy.calls),
            faults=Counter(fault for fault, _ in self.proxy.struck),
            seconds=time.monotonic() - started,
            violations=[*self._violations(), *orphans],
        )

    async def _play(self, places: asyncio.Semaphore, number: int, script: Script, chance: random.Random) -> None:
        async with places:
            jobs = Jobs(self.api, self.namespaces[number % _NUM_NAMESPACES])
            stage = Stage(
                jobs=jobs,
                kubelet=self.kubelet,
                witness=self.witness,
                spec=script.spec,
                name=f"job{number}",
                patience=_PATIENCE_SECONDS + self.plan.outage,
            )
            self.stages.append(stage)
            await play(stage, script, chance)

    async def _lose_the_api_server(self) -> None:
        """As soon as half of the jobs have begun."""
        while self.plan.outage and len(self.stages) < self.plan.jobs // 2:  # noqa: ASYNC110 - as `Stage.until`
            await asyncio.sleep(0.1)
        if self.plan.outage:
            await self.proxy.go_away(self.plan.outage)

    def _violations(self) -> list[str]:
        return [f"{stage.jobs.namespace}/{stage.name}: {text}" for stage in self.stages for text in stage.violations]

    async def _orphans(self) -> list[str]:
        """Pods and Services whose job is gone; the garbage collector gets some time for them."""
        for _ in range(_GARBAGE_SECONDS):
            if not (found := await self._without_job()):
                return []
            await asyncio.sleep(1)
        return [f"left over: {what}" for what in found]

    async def _without_job(self) -> list[str]:
        uids = {job["metadata"]["uid"] for job in await self._list(SCALEJOBS)}
        children = [*await self._list(PODS, LABEL_JOB), *await self._list(SERVICES, LABEL_JOB)]
        return [
            f"{body['metadata']['namespace']}/{body['metadata']['name']}"
            for body in children
            if (controller_of(body) or {}).get("uid") not in uids
        ]

    async def _list(self, resource: Resource, label: str | None = None) -> list[Object]:
        pages = [
            await self.api.client.list_page(
                Selection(resource=resource, namespace=namespace, label_selector=label), limit=10_000
            )
            for namespace in self.namespaces
        ]
        return [body for page in pages for body in page.items]


async def soak(plane: ControlPlane, api: Api, kubelet: FakeKubelet, plan: Plan) -> Result:
    """With an operator of its own; no other may run."""
    config = from_kubeconfig(plane.write_operator_kubeconfig())
    assert config.token
    witness, access = Witness(api.client), plane.access_with(config.token)
    chance = Chance(random.Random(plan.seed), plan.share)  # noqa: S311 - no secret
    async with open_upstream(config) as session, witness.watching():
        proxy = FaultProxy(access.server, session, chance)
        with Nursery(plane.home / "soak.log") as nursery:
            async with proxy.serving() as url:
                kubeconfig = replace(access, server=url).write_kubeconfig(plane.home / "soak.kubeconfig")
                options = Options(
                    trainer_image="trainer", kubeconfig=str(kubeconfig), metrics_port=0, log_format="text"
                )
                async with operating(nursery, proxy, options) as violations:
                    result = await Soak(api=api, kubelet=kubelet, witness=witness, proxy=proxy, plan=plan).run()
    return replace(result, violations=[*result.violations, *violations])


async def _main(plan: Plan) -> int:
    async with alone() as (plane, api, kubelet):
        result = await soak(plane, api, kubelet, plan)
    print(result)
    return 1 if result.violations else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300, help="over the run")
    parser.add_argument("--seed", type=int, default=0, help="of what happens")
    parser.add_argument("--at-once", type=int, default=30, help="jobs")
    parser.add_argument("--share", type=float, default=0.03, help="of the calls that go wrong")
    parser.add_argument("--outage", type=float, default=0.0, help="seconds in which the API server is out of reach")
    sys.exit(asyncio.run(_main(Plan(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()
