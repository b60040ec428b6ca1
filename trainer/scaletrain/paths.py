"""URIs of the spec as paths: mounted volumes only, so far."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from .errors import InvalidSpec


def local_path(uri: str, field: str) -> Path:
    """A path or a file:// URL as a path. InvalidSpec for other schemes; `field` names the field of the spec."""
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return Path(uri)
    parts = urlsplit(uri)
    if scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidSpec(f"{field}: {uri} is no path and no file:// URL; other places are not supported yet")
    return Path(unquote(parts.path))
