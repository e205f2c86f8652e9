"""What both clients share of sending: addresses, headers, and what is done with an answer."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx2

from facette_client.answers import Event
from facette_client.calls import Answer, Call
from facette_client.errors import AnswerError, UnreachableError, error_of
from facette_client.retries import REPEATED_STATUSES, Retries, seconds_of

DEFAULT_URL: Final = "http://127.0.0.1:8000"
# What an earlier attempt may have done where the service answers a request by this.
_DONE_BEFORE: Final = {("DELETE", 404): "have deleted it", ("PATCH", 412): "have changed it so"}
_NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


def settings_of(url: str | None, key: str | None, timeout_s: float) -> dict[str, Any]:
    """The arguments of an HTTP client; FACETTE_URL and FACETTE_KEY stand in for None."""
    key = key or os.environ.get("FACETTE_KEY")
    return {
        "base_url": url or os.environ.get("FACETTE_URL") or DEFAULT_URL,
        "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
        "timeout": timeout_s,
    }


def arguments_of(call: Call[Any], photos: list[bytes]) -> dict[str, Any]:
    """The arguments of a request, as the HTTP clients take them."""
    found: dict[str, Any] = {"params": dict(call.query), "headers": dict(call.headers)}
    if call.is_form or len(photos) > 1:
        found["headers"]["Content-Type"], found["content"] = _form(photos)
    elif photos:
        found["content"] = photos[0]
        found["headers"]["Content-Type"] = "application/octet-stream"
    elif call.body is not None:
        found["json"] = call.body
    return found


def _form(photos: list[bytes]) -> tuple[str, bytes]:
    """The media type and the body of a form of photos.

    The encoder of httpx2 reads and sends it in pieces of 64 KiB, at twice the cost.
    """
    boundary = uuid4().hex
    pieces = []
    for number, photo in enumerate(photos):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{number}"'
        pieces += [f"{head}\r\n\r\n".encode(), photo, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


@dataclass(slots=True)
class Attempts:
    """The attempts of one request."""

    retries: Retries
    began: float = field(default_factory=time.monotonic)
    made: int = 0
    outcome_unknown: bool = False

    def after_answer(self, call: Call[Any], status: int, retry_after: str | None) -> float | None:
        """How long to wait before the next attempt; None where this answer is the last one."""
        self.made += 1
        if status not in REPEATED_STATUSES:
            return None
        # The change of an answer like these may have been made.
        self.outcome_unknown |= status != 429
        return self._wait_s(call, retry_after)

    def after_failure(self, call: Call[Any], error: httpx2.TransportError) -> float:
        """How long to wait before the next attempt, where no answer came.

        Raises:
            UnreachableError: there is no further attempt.
        """
        self.made += 1
        self.outcome_unknown |= not isinstance(error, _NOT_SENT)
        wait_s = self._wait_s(call, None)
        if wait_s is None:
            raise UnreachableError(
                f"{call.method} {call.path}: {type(error).__name__}: {error} "
                f"({self.made} attempts)",
                outcome_unknown=self.outcome_unknown,
            ) from error
        return wait_s

    def error(self, call: Call[Any], response: httpx2.Response) -> AnswerError:
        """The error of the last answer."""
        try:
            body = json.loads(response.content)
        except ValueError:  # from something else than the service
            body = None
        error = error_of(
            response.status_code,
            body,
            response.headers.get("x-request-id", ""),
            seconds_of(response.headers.get("retry-after")),
        )
        if self.outcome_unknown:
            if (done := _DONE_BEFORE.get((call.method, error.status))) is not None:
                error.add_note(f"An earlier attempt, whose answer was lost, may {done}.")
            elif error.status in REPEATED_STATUSES and not call.is_repeatable:
                error.add_note("It may have been done, so it was not sent again.")
        return error

    def _wait_s(self, call: Call[Any], retry_after: str | None) -> float | None:
        if self.outcome_unknown and not call.is_repeatable:
            return None
        return self.retries.wait_s(self.made, time.monotonic() - self.began, retry_after)


def answer_of(response: httpx2.Response) -> Answer:
    """A successful answer."""
    return Answer(response.status_code, response.headers, response.content)


class EventParser:
    """Reads server-sent events, line by line.

    Attributes:
        last_id: of the last event that was read to its end, or where the stream began; None as
            long as neither is known.
    """

    def __init__(self, after: int | None) -> None:
        self.last_id = after
        self.begin()

    def begin(self) -> None:
        """Begin a connection: an event that was cut off with the last one is sent again."""
        self._id, self._kind = self.last_id, ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """The event that ends with a line."""
        if not line:
            event, self.last_id = None, self._id
            if self._data and self.last_id is not None:
                event = Event(self.last_id, self._kind, json.loads("\n".join(self._data)))
            self._kind, self._data = "", []
            return event
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and value.isdecimal():
            self._id = int(value)
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        return None


def events_call(path: str, parser: EventParser) -> Call[None]:
    """The request for the events after those that were read."""
    headers = {"Accept": "text/event-stream"}
    if parser.last_id is not None:
        headers["Last-Event-ID"] = str(parser.last_id)
    return Call("GET", f"{path}/events", lambda answer: None, headers=headers)
