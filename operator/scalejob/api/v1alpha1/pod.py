"""`spec.pod`: the parts of a worker Pod that a user may set. An allow-list: the operator owns everything else."""

import re
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.alias_generators import to_snake

from scalejob.contract import Env

from .base import KubernetesObject, Model, Rule, StringMap, exactly_one

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
Quantity = Annotated[str, Field(max_length=32, pattern=QUANTITY_PATTERN)] | Annotated[int, Field(ge=0)]
SUFFIXES: dict[str, Decimal | int] = {
    "m": Decimal("0.001"),
    "": 1,
    **{letter: 1000**power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", 1)},
}


def quantity(text: str | int) -> Decimal:
    """The number that a quantity of Kubernetes stands for."""
    number = re.match(r"[0-9.]+", str(text))
    assert number, text
    return Decimal(number[0]) * SUFFIXES[str(text)[number.end() :]]


DnsLabel = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
RESERVED_ENV = tuple(sorted(Env))
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def _no_gpus(field: str) -> Rule:
    """Whoever counts GPUs (the launcher, the status, a policy) looks at one place."""
    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(k, !k.contains('gpu') && !k.startsWith('nvidia.com/'))",
        message=f"GPUs are asked for by spec.gpus, not by pod.resources.{field}",
        field_path=f".{field}",
        check=lambda self: not any("gpu" in k or k.startswith("nvidia.com/") for k in getattr(self, field) or ()),
    )


class Resources(Model):
    """What a worker asks of its node and may use at most."""

    requests: Annotated[dict[str, Quantity], Field(max_length=32)] | None = Field(
        default=None, description="Reserved on the node, for example cpu: 2, memory: 4Gi."
    )
    limits: Annotated[dict[str, Quantity], Field(max_length=32)] | None = Field(
        default=None, description="At most this is used. GPUs are asked for by spec.gpus, not here."
    )

    rules: ClassVar[tuple[Rule, ...]] = (_no_gpus("requests"), _no_gpus("limits"))


class EnvVar(Model):
    """One environment variable."""

    name: str = Field(
        min_length=1,
        max_length=256,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$",
        description="Name; those of the rendezvous contract are reserved.",
    )
    value: str | None = Field(default=None, max_length=32_768, description="Value.")
    value_from: KubernetesObject | None = Field(
        default=None, description="Source of the value, as in a Pod (fieldRef, configMapKeyRef, secretKeyRef)."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"!(self.name in [{', '.join(repr(str(n)) for n in RESERVED_ENV)}])",
            message="this name is reserved: the operator sets it in every worker",
            field_path=".name",
            check=lambda self: self.name not in RESERVED_ENV,
        ),
        Rule(
            cel="!(has(self.value) && has(self.valueFrom))",
            message="set value or valueFrom, not both",
            field_path=".valueFrom",
            check=lambda self: self.value is None or self.value_from is None,
        ),
    )


class Volume(Model):
    """One volume: a name and exactly one source, as in a Pod. Host paths are not allowed."""

    name: DnsLabel = Field(description="Name, used by volumeMounts; names that begin with scalejob- are reserved.")
    persistent_volume_claim: KubernetesObject | None = Field(
        default=None, description="claimName and readOnly of a PersistentVolumeClaim."
    )
    empty_dir: KubernetesObject | None = Field(default=None, description="Scratch space that goes with the Pod.")
    config_map: KubernetesObject | None = Field(default=None, description="Files from a ConfigMap.")
    secret: KubernetesObject | None = Field(default=None, description="Files from a Secret.")
    csi: KubernetesObject | None = Field(default=None, description="An inline volume of a CSI driver.")
    projected: KubernetesObject | None = Field(default=None, description="Several sources in one folder.")

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one(
            "source of the volume", "persistent_volume_claim", "empty_dir", "config_map", "secret", "csi", "projected"
        ),
        Rule(
            cel="!self.name.startsWith('scalejob-')",
            message="names that begin with scalejob- are reserved",
            field_path=".name",
            check=lambda self: not self.name.startswith("scalejob-"),
        ),
    )


class VolumeMount(Model):
    """Where a volume appears in the worker."""

    name: DnsLabel = Field(description="Name of the volume.")
    mount_path: str = Field(
        min_length=1, max_length=1024, pattern=r"^/[^:]*$", description="Absolute path in the worker."
    )
    sub_path: str | None = Field(default=None, max_length=1024, description="Folder inside the volume.")
    read_only: bool = Field(default=False, description="Whether writes are refused.")


