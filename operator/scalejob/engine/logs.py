"""Logs are events with fields: one line of JSON each, or the same for people."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# kopf's own fields: an object of its structures, not for a log line.
_HIDDEN = frozenset({"k8s_skip", "k8s_ref", "settings"})


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra`."""
    return {k: v for k, v in vars(record).items() if k not in _STANDARD and k not in _HIDDEN and v is not None}


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
    """Log to stderr. Libraries speak only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[log_format]())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("scalejob").setLevel(level.upper())
