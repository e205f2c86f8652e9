"""What a request's head says of it: whose it is, how urgent, and by when it must be answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Receive

from service.api.forms import parse_query
from service.batching import Priority
from service.domain.errors import ParameterError

TIMEOUT_HEADER = "x-request-timeout-ms"
PRIORITY_HEADER = "x-priority"
MAX_TIMEOUT_MS = 600_000
_MAX_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Call:
    """The facts of one request's head.

    query: the parameters of the query string.
    tenant: as the query string names it; None where only a form can.
    deadline: `time.monotonic()` by which it must be answered.
    body_bytes: announced length; None when it is not known.
    receive: tells what comes on the connection after the body.
    """

    query: Mapping[str, str]
    tenant: str | None
    priority: Priority
    deadline: float
    body_bytes: int | None
    receive: Receive

    @classmethod
    def of(cls, request: Request, default_timeout_s: float) -> Call:
        """Read the head.

        Raises:
            ParameterError: a header that says nothing usable, or a query string that is no UTF-8
                or has a parameter twice.
        """
        headers = request.headers
        announced = headers.get("content-length")
        if announced is None:
            body_bytes = None if "transfer-encoding" in headers else 0
        else:
            body_bytes = int(announced)
        given = headers.get(TIMEOUT_HEADER)
        timeout_s = default_timeout_s if given is None else _timeout_s(given)
        query = parse_query(request.scope["query_string"])
        return cls(
            query,
            query.get("tenant_id"),
            _priority(headers.get(PRIORITY_HEADER, "interactive")),
            time.monotonic() + timeout_s,
            body_bytes,
            request.receive,
        )


def _timeout_s(given: str) -> float:
    plain = len(given) <= _MAX_DIGITS and given.isascii() and given.isdigit()
    if plain and 1 <= int(given) <= MAX_TIMEOUT_MS:
        return int(given) / 1e3
    raise ParameterError(
        "X-Request-Timeout-Ms",
        f"The header 'X-Request-Timeout-Ms' must be a whole number from 1 to {MAX_TIMEOUT_MS}.",
    )


def _priority(given: str) -> Priority:
    try:
        return Priority[given.strip().upper()]
    except KeyError:
        raise ParameterError(
            "X-Priority", "The header 'X-Priority' must be 'interactive' or 'bulk'."
        ) from None
