"""Breaks nodes. What kubectl cannot do is done by the tool that has made the cluster, where there is one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.tools import CLUSTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of a cluster. Whatever is done to it ends with the context."""

    cluster: Cluster
    name: str

    @contextmanager
    def drained(self) -> Iterator[None]:
        """`kubectl drain`, as before an upgrade: its Pods are evicted, and it gets no new ones."""
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s")
        try:
            self.cluster.run("drain", self.name, *options)
            yield
        finally:
            self.cluster.run("uncordon", self.name)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nothing reaches it, and it reaches nothing; its containers run on."""
        yield from self._broken("partition", "heal")

    @contextmanager
    def without_kubelet(self) -> Iterator[None]:
        """Its containers run on and are reached by others, but nobody tells of them or ends them."""
        yield from self._broken("freeze", "thaw")

    def _broken(self, how: str, repair: str) -> Iterator[None]:
        try:
            _ask(how, self.name)
            yield
        finally:
            _ask(repair, self.name)
            self.cluster.run("wait", "--for=condition=Ready", f"node/{self.name}", "--timeout=120s")


def need_tool() -> None:
    """Skip unless the tests run on a cluster of the tool."""
    if not CLUSTER.exists():
        pytest.skip(f"there is no {CLUSTER} that could break a node")
    if Path(os.environ["KUBECONFIG"]).resolve() != Path(_ask("kubeconfig")).resolve():
        pytest.skip(f"the cluster of $KUBECONFIG is not one of {CLUSTER}, which could break its nodes")


def _ask(*arguments: str) -> str:
    """What the tool prints."""
    done = subprocess.run([CLUSTER, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
