"""Logs are events with fields: one line of JSON each, or the same for people.

* `time`, `level`, `logger`, `message`: of every line
* `reconcile`, `job`, `uid`, `attempt`: of every line that is written while a job is looked at, whoever writes it
* `reason`, `error` and others: what the one who writes it adds
* `exception`: the trace, where there is one
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# kopf's own fields: an object of its structures, not for a log line. `k8s_ref` is told as `job` and `uid`.
_HIDDEN = frozenset({"k8s_skip", "k8s_ref", "settings"})

# Tasks that are started inside inherit them, so a line about one of many requests at once has them too.
_context: ContextVar[dict[str, Any]] = ContextVar("log fields", default={})  # noqa: B039 - never changed, only replaced


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Every line that is written inside has these fields, unless it says otherwise itself."""
    token = _context.set(_context.get() | fields)
    try:
        yield
    finally:
        _context.reset(token)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Those of the context, then what was passed as `extra`."""
    own = {k: v for k, v in vars(record).items() if k not in _STANDARD and k not in _HIDDEN}
    fields = _context.get() | _fields_of_kopf(record) | own
    return {k: v for k, v in fields.items() if v is not None}


def _fields_of_kopf(record: logging.LogRecord) -> dict[str, Any]:
    ref = getattr(record, "k8s_ref", None)
    return {"job": f"{ref.get('namespace')}/{ref.get('name')}", "uid": ref.get("uid")} if ref else {}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """`12:00:00 info message job=team-a/segments attempt=1`."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        fields = "".join(f" {k}={' '.join(str(v).split())}" for k, v in fields_of(record).items())
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{clock} {record.levelname.lower()} {record.getMessage()}{fields}{trace}"


_FORMATTERS = {"json": JsonFormatter, "text": TextFormatter}


def configure_logs(log_format: str, level: str) -> None:
    """Log to stderr, with warnings of Python and the error that ends the process. Libraries speak only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[log_format]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("scalejob").setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_the_end


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("the operator has died", exc_info=(kind, error, trace))
