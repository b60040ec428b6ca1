"""How far the job is: lines of JSON on stdout, and the latest one over HTTP in a Pod. Rank 0 tells, the others only count.

Telling never fails the job: a port that is taken is left alone, and so is a stdout that nobody reads.
"""

import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from scalejob.contract import ENV_PROGRESS_SECONDS, PROGRESS_PATH, PROGRESS_PORT, Env, ProgressLine

from .estimators.base import Progress

ENV_PROGRESS_PORT = "SCALEJOB_PROGRESS_PORT"  # serve there, also outside of a Pod
ENV_IN_POD = "KUBERNETES_SERVICE_HOST"


@dataclass(slots=True, kw_only=True)
class Teller:
    """The latest line, told at most once in `every` seconds; the first line of a phase always."""

    write: Callable[[str], None]
    every: float
    clock: Callable[[], float] = time.monotonic
    latest: ProgressLine = field(default_factory=lambda: ProgressLine(phase="start", step=0))
    digest: str | None = None  # of what has been learned by the next step
    _told: float = -1e9
    _phase_began: float = 0.0

    def phase(self, name: str, *, of: int | None = None, may_end_early: bool = False) -> Progress:
        """Begins a phase of `of` steps, where that is known; what it returns is called after each of them.

        Of a phase that may end early, `of` is only a bound, and the time to reach it says nothing: it is not told. A step
        raises FloatingPointError if its metric is not finite: a fit that has lost its numbers ends before it goes on with them.
        """
        self._phase_began, self.digest = self.clock(), None
        self._tell(ProgressLine(phase=name, step=0, of=of), now=True)

        def step(step: int, *, of: int | None = of, metric: str | None = None, value: float | None = None) -> None:
            if value is not None and not math.isfinite(value):
                raise FloatingPointError(f"{metric} is {value} after step {step}")
            eta = None if may_end_early else self._eta(step, of)
            line = ProgressLine(phase=name, step=step, of=of, metric=metric, value=value, eta_seconds=eta)
            self._tell(replace(line, digest=self.digest))

        return step

    def _eta(self, step: int, of: int | None) -> int | None:
        """Seconds to the last step, if all take as long as those before."""
        if of is None or step <= 0:
            return None
        return round((self.clock() - self._phase_began) / step * max(0, of - step))

    def _tell(self, line: ProgressLine, *, now: bool = False) -> None:
        self.latest = line
        if now or self.clock() - self._told >= self.every:
            self._told = self.clock()
            self.write(line.to_json())


def teller(environ: Mapping[str, str]) -> Teller:
    """Rank 0's tells on stdout, and over HTTP in a Pod or where the environment names a port; the others' are silent."""
    every = float(environ.get(ENV_PROGRESS_SECONDS, "1"))
    if environ.get(Env.RANK, "0") != "0":
        return Teller(write=lambda line: None, every=every)
    told = Teller(write=_print, every=every)
    if ENV_IN_POD in environ or ENV_PROGRESS_PORT in environ:
        serve(told, int(environ.get(ENV_PROGRESS_PORT, PROGRESS_PORT)))
    return told


def _print(line: str) -> None:
    with suppress(OSError):
        print(line, flush=True)


def serve(told: Teller, port: int) -> None:
    """/progress (the latest line) and /metrics (for Prometheus), on a daemon thread, to anyone who can reach the Pod."""
    # Only where it is served; and not HTTPServer, which asks DNS for its own name before it starts.
    from http.server import BaseHTTPRequestHandler  # noqa: PLC0415
    from socketserver import ThreadingTCPServer  # noqa: PLC0415

    class Server(ThreadingTCPServer):
        address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET  # a Pod may have IPv6 only
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Who asks and hangs up is not worth a traceback in the job's log."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds; who connects and asks nothing must not keep a thread

        def do_GET(self) -> None:
            pages = {
                PROGRESS_PATH: ("application/json", to_json),
                "/metrics": ("text/plain; version=0.0.4", to_metrics),
            }
            kind, page = pages.get(self.path, ("text/plain", None))
            body = page(told.latest).encode() if page else b"not found\n"
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Polled every few seconds: not worth a line."""

    with suppress(OSError):
        server = Server(("", port), Handler)
        threading.Thread(target=server.serve_forever, name="progress", daemon=True).start()


def to_json(line: ProgressLine) -> str:
    return line.to_json() + "\n"


def to_metrics(line: ProgressLine) -> str:
    """The text format of Prometheus."""
    samples = {
        f'scalejob_step{{phase="{line.phase}"}}': line.step,
        f'scalejob_steps_max{{phase="{line.phase}"}}': line.of,
        f'scalejob_metric{{name="{line.metric}"}}': line.value,
        "scalejob_eta_seconds": line.eta_seconds,
    }
    return "".join(f"{name} {value}\n" for name, value in samples.items() if value is not None)
