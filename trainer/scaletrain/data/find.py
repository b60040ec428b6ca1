"""Which files a URI means."""

import glob
from itertools import takewhile
from pathlib import Path

from scalejob.api.v1alpha1 import FileFormat, Files
from scaletrain.errors import InvalidData
from scaletrain.paths import local_path

ENDINGS = {
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
    ".csv": FileFormat.CSV,
    ".npy": FileFormat.NPY,
    ".npz": FileFormat.NPY,
}


def find_files(files: Files) -> tuple[FileFormat, list[Path]]:
    """The format and the files, sorted by name. InvalidData if there are none, or if they are not of one known format."""
    found = [path for path in _matches(files.uri) if path.is_file()]
    if files.format:
        return files.format, _of_format(found, files)
    formats = {ENDINGS[path.suffix.lower()] for path in found if path.suffix.lower() in ENDINGS}
    if len(formats) > 1:
        raise InvalidData(
            f"{files.uri} has files of several formats ({', '.join(sorted(formats))}): set data.files.format"
        )
    if not formats:
        raise InvalidData(
            f"{files.uri}: the format cannot be told from the names ({', '.join(p.name for p in found[:3]) or 'no files'}):"
            f" known are {', '.join(ENDINGS)}; or set data.files.format"
        )
    return formats.pop(), [path for path in found if path.suffix.lower() in ENDINGS]


def _matches(uri: str) -> list[Path]:
    path = local_path(uri, "data.files.uri")
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _is_data(Path(file.name)))
    if path.exists():
        return [path]
    if not glob.has_magic(str(path)):
        raise InvalidData(f"{uri}: no such file or folder")
    root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
    found = sorted(file for file in root.glob(str(path.relative_to(root))) if _is_data(file.relative_to(root)))
    if not found:
        raise InvalidData(f"{uri}: no file matches")
    return found


def _is_data(file: Path) -> bool:
    """Names that begin with . or _ are notes of other programs: _SUCCESS, _temporary/, .ipynb_checkpoints/."""
    return all(part[0] not in "._" for part in file.parts)


def _of_format(found: list[Path], files: Files) -> list[Path]:
    """Files of another known format in the same folder are left out; a name without a known ending is taken at the user's word."""
    kept = [path for path in found if ENDINGS.get(path.suffix.lower(), files.format) is files.format]
    if not kept:
        raise InvalidData(f"{files.uri}: no file of the format {files.format}")
    return kept
