"""Log lines: one a record, with its fields, and quiet where only traces are lost."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest

from service.telemetry import LogFormatter, RequestSpan, configure_logging
from service.telemetry.tracing import current_request


class TracedRequest(RequestSpan):
    """A request with a trace."""

    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Whatever the test does to logging is undone."""
    loggers = [logging.getLogger(name) for name in (None, "uvicorn")]
    levels = [logger.level for logger in loggers]
    handlers = list(loggers[0].handlers)
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def _record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    record = logging.LogRecord("facette.test", logging.INFO, "x.py", 1, message, arguments, None)
    record.created, record.msecs = 0.0, 42.0
    for name, value in more.items():
        setattr(record, name, value)
    return record


def _failure() -> object:
    try:
        raise ValueError("broken")
    except ValueError as error:
        return (type(error), error, error.__traceback__)


def test_a_text_line_begins_with_time_level_and_message_and_ends_with_the_fields() -> None:
    record = _record("took %d", 7, fields={"request_id": "abc", "ms": "1.5"})
    line = LogFormatter(as_json=False).format(record)
    assert line == "1970-01-01T00:00:00.042Z info    took 7 request_id=abc ms=1.5"


@pytest.mark.parametrize(
    "end", ["\n", "\r", "\x1b[2K", "\x85", "\u2028", "\x00", "\u202e"], ids=ascii
)
@pytest.mark.parametrize("as_json", [False, True])
def test_no_words_of_others_make_a_line_of_their_own(end: str, as_json: bool) -> None:
    forged = f"x{end}1970-01-01T00:00:00.000Z error   forged"
    try:
        raise ValueError(forged)
    except ValueError as error:
        failure = (type(error), error, error.__traceback__)
    record = _record("not read: %s", forged, fields={"key": forged}, exc_info=failure)
    text = LogFormatter(as_json=as_json).format(record)
    assert end == "\n" or end not in text
    begun = [line for line in re.split(r"[\r\n\x85\u2028]", text) if line.startswith("1970")]
    assert len(begun) == (0 if as_json else 1)


def test_a_json_line_holds_the_same_and_the_logger() -> None:
    record = _record("took %d", 7, fields={"request_id": "abc", "status": 200})
    assert json.loads(LogFormatter(as_json=True).format(record)) == {
        "time": "1970-01-01T00:00:00.042Z",
        "level": "info",
        "logger": "facette.test",
        "message": "took 7",
        "request_id": "abc",
        "status": 200,
    }


def test_a_traceback_follows_a_text_line() -> None:
    head, *trace = (
        LogFormatter(as_json=False).format(_record("no", exc_info=_failure())).split("\n")
    )
    assert head.endswith("info    no")
    assert trace[0] == "  Traceback (most recent call last):"
    assert trace[-1] == "  ValueError: broken"


def test_a_traceback_stays_within_a_json_line() -> None:
    line = LogFormatter(as_json=True).format(_record("no", exc_info=_failure()))
    assert "\n" not in line
    assert json.loads(line)["trace"].endswith("ValueError: broken")


@pytest.mark.usefixtures("logging_restored")
def test_lines_of_a_traced_request_carry_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", as_json=False)
    logger = logging.getLogger("facette.test")
    token = current_request.set(TracedRequest())
    logger.info("inside")
    current_request.reset(token)
    logger.info("outside")
    inside, outside = capsys.readouterr().err.splitlines()
    assert inside.endswith("inside trace_id=4bf92f3577b34da6a3ce929d0e0e4736")
    assert outside.endswith("outside")


@pytest.mark.usefixtures("logging_restored")
def test_the_exporter_of_traces_warns_once_of_each_trouble(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", as_json=False)
    exporter = logging.getLogger("opentelemetry.exporter.test")
    for _ in range(3):
        exporter.error("not sent: %s", "refused", exc_info=_failure())
        exporter.warning("queue full")
    lines = [re.sub(r"^\S+ ", "", line) for line in capsys.readouterr().err.splitlines()]
    assert lines == ["warning not sent: refused", "warning queue full"]


@pytest.mark.usefixtures("logging_restored")
def test_errors_of_the_service_stay_errors_however_often(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", as_json=False)
    for _ in range(2):
        logging.getLogger("facette.test").error("no")
    levels = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    assert levels == ["error", "error"]


@pytest.mark.usefixtures("logging_restored")
@pytest.mark.parametrize(("level", "heard"), [("info", False), ("debug", True)])
def test_what_the_http_server_narrates_is_heard_only_when_debugging(
    capsys: pytest.CaptureFixture[str], level: str, heard: bool
) -> None:
    configure_logging(level, as_json=False)
    logging.getLogger("uvicorn").info("step")
    assert ("step" in capsys.readouterr().err) == heard
