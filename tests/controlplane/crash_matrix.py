"""Every call of the operator goes wrong in every way, and the job ends as if nothing had happened.

    python -m tests.controlplane.crash_matrix [--fraction 0.1] [--seed 0] [--life NAME ...] [--fault NAME ...]

For each life (`lives`) the calls of an undisturbed operator are counted; then, for each call and each fault (`fault_proxy`), the
life is played again in a namespace of its own and the fault strikes once. The operator is a process of its own with the rights
of its own role; "killed" is SIGKILL while the proxy holds the call, so no further call can leave, and a new operator
starts at once. It ends as it must if the end state is that of the undisturbed life, and nothing was seen on the way that must
never be (`witness`): a Pod made twice, two attempts live, a failure counted twice, an end taken back.

Calls that run side by side come in any order, so the number of a call is a place in a run, not a name: each run tells which it hit.
"""

import argparse
import asyncio
import itertools
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from scalejob.engine.options import Options
from scalejob.kube.client import Object
from scalejob.kube.config import from_kubeconfig
from tests.controlplane.alone import alone
from tests.controlplane.api import Api, Jobs
from tests.controlplane.control_plane import Access, ControlPlane
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.fault_proxy import Blow, Fault, FaultProxy, open_upstream
from tests.controlplane.lives import COMMON, LIVES, Life, Stage, difference, end_state
from tests.controlplane.nursery import Nursery, operating
from tests.controlplane.witness import Witness

_AT_ONCE = 8
_QUIET_SECONDS = 0.4
_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run. `call` is what was struck, or None if the run had fewer calls."""

    life: str
    blow: Blow | None
    calls: tuple[str, ...]
    call: str | None
    end: Object
    violations: tuple[str, ...]

    def __str__(self) -> str:
        blow = f"{self.blow.fault} at call {self.blow.at} ({self.call})" if self.blow else "undisturbed"
        return f"{self.life}, {blow}: " + "; ".join(self.violations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Plays lives. `token` is that of the operator's account."""

    api: Api
    kubelet: FakeKubelet
    witness: Witness
    nursery: Nursery
    session: aiohttp.ClientSession
    access: Access
    home: Path
    numbers: Iterator[int]

    async def play(self, life: Life, blow: Blow | None = None, want: Object | None = None) -> Outcome:
        """One life from the beginning to the end, with one blow at most."""
        namespace = f"crash-{next(self.numbers)}"
        jobs = Jobs(self.api, namespace)
        stage = Stage(jobs=jobs, kubelet=self.kubelet, witness=self.witness, spec=COMMON | life.spec)
        await self.api.new_namespace(namespace)
        await stage.begin()
        proxy = FaultProxy(self.access.server, self.session, blow)
        async with proxy.serving() as url, operating(self.nursery, proxy, self._options(url, namespace)) as violations:
            try:
                await life.story(stage)
            except TimeoutError as error:
                violations.append(str(error))
            end = await _settle(stage, proxy, want)
        if want is not None and end != want:
            violations.append(difference(want, end))
        return Outcome(
            life=life.name,
            blow=blow,
            calls=tuple(proxy.calls),
            call=proxy.struck[0][1] if proxy.struck else None,
            end=end,
            violations=(*violations, *stage.violations),
        )

    def _options(self, url: str, namespace: str) -> Options:
        access = Access(server=url, ca=self.access.ca, token=self.access.token)
        kubeconfig = access.write_kubeconfig(self.home / f"{namespace}.kubeconfig")
        return Options(
            trainer_image="trainer",
            namespaces=(namespace,),
            kubeconfig=str(kubeconfig),
            metrics_port=0,
            log_format="text",
        )


async def _settle(stage: Stage, proxy: FaultProxy, want: Object | None) -> Object:
    """The end state once the operator is at rest and it is the wanted one, or after some patience.

    If none is wanted: once it is the same twice, since the garbage collector has its own pace.
    """
    deadline, end = time.monotonic() + _PATIENCE_SECONDS, want
    while True:
        await _rest(proxy, deadline)
        before = end if want is None else want
        end = await end_state(stage)
        if end == before or time.monotonic() > deadline:
            return end


