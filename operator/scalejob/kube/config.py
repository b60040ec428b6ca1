"""How to reach the API server and who we are: the Pod's service account, or a kubeconfig.

Client certificates, tokens and token files are supported. Credential plug-ins (`exec`) are not: an operator runs with a
service account, and tests with certificates.
"""

import base64
import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any

import yaml

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# The kubelet replaces a bound token at 80 % of its life; client-go reads it again as often as this.
_TOKEN_SECONDS = 60.0


class ConfigError(ValueError):
    """No usable configuration; the message says what was looked for and where."""


class TokenFile:
    """A bearer token that is read again when it is old or was refused."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._read_at: float | None = None

    def get(self) -> str:
        """The token; at most 60 s old."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= _TOKEN_SECONDS:
            self._token = self._path.read_text().strip()
            self._read_at = now
        return self._token

    def expire(self) -> None:
        """Read the file again at the next use."""
        self._read_at = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Where the API server is and how to prove who we are. `ssl` is None for plain http."""

    server: str
    ssl: SSLContext | None = None
    token: str | None = None
    token_path: Path | None = None


def load_config(kubeconfig: str | None = None) -> ClusterConfig:
    """The given kubeconfig, else the service account, else $KUBECONFIG or ~/.kube/config."""
    if kubeconfig:
        return from_kubeconfig(Path(kubeconfig))
    if "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").exists():
        return in_cluster()
    return from_kubeconfig(Path(os.environ.get("KUBECONFIG") or "~/.kube/config").expanduser())


def in_cluster(account: Path = _SERVICE_ACCOUNT) -> ClusterConfig:
    """The configuration of a Pod with a mounted service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    return ClusterConfig(
        server=f"https://{host}:{port}",
        ssl=_trusting((account / "ca.crt").read_text()),
        token_path=account / "token",
    )


def from_kubeconfig(path: Path) -> ClusterConfig:
    """The current context of a kubeconfig. Raises ConfigError."""
    try:
        document = yaml.safe_load(path.read_text()) or {}
        context = _named(document, "contexts", "context", document.get("current-context"))
        cluster = _named(document, "clusters", "cluster", context["cluster"])
        user = _named(document, "users", "user", context["user"])
        return _of_kubeconfig(cluster, user, path.parent)
    except OSError as error:
        raise ConfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from error
    except (KeyError, yaml.YAMLError) as error:
        raise ConfigError(f"the kubeconfig {path} is not complete: {error}") from error


def _named(document: dict[str, Any], many: str, one: str, name: str | None) -> dict[str, Any]:
    """The entry `name` of one of the lists of a kubeconfig."""
    for entry in document.get(many) or ():
        if entry.get("name") == name:
            found: dict[str, Any] = entry[one]
            return found
    raise KeyError(f"{one} {name!r}")


def _of_kubeconfig(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> ClusterConfig:
    if "exec" in user or "auth-provider" in user:
        raise KeyError("a user with a token or a client certificate (credential plug-ins are not supported)")
    token_file = user.get("tokenFile")
    return ClusterConfig(
        server=cluster["server"].rstrip("/"),
        ssl=_ssl_context(cluster, user, folder) if cluster["server"].startswith("https") else None,
        token=user.get("token"),
        token_path=folder / token_file if token_file else None,
    )


def _ssl_context(cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> SSLContext:
    authority = _content(cluster, "certificate-authority", folder)
    context = _trusting(authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = _content(user, "client-certificate", folder), _content(user, "client-key", folder)
    if certificate and key:
        _load_certificate(context, certificate, key)
    return context


def _trusting(authority: str | None) -> ssl.SSLContext:
    """Verifies against this authority (PEM), or the system's.

    Not in the strict mode that is the default since Python 3.13: authorities of clusters may lack the extensions key usage
    and authority key identifier, and no other client minds.
    """
    context = ssl.create_default_context(cadata=authority)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _content(entry: dict[str, Any], field: str, folder: Path) -> bytes | None:
    """What `<field>-data` holds, else what the file `<field>` holds; relative paths start at the kubeconfig."""
    if data := entry.get(f"{field}-data"):
        return base64.b64decode(data)
    return (folder / entry[field]).read_bytes() if entry.get(field) else None


def _load_certificate(context: SSLContext, certificate: bytes, key: bytes) -> None:
    """The ssl module takes certificates from files only; the file is gone before this returns."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "client.pem")
        path.touch(mode=0o600)
        path.write_bytes(certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(path)
