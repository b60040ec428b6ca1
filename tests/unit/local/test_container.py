"""What of a Pod's manifest becomes of a local process."""

import json
import sys
from pathlib import Path

import pytest

from scalejob.api.v1alpha1 import ScaleJob
from scalejob.contract import Env
from scalejob.local.container import Container, Place, Unresolvable, build_container
from scalejob.local.runner import plan_job
from scalejob.plan.environment import build_environment
from scalejob.plan.pods import PodDefaults, build_pod
from tests.unit.local.builders import make_command, make_job


def contain(job: ScaleJob, index: int = 0, **caller_env: str) -> Container:
    planned = plan_job(job)
    place = Place(
        port=4711,
        threads=3,
        folder=Path("/run/x"),
        loopback="lo",
        caller_env={"PATH": "/bin", "HOME": "/me"} | caller_env,
    )
    return build_container(build_pod(planned, 0, index, PodDefaults(trainer_image="none")), planned.spec, place)


@pytest.mark.parametrize("workload", [{"kmeans": {"clusters": 3}}, {"command": {"argv": ["python", "x.py"]}}])
@pytest.mark.parametrize("processes", [1, 2])
def test_the_whole_contract_is_set(workload: dict[str, object], processes: int) -> None:
    """A program finds here what it would find in a Pod, whatever optional blocks the job has."""
    job = make_job(workload=workload, processesPerWorker=processes)
    assert build_environment(plan_job(job), 0, 1).keys() <= contain(job, index=1).env.keys()


def test_ranks_meet_on_this_machine() -> None:
    """At a port that was free a moment ago, for torch.distributed and for torchrun."""
    env = contain(make_job()).env
    assert {env[n] for n in (Env.MASTER_ADDR, Env.PET_MASTER_ADDR)} == {"127.0.0.1"}
    assert {env[n] for n in (Env.MASTER_PORT, Env.PET_MASTER_PORT)} == {"4711"}


def test_cores_are_shared() -> None:
    """The CPU limit of a Pod says nothing about this machine."""
    env = contain(make_job(pod={"resources": {"limits": {"cpu": 64}}})).env
    assert env[Env.OMP_NUM_THREADS] == env[Env.MKL_NUM_THREADS] == "3"


def test_the_task_has_local_paths() -> None:
    """Under a mount: below .scalejob."""
    assert json.loads(contain(make_job()).env[Env.SPEC])["output"]["uri"] == ".scalejob/models/a"


def test_python_is_this_interpreter() -> None:
    """Which has the libraries; other programs of its environment are on the PATH."""
    container = contain(make_command("python", "train.py"))
    assert container.argv == (sys.executable, "train.py")
    assert container.env["PATH"].startswith(str(Path(sys.executable).parent))


def test_words_of_a_command_come_as_they_were_written() -> None:
    """No shell and no kubelet expands them; only paths under a mount change."""
    words = ("sh", "$(SCALEJOB_INDEX)", "$$(HOME)", "$HOME", "a;b")
    assert contain(make_command(*words, "/models/x")).argv == (*words, ".scalejob/models/x")


def test_variables_of_the_job_win_over_the_callers() -> None:
    """And may refer to those of the contract, as a kubelet has it: unknown names stay, $$ is a dollar sign."""
    variable = {"name": "WHO", "value": "$(SCALEJOB_NAME) $(NO_SUCH) $$(HOME)"}
    env = contain(make_job(pod={"env": [variable]}), WHO="me", OTHER="kept").env
    assert (env["WHO"], env["OTHER"]) == ("job $(NO_SUCH) $(HOME)", "kept")


def test_the_callers_own_rank_is_not_passed_on() -> None:
    """Several processes of a worker get theirs from torchrun; one that is left over from elsewhere would win."""
    assert Env.RANK not in contain(make_job(processesPerWorker=2), RANK="7").env


def test_home_is_the_callers_unless_the_job_sets_it() -> None:
    """/tmp is the home of a uid that no image knows; here there is a real one."""
    assert contain(make_job()).env["HOME"] == "/me"
    assert contain(make_job(pod={"env": [{"name": "HOME", "value": "/x"}]})).env["HOME"] == "/x"


SECRET = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
OPTIONAL = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}


def test_a_value_from_a_cluster_object_is_taken_from_the_caller() -> None:
    """The way to give a token to a local run."""
    assert contain(make_job(pod={"env": [SECRET]}), TOKEN="t").env["TOKEN"] == "t"
    assert "TOKEN" not in contain(make_job(pod={"env": [OPTIONAL]})).env


def test_a_value_that_only_a_cluster_has_is_named() -> None:
    """Instead of a program that fails without it."""
    with pytest.raises(Unresolvable, match=r"spec\.pod\.env: TOKEN: .* set the variable in the environment"):
        contain(make_job(pod={"env": [SECRET]}))


def test_a_worker_sees_its_own_gpus_only() -> None:
    """None without `gpus`, as in a Pod."""
    assert contain(make_job()).env["CUDA_VISIBLE_DEVICES"] == ""
    assert contain(make_job(gpus={"perWorker": 2}), index=1).env["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_workers_of_one_job_have_different_marks() -> None:
    """The end of one must not end the other."""
    job = plan_job(make_job())
    place = Place(port=1, threads=1, folder=Path("/run/x"), loopback="lo", caller_env={})
    pods = [build_pod(job, 0, index, PodDefaults(trainer_image="none")) for index in range(2)]
    first, second = (build_container(pod, job.spec, place) for pod in pods)
    assert first.marks != second.marks


def test_what_concerns_a_cluster_only_does_not_keep_a_job_from_running() -> None:
    """Somebody has asked for this run."""
    job = plan_job(make_job(suspend=True, managedBy="example.com/other", ttlSecondsAfterFinished=0))
    assert not job.spec.suspend
    assert job.spec.managed_by == "scalejob.io/operator"
    assert job.spec.ttl_seconds_after_finished is None
