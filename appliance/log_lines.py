"""How the service's log looks: one line a record on stderr, for people and journald, or one JSON object a line.

PILULIER_LOG_FORMAT=json chooses the second for the service and all of its parts. Control characters of a message never
reach a terminal or begin a line of their own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Final

from appliance.control.text import one_line

VARIABLE: Final = "PILULIER_LOG_FORMAT"
_LIMIT: Final = 4000


class PlainLines(logging.Formatter):
    """Time, level, logger, message; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """The record's line, with its message as one line."""
        record.message = one_line(record.message, _LIMIT)
        return super().formatMessage(record)


class JsonLines(logging.Formatter):
    """`at` (ISO 8601, UTC), `level`, `logger`, `message`, `process`; `exception` where there is one; extra texts."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, which has no line ends inside."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage(), _LIMIT),
            "process": record.process,
        }
        request = getattr(record, "request_id", None)
        if request is not None:
            line["request_id"] = str(request)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def to_stderr(level: int = logging.INFO) -> None:
    """Send this process's log to stderr in the form that the environment asks for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if os.environ.get(VARIABLE, "").lower() == "json" else PlainLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
