"""What a driver's error means for the user. Each driver has errors of its own; nothing else of this package looks at them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from scaletrain.errors import InvalidData, InvalidSpec, TrainerError, Unreachable

# By name, so that no driver has to be imported: of botocore and of google.auth.
NO_CREDENTIALS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError"}
)
BAD_REQUESTS = frozenset({"ParamValidationError", "InvalidURL", "NonHttpUrlClientError"})
READ_ONLY = frozenset({405, 501})  # of web servers
BUSY = frozenset({408, 425, 429})  # HTTP statuses of which a later try may think better


@contextmanager
def reaching(place: str) -> Iterator[None]:
    """Around calls of a driver and nothing else: whatever they raise becomes one error that names `place`.

    InvalidData: not there, or forbidden. InvalidSpec: cannot be written at all. Unreachable: anything else, since a new
    attempt may reach it; the driver has tried several times by then.
    """
    try:
        yield
    except TrainerError:
        raise
    except NotImplementedError as error:
        raise InvalidSpec(f"{place} can be read only") from error
    except Exception as error:
        raise _meaning(error, place) from error


def _meaning(error: Exception, place: str) -> TrainerError:
    chain = list(_chain(error))
    statuses = {status for link in chain if (status := _status(link)) is not None}
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if any(isinstance(link, PermissionError) for link in chain) or statuses & {401, 403} or names & NO_CREDENTIALS:
        return InvalidData(f"{place}: access was refused: {error}; credentials come from the environment of the worker")
    if is_missing(error):
        return InvalidData(f"{place}: no such file, folder or bucket")
    if type(error) is ValueError:  # s3://*/table.csv: what is asked for makes no sense to the driver
        return InvalidData(f"{place}: {error}")
    if statuses & READ_ONLY:
        return InvalidSpec(f"{place} can be read only")
    is_refused = any(400 <= status < 500 and status not in BUSY for status in statuses)
    if is_refused or names & BAD_REQUESTS or (isinstance(error, OSError) and error.errno == errno.EINVAL):
        return InvalidData(f"{place}: the request was refused: {error}")
    cause = chain[-1] if isinstance(error, FileNotFoundError) else error
    return Unreachable(f"{place} cannot be reached: {type(cause).__name__}: {cause}")


def is_missing(error: BaseException) -> bool:
    """There is no such file: the HTTP driver says so of any failure, and has the true one as its cause."""
    chain = list(_chain(error))
    return isinstance(error, FileNotFoundError) and (
        all(isinstance(link, FileNotFoundError) for link in chain) or 404 in map(_status, chain)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp, gcsfs or botocore."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return int(status) if str(status).isdigit() else None
