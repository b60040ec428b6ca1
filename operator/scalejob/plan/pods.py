"""The objects that a job owns: one headless Service, and a Pod for each worker.

Pods satisfy the restricted Pod Security Standard whatever the user writes, since `spec.pod` is an allow-list that holds
nothing that could loosen it.
"""

from dataclasses import dataclass
from typing import Any

from scalejob.api.v1alpha1 import PodOptions, Spec
from scalejob.contract import API_VERSION, KIND, LABEL_COMPLETION_INDEX, PROGRESS_PORT, WORKER_CONTAINER, WORKER_UID

from .environment import WRITABLE_HOME, build_environment
from .model import Job
from .names import job_labels, pod_labels, pod_name, selector, service_name

Object = dict[str, Any]

TRAINER = "scaletrain"
NODE_LOSS_SECONDS = 30  # how long a worker stays bound to a node that does not answer; Kubernetes' own default is 300
_NODE_LOSS_KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

# Options that are a field of the Pod's spec under the same name.
_COPIED = (
    "nodeSelector",
    "affinity",
    "topologySpreadConstraints",
    "priorityClassName",
    "schedulerName",
    "schedulingGates",
    "runtimeClassName",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDefaults:
    """What the operator's release decides for jobs that do not say it themselves."""

    trainer_image: str
    image_pull_policy: str | None = None
    image_pull_secrets: tuple[str, ...] = ()


def build_service(job: Job) -> Object:
    """The headless Service that gives every worker a DNS name, before it is ready, so that ranks can meet."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(job.name),
            "namespace": job.namespace,
            "labels": job_labels(job.name),
            "ownerReferences": [_owner(job)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(job.name),
            "ports": [{"name": name, "port": port} for name, port in _ports(job.spec).items()],
        },
    }


def build_pod(job: Job, attempt: int, index: int, defaults: PodDefaults) -> Object:
    """The Pod of worker `index`. The same arguments give the same Pod."""
    options = job.spec.pod
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(job.name, attempt, index),
            "namespace": job.namespace,
            "labels": (options.labels or {}) | pod_labels(job.name, attempt, index),
            "annotations": (options.annotations or {}) | {LABEL_COMPLETION_INDEX: str(index)},
            "ownerReferences": [_owner(job)],
        },
        "spec": _pod_spec(job, attempt, index, defaults),
    }


def _owner(job: Job) -> Object:
    """Deletion is not blocked: that would need the right to update the job's finalizers."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _pod_spec(job: Job, attempt: int, index: int, defaults: PodDefaults) -> Object:
    options = job.spec.pod.to_wire()
    pull_secrets = options.get("imagePullSecrets") or [{"name": name} for name in defaults.image_pull_secrets]
    return {
        "hostname": pod_name(job.name, attempt, index),
        "subdomain": service_name(job.name),
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _security_of_pod(),
        "tolerations": _tolerations(options),
        "containers": [_container(job, attempt, index, defaults)],
        "volumes": _scratch_volumes(job.spec.pod) + options.get("volumes", []),
        **({"imagePullSecrets": pull_secrets} if pull_secrets else {}),
        **{name: options[name] for name in _COPIED if name in options},
    }


def _container(job: Job, attempt: int, index: int, defaults: PodDefaults) -> Object:
    options = job.spec.pod
    pull_policy = options.image_pull_policy or defaults.image_pull_policy
    wire = options.to_wire()
    return {
        "name": WORKER_CONTAINER,
        "image": options.image or defaults.trainer_image,
        "command": [_literal(word) for word in build_command(job.spec)],
        "env": _env(build_environment(job, attempt, index), wire.get("env", [])),
        "ports": [{"name": name, "containerPort": port} for name, port in _ports(job.spec).items()],
        "resources": _resources(job.spec),
        "securityContext": _security_of_container(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _scratch_mounts(options) + wire.get("volumeMounts", []),
        **({"imagePullPolicy": pull_policy} if pull_policy else {}),
        **({"envFrom": wire["envFrom"]} if "envFrom" in wire else {}),
    }


def _ports(spec: Spec) -> dict[str, int]:
    return {"progress": PROGRESS_PORT, "rendezvous": spec.rendezvous.port}


def build_command(spec: Spec) -> list[str]:
    """The argv of a worker: the user's own as it is, else the trainer, under torchrun if there are several processes.

    torchrun reads the number of processes and where to meet from PET_*.
    """
    if spec.workload.command is not None:
        return list(spec.workload.command.argv)
    launcher = ["torch.distributed.run", "--module"] if spec.num_processes_per_worker > 1 else []
    return ["python", "-m", *launcher, TRAINER]


def _env(contract: dict[str, str], own: list[Object]) -> list[Object]:
    """The contract, then what a read-only root needs unless the user gave it, then the user's."""
    given = {variable["name"] for variable in own}
    ours = contract | {name: value for name, value in WRITABLE_HOME.items() if name not in given}
    return [{"name": str(name), "value": _literal(value)} for name, value in ours.items()] + own


def _literal(text: str) -> str:
    """Kubelets expand $(NAME) in values and arguments, and take $$ for $: a program gets what was written, as in a local run."""
    return text.replace("$", "$$")


def _resources(spec: Spec) -> Object:
    resources: Object = spec.pod.resources.to_wire() if spec.pod.resources else {}
    if spec.gpus is None:
        return resources
    return resources | {"limits": resources.get("limits", {}) | {spec.gpus.resource: spec.gpus.per_worker}}


def _security_of_pod() -> Object:
    """fsGroup lets the uid write to a claim; a volume whose root is right already is not walked again."""
    return {
        "runAsNonRoot": True,
        "runAsUser": WORKER_UID,
        "runAsGroup": WORKER_UID,
        "fsGroup": WORKER_UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _security_of_container() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _tolerations(options: Object) -> list[Object]:
    """The user's, and ours for lost nodes where the user has none for that key (one without a key is for all)."""
    own: list[Object] = options.get("tolerations", [])
    keys = {toleration.get("key") for toleration in own}
    ours = [] if None in keys else [key for key in _NODE_LOSS_KEYS if key not in keys]
    return own + [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_LOSS_SECONDS}
        for key in ours
    ]


def _scratch(options: PodOptions) -> list[tuple[str, str, Object]]:
    """(name, path, source) of the writable folders that every worker has, but where the user mounts an own volume."""
    size = {} if options.shared_memory is None else {"sizeLimit": str(options.shared_memory)}
    folders: list[tuple[str, str, Object]] = [
        ("scalejob-tmp", "/tmp", {}),  # noqa: S108
        ("scalejob-shm", "/dev/shm", {"medium": "Memory", **size}),  # noqa: S108
    ]
    taken = {mount.mount_path.rstrip("/") for mount in options.volume_mounts or ()}
    return [folder for folder in folders if folder[1] not in taken]


def _scratch_volumes(options: PodOptions) -> list[Object]:
    return [{"name": name, "emptyDir": source} for name, _, source in _scratch(options)]


def _scratch_mounts(options: PodOptions) -> list[Object]:
    return [{"name": name, "mountPath": path} for name, path, _ in _scratch(options)]
