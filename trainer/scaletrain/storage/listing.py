"""Which files a URI means: a file, a folder, or a pattern."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaletrain.errors import InvalidData

from .file import FIELD, File
from .problems import is_missing, reaching
from .uri import file_system, is_local, local_path

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Files by their names below a root: the folder of the URI, or what comes before its first pattern."""

    root: str
    names: Sequence[str]  # sorted folder by folder, separated by /

    @property
    def files(self) -> list[File]:
        return [self.file(name) for name in self.names]

    def file(self, name: str) -> File:
        return File(f"{self.root}{name}")


def list_files(uri: str) -> Listing:
    """Names that begin with . or _, of files or folders, are left out unless the URI says them.

    InvalidData if there is no such file or folder, or nothing matches.
    """
    listing = _list_local(local_path(uri, FIELD), uri) if is_local(uri) else _list_remote(uri)
    return Listing(root=listing.root, names=sorted(listing.names, key=lambda name: name.split("/")))


def keys_of(name: str) -> dict[str, str]:
    """The keys and values of the folders key=value in a name, as Hive and Spark write them."""
    pairs = (folder.partition("=") for folder in name.split("/")[:-1])
    return {key: value for key, is_pair, value in pairs if key and is_pair}


def _list_local(path: Path, uri: str) -> Listing:
    if path.is_dir():
        return Listing(root=f"{path}/", names=list(_of_folder(path, "")))
    if path.exists():
        return Listing(root=f"{path.parent}/", names=[path.name])
    if not glob.has_magic(str(path)):
        raise InvalidData(f"{uri}: no such file or folder")
    fixed, pattern = _split(path.as_posix(), "*?[")
    root = Path(fixed)
    found = [file.relative_to(root).as_posix() for file in root.glob(pattern) if file.is_file()]
    return Listing(root=f"{root}/", names=_matching(found, uri))


def _of_folder(folder: Path, below: str) -> Iterator[str]:
    """The files of a folder and of its folders key=value."""
    for entry in folder.iterdir():
        if _is_data(entry.name):
            if entry.is_file():
                yield below + entry.name
            elif "=" in entry.name and entry.is_dir():
                yield from _of_folder(entry, f"{below}{entry.name}/")


def _list_remote(uri: str) -> Listing:
    fs, path = file_system(uri, FIELD)
    # A question mark begins the query of a web address, where it is no pattern.
    magic = "*[" if _is_web(fs) else "*?["
    with reaching(f"{FIELD}: {uri}"):
        kind = _kind(fs, path, uri)
        if kind == "directory":
            root = path.rstrip("/") + "/"
            found = fs.find(root, maxdepth=1 if _is_web(fs) else None)
            names = [name for file in found if _is_of_folder(name := file.removeprefix(root))]
            return Listing(root=_whole(fs, root, uri), names=names)
        if kind == "file":
            folder, _, name = path.rpartition("/")
            return Listing(root=_whole(fs, f"{folder}/", uri), names=[name])
        if not set(magic) & set(path):
            raise InvalidData(f"{uri}: no such file or folder")
        root, _ = _split(path, magic)
        found = [file for file, info in fs.glob(path, detail=True).items() if info["type"] == "file"]
        return Listing(root=_whole(fs, root, uri), names=_matching([f.removeprefix(root) for f in found], uri))


def _kind(fs: "AbstractFileSystem", path: str, uri: str) -> str | None:
    """file, directory, or None: nothing has that very name."""
    if uri.endswith("/"):
        return "directory"
    if _is_web(fs) and "*" in path:
        return None
    try:
        return str(fs.info(path)["type"])
    except FileNotFoundError as error:
        if is_missing(error):
            return None
        raise


def _is_web(fs: "AbstractFileSystem") -> bool:
    return "http" in fs.protocol


def _whole(fs: "AbstractFileSystem", root: str, uri: str) -> str:
    """The root as the beginning of URIs: some drivers leave the host out of their paths."""
    place = root.rstrip("/")
    return uri[: uri.index(place)] + root if place in uri else fs.unstrip_protocol(root)


def _split(path: str, magic: str) -> tuple[str, str]:
    """What comes before the first part with a pattern, with its slash, and the rest."""
    parts = path.split("/")
    first = next(n for n, part in enumerate(parts) if set(magic) & set(part))
    return "".join(f"{part}/" for part in parts[:first]), "/".join(parts[first:])


def _matching(names: Sequence[str], uri: str) -> list[str]:
    kept = [name for name in names if all(map(_is_data, name.split("/")))]
    if not kept:
        raise InvalidData(f"{uri}: no file matches")
    return kept


def _is_of_folder(name: str) -> bool:
    *folders, last = name.split("/")
    return _is_data(last) and all(_is_data(folder) and "=" in folder for folder in folders)


def _is_data(name: str) -> bool:
    """Names that begin with . or _ are notes of other programs: _SUCCESS, _temporary/, .ipynb_checkpoints/."""
    return bool(name) and name[0] not in "._"
