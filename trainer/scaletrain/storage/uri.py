"""Which file system a URI names. Credentials come from the environment as the drivers read it, never from the URI."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from scalejob.api.v1alpha1.base import USER_INFO
from scaletrain.errors import InvalidSpec

from .problems import reaching

if TYPE_CHECKING:
    from aiohttp_retry import RetryClient
    from fsspec import AbstractFileSystem

LOCAL = "file"
# What is installed with which extra of this package; other drivers of fsspec are packages of their own.
EXTRAS: Mapping[str, str] = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "http": "http", "https": "http"}
SCHEMES = (*EXTRAS, LOCAL)
ATTEMPTS = 4  # of one request, with a growing pause between them, by the drivers themselves

# It prints a traceback of each try that fails; the last one is told anyway. Handlers of the program's own get them still.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith(f"{LOCAL}://")


def local_path(uri: str, field: str) -> Path:
    """A path or a file:// URL as a path; `field` names the field of the spec. InvalidSpec if it is not on this machine."""
    if "://" not in uri:
        if uri.startswith("~/"):  # only a shell knows what that is; here it would be a folder named ~
            raise InvalidSpec(f"{field}: {uri} begins with ~, which is not expanded: write the whole path")
        scheme, colon, rest = uri.partition(":")
        if colon and scheme.lower() in SCHEMES:  # a model would lie in a folder named s3:, and go with the Pod
            raise InvalidSpec(
                f"{field}: {uri} is no URL: write {scheme.lower()}://{'/' * (scheme.lower() == LOCAL)}{rest.lstrip('/')}"
            )
        return Path(uri)
    if not is_local(uri):
        raise InvalidSpec(f"{field}: {uri} is not on this machine: a path is needed")
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise InvalidSpec(f"{field}: {uri} names the machine {parts.netloc}; a file:// URL begins with three slashes")
    return Path(unquote(parts.path))


def file_system(uri: str, field: str) -> "tuple[AbstractFileSystem, str]":
    """The driver, and the path as it knows it. InvalidSpec if there is none, or if the URI holds a password."""
    from fsspec.core import url_to_fs  # noqa: PLC0415 - takes 0.1 s, and volumes do not need it

    scheme = uri.partition("://")[0]
    if re.match(USER_INFO, uri):
        raise InvalidSpec(
            f"{field}: the URI holds a user and a password; leave them out: credentials come from the environment"
        )
    if "::" in uri:
        raise InvalidSpec(f"{field}: {uri}: file systems inside of others (::) are not supported")
    _require_driver(uri, scheme, field)
    with reaching(f"{field}: {uri}"):  # some drivers connect at once
        try:
            fs, path = url_to_fs(uri, use_listings_cache=False, **_options(scheme))
        except (TypeError, ValueError) as error:
            raise InvalidSpec(f"{field}: {uri}: {error}") from error
    if not path.strip("/"):
        raise InvalidSpec(f"{field}: {uri} names no bucket and no path")
    return fs, path


def _require_driver(uri: str, scheme: str, field: str) -> None:
    import fsspec  # noqa: PLC0415 - as above

    if scheme not in fsspec.available_protocols():
        if scheme.lower() in SCHEMES:
            raise InvalidSpec(f"{field}: {uri}: write the scheme in small letters: {scheme.lower()}://")
        others = sorted(set(fsspec.available_protocols()) - set(EXTRAS) - {LOCAL, "local"})
        raise InvalidSpec(
            f"{field}: {uri}: {scheme}:// is not known. Known are paths, file://, {', '.join(f'{s}://' for s in EXTRAS)},"
            f" and with drivers of fsspec that you install: {', '.join(others)}"
        )
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        way = f"pip install 'scalejob[{EXTRAS[scheme]}]'" if scheme in EXTRAS else str(error)
        raise InvalidSpec(f"{field}: {uri} needs a driver that is not installed: {way}") from error


def _options(scheme: str) -> dict[str, Any]:
    """How the driver is to try again. What the user has set for it by fsspec's own configuration counts first."""
    from fsspec.config import conf  # noqa: PLC0415 - as above

    retries = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    http = {"get_client": _http_client, "client_kwargs": {"trust_env": True}}  # proxies, and passwords in ~/.netrc
    options: dict[str, dict[str, Any]] = {
        "s3": {"config_kwargs": {"retries": retries}},
        "s3a": {"config_kwargs": {"retries": retries}},
        "http": http,
        "https": http,
    }
    return {name: value for name, value in options.get(scheme, {}).items() if name not in conf.get(scheme, {})}


async def _http_client(**kwargs: Any) -> "RetryClient":
    from aiohttp import ClientSession  # noqa: PLC0415 - only those who need it have it
    from aiohttp_retry import ExponentialRetry, RetryClient  # noqa: PLC0415 - as above

    return RetryClient(client_session=ClientSession(**kwargs), retry_options=ExponentialRetry(attempts=ATTEMPTS))
