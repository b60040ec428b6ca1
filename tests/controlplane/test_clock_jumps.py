"""The clock of the operator's host is set, while it runs or while it is away: deadlines and back-offs keep their length."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from scalejob.contract import Phase
from scalejob.engine.options import Options
from tests.controlplane.api import Jobs
from tests.controlplane.control_plane import ControlPlane, OperatorProcess
from tests.controlplane.fake_nodes import FakeKubelet
from tests.controlplane.nursery import Nursery

HOUR = 3600.0


@dataclass(slots=True, kw_only=True)
class Host:
    """Of an operator of one namespace. Its clock is wrong by what stands in a file."""

    nursery: Nursery
    options: Options
    clock: Path
    pids: list[int] = field(default_factory=list)

    def set_clock(self, seconds: float) -> None:
        self.clock.write_text(str(seconds))

    def start(self) -> None:
        self.pids.append(self.nursery.start(self.options, self.clock))

    def kill(self) -> None:
        assert self.nursery.kill(self.pids.pop())

    def jump(self, seconds: float) -> None:
        """While the operator runs."""
        self.set_clock(seconds)

    def jump_while_away(self, seconds: float) -> None:
        self.kill()
        self.set_clock(seconds)
        self.start()


@pytest_asyncio.fixture(loop_scope="session")
async def host(
    control_plane: ControlPlane, jobs: Jobs, kubelet: FakeKubelet, operator_process: OperatorProcess, tmp_path: Path
) -> AsyncIterator[Host]:
    """With a running operator."""
    if operator_process.is_running:
        operator_process.stop()
    options = Options(
        trainer_image="trainer",
        namespaces=(jobs.namespace,),
        kubeconfig=str(control_plane.write_operator_kubeconfig()),
        metrics_port=0,
        log_format="text",
    )
    with Nursery(control_plane.home / "clock.log") as nursery:
        host = Host(nursery=nursery, options=options, clock=tmp_path / "clock")
        host.set_clock(0)
        host.start()
        yield host
        host.kill()


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_a_deadline_does_not_come_early_or_late_by_a_jump(host: Host, jobs: Jobs, seconds: float):
    """One that is half an hour away does not end the job at once; one of a second does not take an hour."""
    await jobs.create("long", deadlines={"activeSeconds": 1800})
    await jobs.reaches(Phase.RUNNING, "long")
    await jobs.create("short", deadlines={"activeSeconds": 2})
    await jobs.reaches(Phase.RUNNING, "short")
    host.jump(seconds)
    edited = await jobs.patch("long", ttlSecondsAfterFinished=1)  # so that the operator looks at it
    await jobs.reaches(Phase.FAILED, "short", reason="DeadlineExceeded")
    await jobs.reaches(Phase.RUNNING, "long", observedGeneration=edited["metadata"]["generation"])


@pytest.mark.parametrize("jump", [Host.jump, Host.jump_while_away])
async def test_no_attempt_waits_for_a_clock_that_was_set_back(
    host: Host, jobs: Jobs, kubelet: FakeKubelet, jump: Callable[[Host, float], None]
):
    """The end of the back-off is a stored time, which may lie an hour ahead then."""
    await jobs.create(restarts={"backoffSeconds": 3})
    await jobs.reaches(Phase.RUNNING)
    await kubelet.end(jobs.namespace, "job-0-0", 1)
    await jobs.reaches(Phase.RESTARTING, attempt=1)
    jump(host, -HOUR)
    await jobs.reaches(Phase.RUNNING, attempt=1)


async def test_a_deadline_is_met_though_its_start_is_to_come(host: Host, jobs: Jobs):
    """The operator was away, and its clock has been set back since."""
    await jobs.create(deadlines={"activeSeconds": 3})
    await jobs.reaches(Phase.RUNNING)
    host.jump_while_away(-HOUR)
    await jobs.reaches(Phase.FAILED, reason="DeadlineExceeded")
