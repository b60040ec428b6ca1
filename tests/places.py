"""Places that are not mounted volumes, for real and on loopback: an S3-compatible server, and a web server that counts."""

import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import s3fs

from tests.dist.world import free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """An S3-compatible server, a process of its own, and what a client needs in its environment."""

    process: subprocess.Popen[bytes]
    env: Mapping[str, str]

    @property
    def files(self) -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(use_listings_cache=False)

    def put(self, folder: Path, uri: str) -> None:
        """The files below a folder under the same names below `uri`."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files.pipe_file(f"{uri}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def object_store(bucket: str = "bucket") -> Iterator[ObjectStore]:
    """With an empty bucket. This process's environment names it meanwhile."""
    port = free_port()
    env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    store = ObjectStore(
        process=subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), env=env
    )
    s3fs.S3FileSystem.clear_instance_cache()
    with patch.dict(os.environ, env):
        try:
            _wait_for(env["AWS_ENDPOINT_URL"])
            store.files.mkdir(bucket)
            yield store
        finally:
            store.stop()
            s3fs.S3FileSystem.clear_instance_cache()


def _wait_for(url: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url).close()  # noqa: S310 - a server of ours
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing answers at {url}")


@dataclass(slots=True, kw_only=True)
class WebServer:
    """A web server that serves a folder."""

    url: str
    sent: list[tuple[str, int]] = field(default_factory=list)  # path and length of each body
    statuses: list[int] = field(default_factory=list)  # to answer with, before the files are served

    def bytes_sent(self) -> int:
        return sum(length for _, length in self.sent)


class _Handler(SimpleHTTPRequestHandler):
    """With ranges, which the library's own handler lacks."""

    def __init__(self, *args: object, told: WebServer, with_ranges: bool, **kwargs: object) -> None:
        self.told, self.with_ranges = told, with_ranges
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if self.told.statuses:
            self.send_error(self.told.statuses.pop(0))
        elif path.is_file():
            self._send(path.read_bytes())
        else:
            super().do_GET()

    def _send(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2])) if asked and self.with_ranges else (0, len(content) - 1)
        body = content[first : last + 1]
        self.send_response(206 if asked and self.with_ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.told.sent.append((self.path, len(body)))


@contextmanager
def web_server(folder: Path, *, with_ranges: bool = True) -> Iterator[WebServer]:
    told = WebServer(url="")
    handler = partial(_Handler, directory=str(folder), told=told, with_ranges=with_ranges)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        told.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