async def _rest(proxy: FaultProxy, deadline: float) -> None:
    """Both watches are open, and no call comes for a moment."""
    since, before = time.monotonic(), -1
    while time.monotonic() < min(since + _QUIET_SECONDS, deadline):
        if len(proxy.watched) < 2 or len(proxy.calls) != before:
            since, before = time.monotonic(), len(proxy.calls)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def open_matrix(plane: ControlPlane, api: Api, kubelet: FakeKubelet) -> AsyncIterator[Matrix]:
    """Ready to play."""
    config = from_kubeconfig(plane.write_operator_kubeconfig())
    assert config.token
    witness = Witness(api.client)
    async with open_upstream(config) as session, witness.watching():
        with Nursery(plane.home / "crash-matrix.log") as nursery:
            yield Matrix(
                api=api,
                kubelet=kubelet,
                witness=witness,
                nursery=nursery,
                session=session,
                access=plane.access_with(config.token),
                home=plane.home,
                numbers=itertools.count(),
            )


def blows(calls: Sequence[str], faults: Sequence[Fault] = tuple(Fault)) -> list[Blow]:
    """All that can go wrong."""
    places = (Blow(fault=fault, at=at) for fault in faults for at in range(len(calls)))
    return [blow for blow in places if blow.fault.fits(calls[blow.at])]


def some(chosen: Sequence[Blow], fraction: float, seed: str) -> list[Blow]:
    """A part of them; another seed gives others."""
    return random.Random(seed).sample(chosen, round(fraction * len(chosen)))  # noqa: S311 - no secret


async def play_all(matrix: Matrix, life: Life, chosen: Sequence[Blow], want: Object) -> list[Outcome]:
    """Side by side, since most of a run is waiting."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def play(blow: Blow) -> Outcome:
        async with places:
            return await matrix.play(life, blow, want)

    return list(await asyncio.gather(*map(play, chosen)))


def report(model: Outcome, outcomes: Sequence[Outcome]) -> str:
    """One line for each fault that was tried."""
    lines = []
    for fault in Fault:
        runs = [outcome for outcome in outcomes if outcome.blow and outcome.blow.fault is fault]
        num_struck = sum(outcome.call is not None for outcome in runs)
        num_bad = sum(bool(outcome.violations) for outcome in runs)
        if runs:
            lines.append(f"{model.life:24}{fault:16}{len(model.calls):6}{len(runs):6}{num_struck:8}{num_bad:12}")
    return "\n".join(lines)


async def _main(options: argparse.Namespace) -> int:
    started, found = time.monotonic(), []
    print(f"{'life':24}{'fault':16}{'calls':>6}{'runs':>6}{'struck':>8}{'violations':>12}")
    async with alone() as (plane, api, kubelet), open_matrix(plane, api, kubelet) as matrix:
        for life in options.life or LIVES:
            model = await matrix.play(life)
            chosen = some(blows(model.calls, options.fault or tuple(Fault)), options.fraction, options.seed + life.name)
            outcomes = await play_all(matrix, life, chosen, model.end)
            print(report(model, outcomes), flush=True)
            found += [outcome for outcome in (model, *outcomes) if outcome.violations]
    print(*found, sep="\n")
    print(f"{time.monotonic() - started:.0f} s, {len(found)} runs with violations")
    return 1 if found else 0


def main() -> None:
    lives = {life.name: life for life in LIVES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=1.0, help="how many of all runs")
    parser.add_argument("--seed", default="0", help="which of them")
    parser.add_argument("--life", type=lives.__getitem__, action="append", help=f"of {', '.join(lives)}")
    parser.add_argument("--fault", type=Fault, choices=list(Fault), action="append")
    sys.exit(asyncio.run(_main(parser.parse_args())))


if __name__ == "__main__":
    main()
