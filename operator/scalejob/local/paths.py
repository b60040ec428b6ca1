"""What lies on volumes in a Pod lies below ./.scalejob on this machine.

    in the worker                         mounted at    here
    /models/segments                      /models       .scalejob/models/segments
    file:///data/2013/*.parquet           /data         .scalejob/data/2013/*.parquet
    /home/me/table.csv, table.csv         -             the same

A path is under a mount by its whole names: /models-old is not under /models. Whether a mount is a claim, a ConfigMap or an
emptyDir makes no difference.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = ".scalejob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounts:
    """The mount paths of a job."""

    paths: Sequence[str]

    def mount_of(self, uri: str) -> str | None:
        """The innermost mount path that holds `uri`."""
        path = _plain(uri) + "/"
        holders = [mount for mount in self.paths if path.startswith(_plain(mount).rstrip("/") + "/")]
        return max(holders, key=len, default=None)

    def to_local(self, uri: str) -> str:
        """Where `uri` lies here; paths under no mount, and other URLs, are returned as they are."""
        return local_path(uri) if self.mount_of(uri) else uri


def local_path(uri: str) -> str:
    """The path below ROOT that stands for an absolute path of a Pod."""
    return str(Path(ROOT) / _plain(uri).lstrip("/"))


def _plain(uri: str) -> str:
    """Without file://, double slashes and `..`: /models/../etc is not under /models."""
    is_url = uri.startswith("file://")
    return posixpath.normpath(unquote(urlsplit(uri).path) if is_url else uri)
