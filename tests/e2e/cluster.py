"""A cluster as a user sees it: through kubectl."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalejob.contract import LABEL_JOB

Object = dict[str, Any]
POLL_SECONDS = 0.5


def is_finished(status: Object) -> bool:
    """Whether the job has ended, well or badly."""
    return status.get("phase") in ("Succeeded", "Failed")


class Refused(AssertionError):
    """kubectl ended with an error; the text is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Runs kubectl with one kubeconfig, whose context names the namespace of the tests."""

    kubectl: Path
    kubeconfig: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment in which a shell finds the same kubectl and the same cluster."""
        path = f"{self.kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def run(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """What kubectl prints. Raises Refused."""
        done = subprocess.run(
            [self.kubectl, *arguments], env=self.env, input=stdin, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise Refused(f"kubectl {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout

    def get(self, *arguments: str) -> Object:
        """`kubectl get ... -o json`."""
        return json.loads(self.run("get", *arguments, "-o", "json"))

    def items(self, *arguments: str) -> list[Object]:
        """The objects of `kubectl get` for a kind or a label."""
        return self.get(*arguments)["items"]

    def apply(self, *objects: Object) -> None:
        self.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def status(self, job: str) -> Object:
        """The job's status; empty before the operator has seen it."""
        return self.get("sj", job).get("status", {})

    def owned_by(self, job: str) -> list[str]:
        """What exists of a job besides itself, as kind/name."""
        return self.run("get", "pods,services", "-l", f"{LABEL_JOB}={job}", "-o", "name").split()

    def wait_until_gone(self, job: str, seconds: float = 60) -> None:
        """Returns when nothing is left of a deleted job; its Pods have their grace period, and nothing waits for them."""
        end = time.monotonic() + seconds
        while left := self.owned_by(job):
            assert time.monotonic() < end, f"{left} are left of {job} after {seconds} s"
            time.sleep(POLL_SECONDS)

    def wait(self, job: str, what: str, test: Callable[[Object], bool], seconds: float = 120) -> Object:
        """The first status that passes `test`; fails with everything that is known about the job."""
        end = time.monotonic() + seconds
        while not test(status := self.status(job)):
            if time.monotonic() > end:
                raise AssertionError(f"{job} is not {what} after {seconds} s:\n{self.story(job)}")
            time.sleep(POLL_SECONDS)
        return status

    def wait_for_phase(self, job: str, *phases: str, seconds: float = 120) -> Object:
        """The first status in one of the phases; an end that was not asked for is an error at once."""
        status = self.wait(job, " or ".join(phases), lambda s: s.get("phase") in phases or is_finished(s), seconds)
        assert status["phase"] in phases, self.story(job)
        return status

    def story(self, job: str) -> str:
        """The job, its Pods, their logs and its Events: what one would look at."""
        label = f"{LABEL_JOB}={job}"
        looks = (
            ("get", "sj", job, "-o", "yaml"),
            ("get", "pods", "-l", label, "-o", "wide"),
            ("logs", "-l", label, "--prefix", "--tail=20", "--max-log-requests=20"),
            ("get", "events", "--field-selector", f"involvedObject.name={job}"),
        )
        return "\n".join(self._try(*look) for look in looks)

    def _try(self, *arguments: str) -> str:
        try:
            return self.run(*arguments)
        except Refused as refused:
            return str(refused)

    @contextmanager
    def record_pods(self, job: str) -> Iterator[Callable[[], dict[str, set[str]]]]:
        """Watches the Pods of a job; the function that it yields returns the uids that were ever seen under each name."""
        columns = "custom-columns=N:.metadata.name,U:.metadata.uid"
        command = [self.kubectl, "get", "pods", "-l", f"{LABEL_JOB}={job}", "--watch", "--no-headers", "-o", columns]
        with subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True) as watch:

            def seen() -> dict[str, set[str]]:
                watch.terminate()
                found: dict[str, set[str]] = {}
                for line in watch.stdout or ():
                    name, uid = line.split()
                    found.setdefault(name, set()).add(uid)
                return found

            try:
                yield seen
            finally:
                watch.terminate()
