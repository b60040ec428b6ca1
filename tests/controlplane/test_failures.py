"""The whole failure table, line by line on the real API server: who is blamed, what is counted, told, made and left.

All stories are played at once, each in a namespace of its own; a test looks how one has ended.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from scalejob.contract import NO_SIGN_OF_LIFE, LastWord, Phase
from scalejob.kube.client import PODS, SERVICES, Object, Resource
from scalejob.kube.errors import ApiError, NotFound
from tests.controlplane.api import Api, Jobs
from tests.controlplane.fake_nodes import NODES, FakeKubelet, add_node, condition, container, running, waiting
from tests.controlplane.stories import (
    Act,
    Case,
    Seen,
    Stage,
    all_of,
    becomes,
    beside,
    each_attempt,
    ended,
    ends,
    falls_silent,
    is_deleted,
    is_evicted_by_the_api,
    is_evicted_by_the_kubelet,
    loses_its_node,
    starts_as,
    taints,
    watching,
)

pytestmark = pytest.mark.usefixtures("operator")

OWN_NODES = ("tainted-node", "silent-node")
QUOTAS = Resource("v1", "resourcequotas")
PRIORITY_CLASSES = Resource("scheduling.k8s.io/v1", "priorityclasses")
POLICIES = Resource("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
BINDINGS = Resource("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings")


def goes_on(cls: str, words: str = "", *, budget: str = "failures", **failure: Any) -> dict[str, Any]:
    """The next attempt runs; one is counted, and `lastFailure` and the message name worker, node and words."""
    blamed = {"index": 1, "node": "cpu-node", "exitCode": None, "attempt": 0, "step": None} | failure
    where = f"worker {blamed['index']}" + (f" on {blamed['node']}" if blamed["node"] else "")
    code = f" (exit code {blamed['exitCode']})" if blamed["exitCode"] else ""
    return {
        "told": (f"Restarting Restarting: attempt 1 after {cls} of {where}" + (f": {words}" if words else code),),
        "attempt": 1,
        "failure": {"class": cls, "message": words, **blamed},
        "restarts": {budget: 1},
    }


def taken(cls: str, words: str = "", **failure: Any) -> dict[str, Any]:
    """The same, by no fault of the job."""
    return goes_on(cls, words, budget="disruptions", **failure)


def stops(reason: str, message: str, **fields: Any) -> dict[str, Any]:
    """The job fails at once; the Pod of the worker that has failed is kept."""
    told = (f"Failed {reason}: {message}",)
    return {"phase": Phase.FAILED, "told": told, "left": (f"job-{fields.get('attempt', 0)}-1",), **fields}


def says(error: str, message: str, *, rank: int = 1, **fields: Any) -> LastWord:
    return LastWord(rank=rank, error=error, message=message, **fields)


BOOM = says("ValueError", "bad value", step=7)
NO_COLUMN = says("InvalidData", "t.csv has no column y", reason="InvalidData")
TOO_MANY = says("InvalidSpec", "3 clusters, 2 rows", reason="InvalidSpec")
NOT_MET = "1 of 2 ranks did not come within 600 s: 1"
SILENCE = f"rank 1 {NO_SIGN_OF_LIFE} for 5 s: its process is stopped, or its node is cut off"
RESET = "RuntimeError: Connection reset by peer"
LIMITED = {"restarts": {"failures": 1, "disruptions": 0, "backoffSeconds": 0}}
ONCE = {"workload": {"command": {"argv": ["train"], "restartable": False}}}
ON_CPU = "worker 1 on cpu-node"

A_WORKER_FAILS = [
    Case(
        name="a program fails",
        story=each_attempt(ends(1, "Traceback\nKeyError: 'x'\n")),
        **goes_on("UserError", "KeyError: 'x'", exitCode=1),
    ),
    Case(
        name="a program fails without a word",
        story=each_attempt(ends(3)),
        **goes_on("UserError", exitCode=3),
    ),
    Case(
        name="the allowed attempts are used up",
        story=each_attempt(ends(1, "boom"), ends(1, "boom again")),
        spec=LIMITED,
        **stops(
            "RestartLimitExceeded",
            f"1 restart used, restarts.failures allows 1; {ON_CPU} failed (exit code 1): boom again",
            attempt=1,
            failure={"class": "UserError", "attempt": 1, "message": "boom again"},
            restarts={"failures": 1},
        ),
    ),
    Case(
        name="the same exception at the same step twice",
        story=each_attempt(ends(1, BOOM), ends(1, BOOM)),
        **stops(
            "DeterministicError",
            f"twice at step 7: {ON_CPU} failed (exit code 1): ValueError: bad value",
            attempt=1,
            failure={"class": "UserError", "step": 7, "message": "ValueError: bad value"},
            restarts={"failures": 1},
        ),
    ),
    Case(
        name="the same exception at another step",
        story=each_attempt(ends(1, BOOM), ends(1, says("ValueError", "bad value", step=8))),
        attempt=2,
        failure={"class": "UserError", "step": 8},
        restarts={"failures": 2},
    ),
    Case(
        name="exit 93 ends the job",
        story=each_attempt(ends(93, "no licence")),
        **stops("UserError", f"{ON_CPU} failed (exit code 93): no licence", failure={"class": "UserError"}),
    ),
    Case(
        name="a code that the user calls final",
        story=each_attempt(ends(7)),
        spec={"restarts": {"nonRetryableExitCodes": [7]}},
        **stops("UserError", f"{ON_CPU} failed (exit code 7)", failure={"class": "UserError", "exitCode": 7}),
    ),
    Case(
        name="exit 2 without words",
        story=each_attempt(ends(2)),
        **stops("UserError", f"{ON_CPU} failed (exit code 2)", failure={"class": "UserError", "exitCode": 2}),
    ),
    Case(
        name="the trainer refuses the data",
        story=each_attempt(ends(2, NO_COLUMN)),
        **stops(
            "InvalidData",
            f"{ON_CPU} refused the data (exit code 2): t.csv has no column y",
            failure={"class": "InvalidData", "index": 1, "exitCode": 2},
        ),
    ),
    Case(
        name="the trainer refuses the task, and a launcher hides its exit code",
        story=each_attempt(ends(1, TOO_MANY)),
        **stops(
            "InvalidSpec",
            f"{ON_CPU} refused the task (exit code 1): 3 clusters, 2 rows",
            failure={"class": "InvalidSpec", "index": 1},
        ),
    ),
    Case(
        name="a worker needs more memory than its limit",
        story=each_attempt(ends(137, reason="OOMKilled")),
        **goes_on("OOMKilled", exitCode=137),
    ),
    Case(
        name="a worker needs more memory again, with an eviction between",
        story=each_attempt(
            ends(137, reason="OOMKilled"), is_evicted_by_the_kubelet, ends(137, reason="OOMKilled", index=0)
        ),
        **stops(
            "OOMKilled",
            "worker 0 on cpu-node ran out of memory (exit code 137); "
            "again: raise pod.resources.limits.memory, or use more workers",
            attempt=2,
            failure={"class": "OOMKilled", "index": 0, "attempt": 2},
            restarts={"failures": 1, "disruptions": 1},
        )
        | {"left": ("job-2-0",)},
    ),
    Case(
        name="137 without the kernel's word is a failure like others",
        story=each_attempt(ends(137)),
        **goes_on("UserError", exitCode=137),
    ),
    Case(
        name="a worker hangs",
        story=each_attempt(ends(94, says("Hung", "no step for 600 s"))),
        **goes_on("Hung", "Hung: no step for 600 s", exitCode=94),
    ),
    Case(
        name="ranks wait for others in vain",
        story=each_attempt(ends(1, says("RendezvousTimeout", NOT_MET, rank=0, reason="RendezvousTimeout"), index=0)),
        **goes_on("RendezvousTimeout", NOT_MET, exitCode=1, index=0),
    ),
    Case(
        name="an object store does not answer",
        story=each_attempt(ends(1, says("OSError", "s3://b/x: connection refused", reason="StorageUnreachable"))),
        **goes_on("StorageUnreachable", "OSError: s3://b/x: connection refused", exitCode=1),
    ),
    Case(
        name="a victim is seen before the culprit",
        story=each_attempt(all_of(ends(1, RESET, index=0), ends(137, reason="OOMKilled"))),
        **goes_on("OOMKilled", exitCode=137),
    ),
    Case(
        name="only a victim is seen",
        story=each_attempt(ends(1, RESET, index=0)),
        **goes_on("UserError", RESET, exitCode=1, index=0),
    ),
    Case(
        name="a program that may not be started again fails",
        story=each_attempt(ends(1, "boom")),
        spec=ONCE,
        **stops(
            "UserError",
            f"{ON_CPU} failed (exit code 1): boom; workload.command.restartable is false",
            failure={"class": "UserError"},
        ),
    ),
    Case(
        name="a program that may not be started again loses a Pod",
        story=each_attempt(is_deleted()),
        spec=ONCE,
        **stops("PodDeleted", f"{ON_CPU} was deleted; workload.command.restartable is false") | {"left": ()},
    ),
    Case(
        name="the Pod of a worker that is done is deleted",
        story=each_attempt(all_of(ends(0), is_deleted(), ends(0, index=0))),
        phase=Phase.SUCCEEDED,
        told=("Succeeded AllWorkersSucceeded: 2 workers succeeded",),
        left=(),
    ),
    Case(
        name="an injected sidecar fails, and the worker does not care",
        story=each_attempt(all_of(becomes(beside("proxy", ended(1))), ends(0), ends(0, index=0))),
        phase=Phase.SUCCEEDED,
        left=(),
    ),
    Case(
        name="an injected sidecar runs on when the worker is done",
        story=each_attempt(
            all_of(
                becomes({"containerStatuses": [container("proxy", {"running": {}}), container("worker", ended(0))]}),
                ends(0, index=0),
            )
        ),
        spec={"keepPods": "All"},
        phase=Phase.SUCCEEDED,
        left=("job-0-0",),
    ),
    Case(
        name="an init container of a mesh fails",
        before=starts_as(
            waiting("PodInitializing") | {"phase": "Failed", "initContainerStatuses": [container("mesh", ended(2))]}
        ),
        story=each_attempt(),
        **goes_on("UserError", "init container mesh ended with exit code 2"),
    ),
]


def prefers(node: str) -> dict[str, Any]:
    """One worker that goes to this node if it can, and else to the other one."""
    among = {"matchExpressions": [{"key": "test/node", "operator": "In", "values": [node, "cpu-node"]}]}
    first = {"matchExpressions": [{"key": "test/node", "operator": "In", "values": [node]}]}
    affinity = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [among]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": first}],
    }
    soon = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    pod = {"nodeSelector": {}, "affinity": {"nodeAffinity": affinity}, "tolerations": [soon | {"tolerationSeconds": 1}]}
    return {"workers": 1, "pod": pod}


async def a_rival_comes(stage: Stage) -> None:
    """Somebody's Pod of high priority takes all GPUs, and is gone when the worker is."""
    spec = {
        "containers": [{"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "8"}}}],
        "priorityClassName": "urgent",
        "terminationGracePeriodSeconds": 0,
    }
    rival = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rival"}, "spec": spec}
    await stage.api.client.create(PODS, stage.jobs.namespace, rival)
    await stage.reaches(Phase.RESTARTING, 1, "Unschedulable")
    await stage.api.delete_now(PODS, stage.jobs.namespace, "rival")


TERMINATED = {
    "phase": "Failed",
    "reason": "Terminated",
    "message": "Pod was terminated in response to imminent node shutdown.",
    "containerStatuses": [container("worker", ended(143))],
    "conditions": [condition("DisruptionTarget", "True", reason="TerminationByKubelet")],
}
REFUSED = {
    "phase": "Failed",
    "reason": "OutOfcpu",
    "message": "Pod was rejected: Node didn't have enough resource: cpu",
}
EVICTED = "Evicted: The node was low on resource: memory."

THE_CLUSTER_TAKES_A_WORKER = [
    Case(
        name="the kubelet evicts a Pod",
        story=each_attempt(is_evicted_by_the_kubelet),
        **taken("Evicted", EVICTED),
    ),
    Case(
        name="the eviction API takes a Pod, as a drain does",
        story=each_attempt(is_evicted_by_the_api),
        **taken("Evicted", "Eviction API: evicting"),
    ),
    Case(
        name="the scheduler preempts a Pod",
        story=each_attempt(a_rival_comes),
        spec={"workers": 1, "gpus": {"perWorker": 8}, "pod": {"nodeSelector": {}}},
        attempt=1,
        told=(
            "Restarting Unschedulable: 1 of 1 worker cannot be scheduled: *",
            "Running AllWorkersRunning: 1 worker running",
        ),
        failure={
            "class": "Evicted",
            "node": "gpu-node",
            "message": "default-scheduler: preempting to accommodate a higher priority pod",
        },
        restarts={"disruptions": 1},
    ),
    Case(
        name="a taint clears a node that answers",
        story=each_attempt(taints("tainted-node", {"key": "test/upgrade", "effect": "NoExecute"})),
        spec=prefers("tainted-node"),
        **taken("Evicted", "Taint manager: deleting due to NoExecute taint", index=0, node="tainted-node"),
    ),
    Case(
        name="a node falls silent, and its Pod stays Terminating for ever",
        story=each_attempt(falls_silent("silent-node")),
        spec=prefers("silent-node"),
        left=("job-0-0", "job-1-0"),
        **taken("NodeLost", "Taint manager: deleting due to NoExecute taint", index=0, node="silent-node"),
    ),
    Case(
        name="ranks find a peer silent before Kubernetes finds its node so",
        story=each_attempt(
            all_of(
                ends(1, says("PeerLost", SILENCE, rank=0), index=0),
                becomes({"conditions": [condition("Ready", "False")]}),
            )
        ),
        **taken("NodeLost", "neither its node nor the worker gives a sign of life"),
    ),
    Case(
        name="a node is removed",
        story=each_attempt(loses_its_node),
        **taken("NodeLost", "PodGC: node no longer exists"),
    ),
    Case(
        name="a node shuts down",
        story=each_attempt(becomes(TERMINATED)),
        **taken("Evicted", "Terminated: Pod was terminated in response to imminent node shutdown.", exitCode=143),
    ),
    Case(
        name="the kubelet refuses a Pod",
        before=starts_as(REFUSED),
        story=each_attempt(),
        **taken("Evicted", "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu"),
    ),
    Case(
        name="a Pod is refused before all have run",
        before=starts_as(REFUSED),
        story=each_attempt(),
        spec={"restarts": {"backoffSeconds": 2}},
        waits=2,
        **taken("Evicted", "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu"),
    ),
    Case(
        name="a worker says that it was told to go",
        story=each_attempt(ends(85, says("Preempted", "state saved"))),
        **taken("Evicted", "Preempted: state saved", exitCode=85),
    ),
    Case(
        name="a worker says that its node is bad",
        story=each_attempt(ends(86, "GPU 3 has fallen off the bus")),
        **taken("Evicted", "GPU 3 has fallen off the bus", exitCode=86),
    ),
    Case(
        name="somebody deletes a Pod",
        story=each_attempt(is_deleted()),
        **taken("PodDeleted"),
    ),
    Case(
        name="somebody deletes a Pod without grace",
        story=each_attempt(is_deleted(gracePeriodSeconds=0)),
        **taken("PodDeleted"),
    ),
    Case(
        name="no disruption is allowed",
        story=each_attempt(is_evicted_by_the_kubelet),
        spec=LIMITED,
        **stops(
            "RestartLimitExceeded",
            f"0 restarts used, restarts.disruptions allows none; {ON_CPU} was taken away: {EVICTED}",
            failure={"class": "Evicted", "index": 1},
        ),
    ),
]

PULL_SOON = {"deadlines": {"imagePullSeconds": 3}}
NO_MANIFEST = waiting("ErrImagePull", "manifest unknown")
MESH = {
    "initContainerStatuses": [container("mesh", {"waiting": {"reason": "ErrImagePull", "message": "no such host"}})]
}
SIDECAR = {"initContainerStatuses": [container("mesh", {"running": {}}, restartCount=2, started=False)]}


def untouched(*acts: Act) -> Act:
    """While one worker cannot start, the other runs."""

    async def check(stage: Stage) -> None:
        assert stage.seen.pods["job-0-0"]["status"]["phase"] == "Running"
        assert "deletionTimestamp" not in stage.seen.pods["job-0-0"]["metadata"]

    async def is_told(stage: Stage) -> None:
        await stage.reaches(Phase.STARTING, 0, "ImagePullFailed")

    return all_of(is_told, check, *acts)


def makes(resource: Resource, body: Object) -> Act:
    """Somebody makes an object, in the namespace if the kind has them."""

    async def act(stage: Stage) -> None:
        namespace = None if resource in (POLICIES, BINDINGS) else stage.jobs.namespace
        await stage.api.client.create(resource, namespace, body)

    return act


def foreign(kind: str, name: str, **spec: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def waits_for(reason: str, act: Act) -> Act:
    """Nothing is half made while it waits; it goes on after the act."""

    async def story(stage: Stage) -> None:
        await stage.reaches(Phase.PENDING, 0, reason)
        await stage.until("an end of all Pods", lambda: not stage.seen.pods)
        await act(stage)
        await stage.reaches(Phase.RUNNING)

    return story


def removes(resource: Resource, name: str) -> Act:
    async def act(stage: Stage) -> None:
        await stage.api.delete_now(resource, "" if resource is BINDINGS else stage.jobs.namespace, name)

    return act


def refuses(name: str, **validation: Any) -> Act:
    """A policy against the Pods of the namespaces that are labelled with its name."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    where = {"resourceRules": [rule], "namespaceSelector": {"matchLabels": {"refused-by": name}}}
    validations = [{"expression": "false", "message": "no trainers on Fridays", **validation}]
    policy = {"matchConstraints": where, "validations": validations}
    head = {"apiVersion": POLICIES.group_version, "metadata": {"name": name}}
    return all_of(
        makes(POLICIES, head | {"kind": "ValidatingAdmissionPolicy", "spec": policy}),
        makes(
            BINDINGS,
            head
            | {
                "kind": "ValidatingAdmissionPolicyBinding",
                "spec": {"policyName": name, "validationActions": ["Deny"]},
            },
        ),
        is_heeded,
    )


async def is_heeded(stage: Stage) -> None:
    """The API server learns of a policy a moment later."""
    body = foreign("Pod", "probe", containers=[{"name": "c", "image": "i"}])

    async def probe() -> bool:
        try:
            await stage.api.raw("POST", PODS.path(stage.jobs.namespace), body=body, dryRun="All")
        except ApiError:
            return True
        return False

    await stage.api.until(probe)


QUOTA = foreign("ResourceQuota", "q", hard={"pods": "1"})
LIMIT = foreign("LimitRange", "small", limits=[{"type": "Container", "max": {"cpu": "1"}}])
BIG = {"pod": {"resources": {"limits": {"cpu": "2"}}}}

A_WORKER_CANNOT_START = [
    Case(
        name="an image cannot be pulled",
        before=starts_as(NO_MANIFEST),
        story=untouched(becomes(waiting("ImagePullBackOff", "Back-off pulling image"))),
        spec=PULL_SOON,
        told=("Starting ImagePullFailed: worker 1 cannot start: ErrImagePull: manifest unknown",),
        left=(),
        phase=Phase.FAILED,
    ),
    Case(
        name="an image can be pulled at last",
        before=starts_as(NO_MANIFEST),
        story=untouched(becomes(running())),
        told=(
            "Starting ImagePullFailed: worker 1 cannot start: ErrImagePull: manifest unknown",
            "Running AllWorkersRunning: 2 workers running",
        ),
    ),
    Case(
        name="a ConfigMap or a Secret of the environment is missing",
        before=starts_as(waiting("CreateContainerConfigError", 'secret "s" not found')),
        story=untouched(),
        spec=PULL_SOON,
        told=('Failed ImagePullFailed: worker 1 cannot start: CreateContainerConfigError: secret "s" not found',),
        left=(),
        phase=Phase.FAILED,
    ),
    Case(
        name="the image of an injected container cannot be pulled",
        before=starts_as(waiting("PodInitializing") | MESH),
        story=untouched(),
        spec=PULL_SOON,
        told=("Failed ImagePullFailed: worker 1 cannot start: ErrImagePull: init container mesh: no such host",),
        left=(),
        phase=Phase.FAILED,
    ),
    Case(
        name="an injected sidecar ends again and again before the worker starts",
        before=starts_as(waiting("PodInitializing") | SIDECAR),
        story=untouched(),
        spec=PULL_SOON,
        told=(
            "Failed ImagePullFailed: worker 1 cannot start: CrashLoopBackOff: init container mesh ends again and again",
        ),
        left=(),
        phase=Phase.FAILED,
    ),
    Case(
        name="no node matches",
        story=lambda stage: stage.reaches(Phase.PENDING, 0, "Unschedulable"),
        spec={"pod": {"nodeSelector": {"no": "node"}}},
        phase=Phase.PENDING,
        told=("Pending Unschedulable: 2 of 2 workers cannot be scheduled: 0/* nodes are available: *",),
    ),
    Case(
        name="the quota has no room for all",
        before=makes(QUOTAS, QUOTA),
        story=waits_for("QuotaExceeded", removes(QUOTAS, "q")),
        told=("Pending QuotaExceeded: *exceeded quota: q, *",),
        is_made_once=False,
    ),
    Case(
        name="a limit of the namespace refuses the Pods",
        before=makes(Resource("v1", "limitranges"), LIMIT),
        story=waits_for("PolicyDenied", removes(Resource("v1", "limitranges"), "small")),
        spec=BIG,
        told=("Pending PolicyDenied: *maximum cpu usage per Container is 1, but limit is 2*",),
    ),
    Case(
        name="a policy refuses the Pods",
        before=refuses("friday"),
        story=waits_for("PolicyDenied", removes(BINDINGS, "friday")),
        labels={"refused-by": "friday"},
        told=("Pending PolicyDenied: *no trainers on Fridays*",),
    ),
    Case(
        name="a policy refuses the Pods as forbidden",
        before=refuses("saturday", reason="Forbidden"),
        story=waits_for("PolicyDenied", removes(BINDINGS, "saturday")),
        labels={"refused-by": "saturday"},
        told=("Pending PolicyDenied: *no trainers on Fridays*",),
    ),
    Case(
        name="a service account is missing",
        story=waits_for("PolicyDenied", makes(Resource("v1", "serviceaccounts"), foreign("ServiceAccount", "reader"))),
        spec={"pod": {"serviceAccountName": "reader"}},
        told=("Pending PolicyDenied: *serviceaccount *reader* not found*",),
    ),
    Case(
        name="the API server calls the Pods invalid",
        story=each_attempt(),
        spec={"pod": {"affinity": {"nodeAffinity": "none"}}},
        phase=Phase.FAILED,
        told=("Failed InvalidSpec: *odeAffinity*",),
        left=(),
        is_made_once=False,
    ),
    Case(
        name="a Service of that name is somebody else's",
        before=makes(SERVICES, foreign("Service", "job", ports=[{"port": 1}])),
        story=waits_for("NameConflict", removes(SERVICES, "job")),
        told=("Pending NameConflict: Service */job exists and belongs to nobody",),
    ),
    Case(
        name="a Pod of that name is somebody else's",
        before=makes(PODS, foreign("Pod", "job-0-1", containers=[{"name": "c", "image": "i"}])),
        story=waits_for("NameConflict", removes(PODS, "job-0-1")),
        told=("Pending NameConflict: Pod */job-0-1 exists and belongs to nobody",),
        is_made_once=False,
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plays(
    request: pytest.FixtureRequest, api: Api, kubelet: FakeKubelet
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """The stories of all tests that were asked for, by name."""
    head = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}}
    await api.client.create(PRIORITY_CLASSES, None, head | {"value": 1000})
    for node in OWN_NODES:
        await add_node(api, node)
    cases = [item.callspec.params["case"] for item in request.session.items if item.module is request.module]
    async with watching(api.client) as seen:
        tasks = {
            case.name: asyncio.create_task(_play(case, Jobs(api, f"f{number}"), kubelet, seen))
            for number, case in enumerate(cases)
        }
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    for node in OWN_NODES:
        await api.delete_now(NODES, "", node)


async def _play(case: Case, jobs: Jobs, kubelet: FakeKubelet, seen: dict[str, Seen]) -> None:
    stage = Stage(jobs=jobs, kubelet=kubelet, seen=seen.setdefault(jobs.namespace, Seen()))
    await jobs.api.new_namespace(jobs.namespace, case.labels)
    await case.play(stage)
    await jobs.delete()
    for name in list(stage.seen.pods):  # the silent node's stay
        with contextlib.suppress(NotFound):
            await jobs.api.delete_now(PODS, jobs.namespace, name)


@pytest.mark.parametrize("case", A_WORKER_FAILS, ids=lambda case: case.name)
async def test_a_worker_fails(case: Case, plays: dict[str, asyncio.Task[None]]):
    """All workers start again in a new attempt that counts as a failure, or the job ends."""
    await plays[case.name]


@pytest.mark.parametrize("case", THE_CLUSTER_TAKES_A_WORKER, ids=lambda case: case.name)
async def test_the_cluster_takes_a_worker(case: Case, plays: dict[str, asyncio.Task[None]]):
    """The same, but it counts as a disruption."""
    await plays[case.name]


@pytest.mark.parametrize("case", A_WORKER_CANNOT_START, ids=lambda case: case.name)
async def test_a_worker_cannot_start(case: Case, plays: dict[str, asyncio.Task[None]]):
    """The job says why, leaves nothing half made, and goes on as soon as it can."""
    await plays[case.name]
