"""Log lines on standard error, one for each record, as text or JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any, Final

from service.telemetry.tracing import current_request

_EXPORTER: Final = "opentelemetry"
_EXPORTER_REPEATS_S: Final = 60.0
# C0, C1 and the two of Unicode that end lines, and the marks that turn the direction of text.
_CONTROL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


class LogFormatter(logging.Formatter):
    """Formats a record as `key=value` text or as JSON; `record.fields` has additional fields."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._second, self._until_second = -1, ""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        at = f"{self._time(int(record.created))}.{int(record.msecs):03d}Z"
        level, message = record.levelname.lower(), record.getMessage()
        fields: dict[str, Any] = getattr(record, "fields", {})
        if trace_id := getattr(record, "trace_id", ""):
            fields = {**fields, "trace_id": trace_id}
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._as_json:
            head = {"time": at, "level": level, "logger": record.name, "message": message}
            return json.dumps(
                {**head, **fields, **({"trace": trace} if trace else {})}, default=str
            )
        line = f"{at} {level:<7} {_one_line(message)}"
        for key, value in fields.items():
            line += f" {key}={_one_line(value)}"
        if not trace:
            return line.rstrip()
        # A line of a traceback may be somebody's words: none begins as a record does.
        return line.rstrip() + "".join(f"\n  {_one_line(each)}" for each in trace.splitlines())

    def _time(self, second: int) -> str:
        """The time in UTC up to the second, which many records share."""
        if second != self._second:
            written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second, self._until_second = second, written
        return self._until_second


def _one_line(value: object) -> str:
    """Text without characters that would end the line, or change what a terminal shows."""
    text = str(value)
    if text.isprintable():  # most is, and then nothing has to be looked for
        return text
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _ExporterLines(logging.Filter):
    """Turns records of the trace exporter into warnings without traceback, once a minute each.

    A collector that does not answer harms no request, and must not fill the log.
    """

    def __init__(self) -> None:
        super().__init__(_EXPORTER)
        self._said_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not super().filter(record):
            return True  # of another logger
        said_at = self._said_at.get(str(record.msg))
        if said_at is not None and record.created - said_at < _EXPORTER_REPEATS_S:
            return False
        self._said_at[str(record.msg)] = record.created
        if record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.exc_info = None
        return True


def _add_trace_id(record: logging.LogRecord) -> bool:
    record.trace_id = current_request.get().trace_id
    return True


def configure_logging(level: str, *, as_json: bool) -> None:
    """Write the records of all loggers to standard error."""
    # No line says where, in which thread or in which process: none of that is looked up.
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(as_json=as_json))
    handler.addFilter(_add_trace_id)
    handler.addFilter(_ExporterLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # Uvicorn logs every step at level info; its problems are warnings and errors.
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
