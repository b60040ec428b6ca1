"""Rendered Pods and Services: golden files for what a user gets, and the rules that hold for all of them.

`UPDATE_GOLDEN=1 pytest tests/unit/plan/test_objects.py` writes the files anew; look at the difference before you commit it.
"""

import os
from pathlib import Path

import pytest
import yaml

from scalejob.api.v1alpha1.pod import quantity
from scalejob.contract import Env
from scalejob.plan.environment import num_threads
from scalejob.plan.pods import build_pod, build_service
from tests.unit.plan.builders import DEFAULTS, JobBuilder, make_job

GOLDEN = Path(__file__).parent / "golden"

EVERYTHING = (
    make_job()
    .workers(3)
    .spec(
        prepare={"missing": "mean", "scale": "standard", "pca": {"components": 2}},
        validation={"fraction": 0.25},
        seed=42,
        processesPerWorker=2,
        gpus={"perWorker": 4, "resource": "amd.com/gpu"},
        rendezvous={"backend": "nccl", "port": 29510, "timeoutSeconds": 120},
    )
    .pod(
        image="registry.example.com/team/train:1.2",
        imagePullPolicy="Always",
        imagePullSecrets=[{"name": "registry"}],
        resources={"requests": {"cpu": 2, "memory": "8Gi"}, "limits": {"cpu": "3500m", "memory": "8Gi"}},
        env=[
            {"name": "HOME", "value": "/work"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "value"}}},
        ],
        envFrom=[{"configMapRef": {"name": "settings"}}],
        volumes=[
            {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "10Gi"}},
        ],
        volumeMounts=[
            {"name": "models", "mountPath": "/models", "subPath": "team-a"},
            {"name": "scratch", "mountPath": "/tmp/"},
        ],
        sharedMemory="1Gi",
        nodeSelector={"gpu": "a100"},
        tolerations=[
            {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300},
        ],
        affinity={"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        priorityClassName="training",
        schedulerName="gang",
        schedulingGates=[{"name": "example.com/quota"}],
        runtimeClassName="nvidia",
        serviceAccountName="trainer",
        labels={"team": "a", "app.kubernetes.io/name": "mine"},
        annotations={"note": "kept"},
        terminationGracePeriodSeconds=60,
    )
)

JOBS = {
    "plain": make_job().workers(2),
    "gpu": make_job().workers(2).gpus(8),
    "command": make_job().workers(2).command("sh", "-c", "echo $(RANK) $HOME"),
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("name", JOBS)
def test_objects_are_as_reviewed(name: str) -> None:
    """The Service and the second Pod of the third attempt, to the letter."""
    job, path = JOBS[name].build(), GOLDEN / f"{name}.yaml"
    objects = [build_service(job), build_pod(job, 2, 1, DEFAULTS)]
    text = yaml.safe_dump_all(objects, sort_keys=False, width=110)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def worker(builder: JobBuilder, index: int = 0) -> dict:
    return build_pod(builder.build(), 0, index, DEFAULTS)["spec"]["containers"][0]


def env(builder: JobBuilder, index: int = 0) -> dict[str, str]:
    return {variable["name"]: variable.get("value") for variable in worker(builder, index)["env"]}


PER_PROCESS = {
    Env.WORLD_SIZE,
    Env.RANK,
    Env.LOCAL_RANK,
    Env.LOCAL_WORLD_SIZE,
    Env.GROUP_RANK,
    Env.NODE_RANK,
    Env.GROUP_WORLD_SIZE,
}


@pytest.mark.parametrize("name", JOBS)
def test_every_variable_of_the_contract_is_set(name: str) -> None:
    """Whatever blocks a job has. Identity of a process is set by the launcher if there are several."""
    several = JOBS[name].build().spec.num_processes_per_worker > 1
    assert set(Env) - (PER_PROCESS if several else set()) == set(env(JOBS[name])) & set(Env)


def test_ranks_are_the_indices_of_single_processes() -> None:
    """A program that only reads RANK and WORLD_SIZE is right."""
    found = env(make_job().workers(3), 2)
    assert tuple(found[name] for name in (Env.RANK, Env.WORLD_SIZE, Env.LOCAL_RANK, Env.LOCAL_WORLD_SIZE)) == (
        "2",
        "3",
        "0",
        "1",
    )


def test_several_processes_are_launched_by_torchrun() -> None:
    """It reads PET_*: no argument can contradict the environment."""
    builder = make_job().workers(3).gpus(4)
    assert worker(builder)["command"] == ["python", "-m", "torch.distributed.run", "--module", "scaletrain"]
    found = env(builder, 2)
    assert (found[Env.PET_NNODES], found[Env.PET_NPROC_PER_NODE], found[Env.PET_NODE_RANK]) == ("3", "4", "2")


def test_a_program_gets_its_arguments_as_they_were_written() -> None:
    """The kubelet expands $(NAME) and turns $$ into $."""
    assert worker(make_job().command("sh", "-c", "echo $(RANK) $$x"))["command"] == ["sh", "-c", "echo $$(RANK) $$$$x"]


@pytest.mark.parametrize(
    ("resources", "processes", "want"),
    [
        (None, 1, 1),
        ({"limits": {"cpu": 4}}, 1, 4),
        ({"limits": {"cpu": "4"}}, 3, 1),
        ({"limits": {"cpu": "7500m"}}, 2, 3),
        ({"limits": {"cpu": "500m"}}, 1, 1),
        ({"limits": {"cpu": "2.5"}}, 1, 2),
        ({"limits": {"memory": "1Gi"}, "requests": {"cpu": 2}}, 1, 2),
    ],
)
def test_threads_share_the_cpus_of_a_worker(resources: dict | None, processes: int, want: int) -> None:
    """floor(cpu / processes), at least 1."""
    builder = make_job().spec(processesPerWorker=processes)
    builder = builder.pod(resources=resources) if resources else builder
    assert want == num_threads(builder.build().spec)


@pytest.mark.parametrize(
    ("text", "want"),
    [("500m", 0.5), ("2", 2), (2, 2), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 1.5 * 2**30), ("3M", 3e6), ("2Ei", 2**61)],
)
def test_quantities_are_read_as_kubernetes_does(text: str | int, want: float) -> None:
    """Decimal and binary units."""
    assert want == quantity(text)


def test_tolerations_of_the_user_replace_ours_for_the_same_taint() -> None:
    """One without a key is for all taints."""
    spec = build_pod(make_job().pod(tolerations=[{"operator": "Exists"}]).build(), 0, 0, DEFAULTS)["spec"]
    assert spec["tolerations"] == [{"operator": "Exists"}]
