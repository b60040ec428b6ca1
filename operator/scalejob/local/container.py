"""From the manifest of a Pod to one process: the same command line, the same environment, but for what only a cluster has.

in the Pod                            here
MASTER_ADDR, MASTER_PORT              127.0.0.1 and a port that is free
OMP_NUM_THREADS, MKL_NUM_THREADS      cores of this machine / processes of the job, at least 1
python                                the interpreter that runs this
/dev/termination-log                  a file of its own (SCALEJOB_TERMINATION_LOG)
GPUs of the worker                    CUDA_VISIBLE_DEVICES: the worker's share of the devices, or none
paths under a mount                   below .scalejob (see `paths`), also as words of a command
HOME and USER, made up for any uid    those of the caller
environment of the image              the environment of the caller
"""

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalejob.api.v1alpha1 import Spec
from scalejob.contract import ENV_PROGRESS_SECONDS, ENV_TERMINATION_LOG, LABEL_ATTEMPT, LABEL_INDEX, Env
from scalejob.plan.environment import WRITABLE_HOME

from .volumes import mounts_of

LOOPBACK = "127.0.0.1"
PROGRESS_SECONDS = "0.2"
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


class Unresolvable(ValueError):
    """The Pod needs something that only a cluster has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One process to start."""

    name: str  # of the Pod
    attempt: int
    index: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    termination_log: Path

    @property
    def marks(self) -> dict[str, str]:
        """The part of the environment that no process of another worker has."""
        return {name: self.env[name] for name in (Env.UID, Env.ATTEMPT, Env.INDEX)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What this machine gives to all workers of an attempt."""

    port: int
    threads: int  # of each process
    folder: Path  # of termination messages
    loopback: str  # name of the loopback interface
    caller_env: Mapping[str, str]


def find_place(spec: Spec, folder: Path) -> Place:
    """A free port, and the share of each process in the cores."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    return Place(
        port=port,
        threads=max(1, num_cores() // spec.world_size),
        folder=folder,
        loopback=next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo"),
        caller_env=dict(os.environ),
    )


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def build_container(pod: Mapping[str, Any], spec: Spec, place: Place) -> Container:
    """The process that stands for `pod`. Raises Unresolvable."""
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    index = int(labels[LABEL_INDEX])
    name = pod["metadata"]["name"]
    log = place.folder / name
    mounts = mounts_of(spec)
    env = {**_base_env(place), **_pod_env(container, spec, place), **_local_env(spec, place, index)}
    env[ENV_TERMINATION_LOG] = str(log)
    words = [*container.get("command", ()), *container.get("args", ())]
    return Container(
        name=name,
        attempt=int(labels[LABEL_ATTEMPT]),
        index=index,
        argv=tuple(_program(mounts.to_local(_expand(word, env)), i) for i, word in enumerate(words)),
        env=env,
        termination_log=log,
    )


def _base_env(place: Place) -> dict[str, str]:
    """What an image would set. `torchrun` and other programs beside the interpreter are found, as in the image."""
    own = {name: value for name, value in place.caller_env.items() if name not in set(Env)}
    path = os.pathsep.join([str(Path(sys.executable).parent), place.caller_env.get("PATH", os.defpath)])
    # gloo listens on the address of the host's name, which a laptop may not have.
    return {"GLOO_SOCKET_IFNAME": place.loopback, **own, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _pod_env(container: Mapping[str, Any], spec: Spec, place: Place) -> dict[str, str]:
    """The container's own environment; a value from a cluster object is taken from the caller's environment."""
    ours = WRITABLE_HOME.keys() - {variable.name for variable in spec.pod.env or ()}
    env: dict[str, str] = {}
    missing = []
    for entry in container.get("env", ()):
        name = entry["name"]
        if "valueFrom" not in entry:
            env[name] = _expand(entry.get("value", ""), env)
        elif name not in place.caller_env and not _is_optional(entry["valueFrom"]):
            missing.append(name)
    if missing:
        raise Unresolvable(
            f"spec.pod.env: {', '.join(missing)}: valueFrom needs a cluster; set the variable in the environment of this command"
        )
    return {name: value for name, value in env.items() if name not in ours}


def _is_optional(source: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) and value.get("optional") for value in source.values())


def _local_env(spec: Spec, place: Place, index: int) -> dict[str, str]:
    port, threads = str(place.port), str(place.threads)
    return {
        Env.MASTER_ADDR: LOOPBACK,
        Env.PET_MASTER_ADDR: LOOPBACK,
        Env.MASTER_PORT: port,
        Env.PET_MASTER_PORT: port,
        Env.OMP_NUM_THREADS: threads,
        Env.MKL_NUM_THREADS: threads,
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, _devices(spec, index))),
        ENV_PROGRESS_SECONDS: PROGRESS_SECONDS,
    }


def _devices(spec: Spec, index: int) -> Iterator[int]:
    """Numbers of the worker's GPUs: as in a Pod, none of them is another worker's."""
    per_worker = spec.gpus.per_worker if spec.gpus else 0
    yield from range(index * per_worker, (index + 1) * per_worker)


def _program(word: str, position: int) -> str:
    return sys.executable if position == 0 and word in ("python", "python3") else word


def _expand(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) as the kubelet expands it: unknown names stay, $$ is a dollar sign."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else env.get(m[1], m[0]), text)
