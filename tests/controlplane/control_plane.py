"""Real etcd, kube-apiserver, kube-controller-manager and kube-scheduler on free ports of this machine; no kubelet."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.controlplane.audit import POLICY, Request, requests
from tests.tools import ROOT, find_tool

# What the tests rely on. Others (Deployments, node life cycle, ...) would only cost time.
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "resourcequota-controller",
)
# Those that look after nodes, where a test breaks one. They find no node silent by themselves: fake ones tell nothing of their lives.
NODE_CONTROLLERS = ("node-lifecycle-controller", "taint-eviction-controller")
_NODE_OPTIONS = (
    "--node-monitor-period=1s",
    "--node-monitor-grace-period=24h",
    "--node-startup-grace-period=24h",
    "--node-eviction-rate=10",
)
_READY_SECONDS = 90
# A time-out of CI may kill the tests: then their processes must end too (Linux; elsewhere they stay).
TIED_TO_US = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
_GROUPS = {"admin": "system:masters", "kcm": "system:masters", "scheduler": "system:masters"}


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach the API server as somebody."""

    server: str
    ca: Path
    token: str

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig with a token."""
        cluster = {"server": self.server, "certificate-authority": str(self.ca)}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": self.token}}],
                }
            )
        )
        return path


class ControlPlane:
    """A context manager: everything runs inside, nothing is left behind."""

    def __init__(self, home: Path, *, controllers: tuple[str, ...] = CONTROLLERS) -> None:
        self.home = home
        self._controllers = controllers
        self._tokens = {user: secrets.token_hex(16) for user in _GROUPS}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._port = free_port()
        self._key = home / "pki" / "sa.key"
        self._away: list[tuple[datetime, datetime]] = []  # when the API server was restarted, until it was ready

    def __enter__(self) -> "ControlPlane":
        programs = {
            name: find_tool(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
        }
        find_tool("kubectl")
        find_tool("openssl")
        try:
            self._start_all(programs)
            self._install()
            self._start_controllers(programs)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGKILL)  # nothing of it is needed again
            process.wait()

    def access(self, user: str) -> Access:
        """For one of the users of the token file."""
        return self.access_with(self._tokens[user])

    def access_with(self, token: str) -> Access:
        return Access(server=f"https://127.0.0.1:{self._port}", ca=self.home / "pki" / "apiserver.crt", token=token)

    def restart_api_server(self, away_seconds: float) -> None:
        """Kill the API server and start it again: all watches break, and its version cache is empty."""
        process, since = self._processes["kube-apiserver"], datetime.now(UTC)
        process.kill()
        process.wait()
        time.sleep(away_seconds)
        program, *arguments = process.args[len(TIED_TO_US) :]
        self._start(program, *arguments)
        self._wait_ready()
        self._away.append((since, datetime.now(UTC)))

    def write_operator_kubeconfig(self, namespace: str = "scalejob-system", account: str = "scalejob-operator") -> Path:
        """For an operator's own service account; the default is that of the manifests, with the rights of its roles."""
        command = ("--namespace", namespace, "create", "token", account, "--duration", "2h")
        token = self.kubectl(*command).stdout.strip()
        return self.access_with(token).write_kubeconfig(self.home / f"{account}.kubeconfig")

    def audited(self) -> Iterator[Request]:
        """The requests of all service accounts so far."""
        return requests(self.home / "audit.log")

    def refused(self) -> list[Request]:
        """Those that RBAC has refused. An API server that has just begun knows no roles yet: it is not ready, and does not count."""
        return [
            request
            for request in self.audited()
            if request.is_refused and not any(since <= request.time <= ready for since, ready in self._away)
        ]

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as admin."""
        argv = [find_tool("kubectl"), "--kubeconfig", self.home / "admin.kubeconfig", *arguments]
        result = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        assert not check or result.returncode == 0, result.stderr
        return result

    def _start_all(self, programs: dict[str, Path]) -> None:
        (self.home / "pki").mkdir()
        subprocess.run([find_tool("openssl"), "genrsa", "-out", self._key, "2048"], check=True, capture_output=True)
        rows = [f"{token},{user},{user},{_GROUPS[user]}" for user, token in self._tokens.items()]
        (self.home / "tokens.csv").write_text("\n".join(rows))
        (self.home / "audit.json").write_text(json.dumps(POLICY))
        client_port = self._start_etcd(programs["etcd"])
        self._start_api_server(programs["kube-apiserver"], client_port)
        self._wait_ready()
        for user in _GROUPS:
            self.access(user).write_kubeconfig(self.home / f"{user}.kubeconfig")

    def _install(self) -> None:
        """As a user does. Before the controllers start: the garbage collector looks for new kinds only twice a minute."""
        manifests = ROOT / "manifests"
        self.kubectl("apply", "-f", str(manifests / "crd.yaml"), "-f", str(manifests / "operator.yaml"))
        self.kubectl("wait", "--for=condition=Established", "crd/scalejobs.scalejob.io", "--timeout=30s")

    def _start_etcd(self, program: Path) -> int:
        client_port, peer_port = free_port(), free_port()
        self._start(
            program,
            f"--data-dir={self.home / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{client_port}",
            f"--advertise-client-urls=http://127.0.0.1:{client_port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        return client_port

    def _start_api_server(self, program: Path, etcd_port: int) -> None:
        self._start(
            program,
            f"--etcd-servers=http://127.0.0.1:{etcd_port}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={self.home / 'pki'}",
            f"--token-auth-file={self.home / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--audit-policy-file={self.home / 'audit.json'}",
            f"--audit-log-path={self.home / 'audit.log'}",
            "--audit-log-maxsize=2000",  # MiB: never in pieces
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._key}",
            f"--service-account-signing-key-file={self._key}",
            # Without kubelets and the node life cycle controller nobody would remove the taint `not-ready`.
            "--disable-admission-plugins=TaintNodesByCondition",
            "--endpoint-reconciler-type=none",
        )

    def _start_controllers(self, programs: dict[str, Path]) -> None:
        self._start(
            programs["kube-controller-manager"],
            f"--kubeconfig={self.home / 'kcm.kubeconfig'}",
            f"--controllers={','.join(self._controllers)}",
            *_NODE_OPTIONS,
            f"--service-account-private-key-file={self._key}",
            "--leader-elect=false",
            "--secure-port=0",
            "--concurrent-gc-syncs=4",
            # Of many jobs at once; the default is for one small cluster's worth of garbage.
            "--kube-api-qps=500",
            "--kube-api-burst=500",
        )
        self._start(
            programs["kube-scheduler"],
            f"--kubeconfig={self.home / 'scheduler.kubeconfig'}",
            # The default, 50 bindings a second, would be all that one sees of many Pods.
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
            "--leader-elect=false",
            "--secure-port=0",
        )

    def _start(self, program: Path, *arguments: str) -> None:
        log = self.home / f"{program.name}.log"
        with log.open("ab") as out:
            # A session of its own: Ctrl-C is for the tests, which then end these in order.
            argv = [*TIED_TO_US, program, *arguments]
            process = subprocess.Popen(argv, stdout=out, stderr=out, start_new_session=True)
        self._processes[program.name] = process

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            dead = next((p for p in self._processes.values() if p.poll() is not None), None)
            if dead or time.monotonic() > deadline:
                raise AssertionError(self._last_words())
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        access = self.access("admin")
        request = urllib.request.Request(f"{access.server}/readyz", headers={"Authorization": f"Bearer {access.token}"})  # noqa: S310
        try:
            context = ssl.create_default_context(cafile=access.ca)
            with urllib.request.urlopen(request, context=context, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _last_words(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in self.home.glob("*.log"))


class OperatorProcess:
    """`scalejob operator` as a process, with the rights of its own role only."""

    def __init__(self, kubeconfig: Path, log: Path, port: int) -> None:
        self._kubeconfig = kubeconfig
        self.log = log
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *options: str) -> None:
        """Start it and wait until it is ready."""
        self._spawn(*options)
        await self._wait_ready()

    def _spawn(self, *options: str) -> None:
        argv = [
            *TIED_TO_US,
            Path(sys.executable).with_name("scalejob"),
            "operator",
            "--trainer-image",
            "trainer",
            "--log-format",
            "text",
            *options,
        ]
        argv += ["--kubeconfig", str(self._kubeconfig), "--metrics-port", str(self.port)]
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(argv, stdout=out, stderr=out)

    def kill(self) -> None:
        """SIGKILL: no chance to say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: as on a machine that stands still."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def wait(self) -> int:
        """Until it has ended by itself; returns the exit code."""
        assert self._process
        code, self._process = self._process.wait(timeout=30), None
        return code

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        assert self._process
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _end(self, how: signal.Signals) -> int:
        self._signal(how)
        return self.wait()

    def _signal(self, how: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(how)

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while not await asyncio.to_thread(self._is_ready):
            if not self.is_running or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text()[-3000:])
            await asyncio.sleep(0.1)

    def _is_ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as a,
        ):
            return bool(a.status == 200)
        return False