class Toleration(Model):
    """A taint that the workers tolerate, as in a Pod."""

    key: str | None = Field(default=None, max_length=317, description="Key of the taint.")
    operator: Literal["Exists", "Equal", "Lt", "Gt"] | None = Field(
        default=None, description="How the value is compared; default Equal."
    )
    value: str | None = Field(default=None, max_length=63, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; default: any."
    )
    toleration_seconds: int | None = Field(default=None, description="How long a NoExecute taint is tolerated.")


def _distinct(field: str, key: str) -> Rule:
    """No two entries of the list `field` have the same `key`."""

    def check(model: Model) -> bool:
        keys = [getattr(entry, to_snake(key)) for entry in getattr(model, to_snake(field)) or ()]
        return len(keys) == len(set(keys))

    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(a, self.{field}.exists_one(b, b.{key} == a.{key}))",
        message=f"no two entries of {field} may have the same {key}",
        field_path=f".{field}",
        check=check,
    )


class PodOptions(Model):
    """Options of the worker Pods."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="Image of the workers; default: the operator's trainer image.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When the image is pulled; default: Kubernetes'."
    )
    image_pull_secrets: list[StringMap] | None = Field(
        default=None, max_length=16, description="Names of Secrets for the registry, each as {name: ...}."
    )
    resources: Resources | None = Field(default=None, description="CPU and memory of one worker.")
    env: list[EnvVar] | None = Field(default=None, max_length=256, description="More environment variables.")
    env_from: list[KubernetesObject] | None = Field(
        default=None, max_length=64, description="Environment from ConfigMaps and Secrets, as in a Pod."
    )
    volumes: list[Volume] | None = Field(default=None, max_length=64, description="Volumes.")
    volume_mounts: list[VolumeMount] | None = Field(
        default=None, max_length=64, description="Where the volumes appear."
    )
    shared_memory: Quantity | None = Field(
        default=None, description="Size limit of /dev/shm; default: the worker's memory limit bounds it."
    )
    node_selector: StringMap | None = Field(default=None, description="Labels that a node must have.")
    tolerations: list[Toleration] | None = Field(default=None, max_length=64, description="Taints that are tolerated.")
    affinity: KubernetesObject | None = Field(default=None, description="Affinity, as in a Pod.")
    topology_spread_constraints: list[KubernetesObject] | None = Field(
        default=None, max_length=16, description="How workers spread, as in a Pod."
    )
    priority_class_name: str | None = Field(default=None, max_length=253, description="Priority class of the workers.")
    scheduler_name: str | None = Field(default=None, max_length=253, description="Scheduler that places the workers.")
    scheduling_gates: list[StringMap] | None = Field(
        default=None,
        max_length=16,
        description="Gates that others must open, on each Pod, before its scheduler looks at it, each as {name: ...}.",
    )
    runtime_class_name: str | None = Field(
        default=None, max_length=253, description="Container runtime of the workers."
    )
    service_account_name: str | None = Field(
        default=None, max_length=253, description="Service account of the workers; its token is not mounted."
    )
    labels: StringMap | None = Field(default=None, description="More labels; keys under scalejob.io/ are reserved.")
    annotations: StringMap | None = Field(
        default=None, description="More annotations; keys under scalejob.io/ are reserved."
    )
    termination_grace_period_seconds: int | None = Field(
        default=None, ge=0, le=86_400, description="Seconds between SIGTERM and SIGKILL; default: Kubernetes' 30."
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.labels) || self.labels.all(k, !k.startsWith('scalejob.io/'))",
            message="labels under scalejob.io/ are reserved",
            field_path=".labels",
            check=lambda self: not any(k.startswith("scalejob.io/") for k in self.labels or ()),
        ),
        Rule(
            cel="!has(self.annotations) || self.annotations.all(k, !k.startsWith('scalejob.io/'))",
            message="annotations under scalejob.io/ are reserved",
            field_path=".annotations",
            check=lambda self: not any(k.startswith("scalejob.io/") for k in self.annotations or ()),
        ),
        Rule(
            cel=f"!has(self.annotations) || self.annotations.all(k, !k.startsWith('{APPARMOR}'))",
            message="annotations of AppArmor are not allowed: they could loosen what confines a worker",
            field_path=".annotations",
            check=lambda self: not any(k.startswith(APPARMOR) for k in self.annotations or ()),
        ),
        Rule(
            cel="!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            message="every entry of volumeMounts must name one of volumes",
            field_path=".volumeMounts",
            check=lambda self: {m.name for m in self.volume_mounts or ()} <= {v.name for v in self.volumes or ()},
        ),
        _distinct("volumes", "name"),
        _distinct("volumeMounts", "mountPath"),
    )
