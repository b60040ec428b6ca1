"""The files of a data set, and their format."""

from dataclasses import replace
from pathlib import PurePosixPath

from scalejob.api.v1alpha1 import FileFormat, Files
from scaletrain.errors import InvalidData
from scaletrain.storage.listing import Listing, list_files

ENDINGS = {
    ".parquet": FileFormat.PARQUET,
    ".pq": FileFormat.PARQUET,
    ".csv": FileFormat.CSV,
    ".arrow": FileFormat.ARROW,
    ".arrows": FileFormat.ARROW,
    ".feather": FileFormat.ARROW,
    ".ipc": FileFormat.ARROW,
    ".npy": FileFormat.NPY,
    ".npz": FileFormat.NPY,
    ".libsvm": FileFormat.LIBSVM,
    ".svmlight": FileFormat.LIBSVM,
    ".svm": FileFormat.LIBSVM,
}


def find_files(files: Files) -> tuple[FileFormat, Listing]:
    """The format and the files, sorted by name. InvalidData if there are none, or if they are not of one known format."""
    found = list_files(files.uri)
    if files.format:
        return files.format, _of_format(found, files)
    formats = {ENDINGS[ending] for name in found.names if (ending := _ending(name)) in ENDINGS}
    if len(formats) > 1:
        raise InvalidData(
            f"{files.uri} has files of several formats ({', '.join(sorted(formats))}): set data.files.format"
        )
    if not formats:
        shown = ", ".join(PurePosixPath(name).name for name in found.names[:3])
        deeper = "" if shown else f"; files in folders below are meant by {files.uri.rstrip('/')}/**/*"
        raise InvalidData(
            f"{files.uri}: the format cannot be told from the names ({shown or 'no files'}):"
            f" known are {', '.join(ENDINGS)}; or set data.files.format{deeper}"
        )
    return formats.pop(), replace(found, names=[name for name in found.names if _ending(name) in ENDINGS])


def _ending(name: str) -> str:
    """In small letters; what follows a question mark is the query of a web address."""
    return PurePosixPath(name.partition("?")[0]).suffix.lower()


def _of_format(found: Listing, files: Files) -> Listing:
    """Files of another known format in the same folder are left out; a name without a known ending is taken at the user's word."""
    kept = [name for name in found.names if ENDINGS.get(_ending(name), files.format) is files.format]
    if not kept:
        raise InvalidData(f"{files.uri}: no file of the format {files.format}")
    return replace(found, names=kept)
