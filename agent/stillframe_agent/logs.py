"""Logs: one JSON object per line on standard error.

Fields come from ``extra={"fields": {...}}``; nothing that a process wrote and
no secret is ever passed there but bounded, printable names.
"""

import json
import logging
import sys
import time


class _JsonFormatter(logging.Formatter):
    """``{"time", "level", "message", …fields, "error"}``."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send our log lines from ``level`` on, and warnings of libraries, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("stillframe_agent").setLevel(level.upper())


def event(log: logging.Logger, level: int, message: str, **fields: object) -> None:
    """One line with ``fields`` beside the message."""
    log.log(level, message, extra={"fields": fields})
