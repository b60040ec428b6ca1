"""URIs of the spec as paths: mounted volumes only, so far."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from .errors import InvalidSpec


def local_path(uri: str, field: str) -> Path:
    """A path or a file:// URL as a path. InvalidSpec for other schemes; `field` names the field of the spec."""
    scheme, separator, _ = uri.partition("://")
    if not separator:
        if uri.startswith("~/"):  # only a shell knows what that is; here it would be a folder named ~
            raise InvalidSpec(f"{field}: {uri} begins with ~, which is not expanded: write the whole path")
        return Path(uri)
    parts = urlsplit(uri)
    if scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidSpec(f"{field}: {uri} is no path and no file:// URL; other places are not supported yet")
    return Path(unquote(parts.path))
