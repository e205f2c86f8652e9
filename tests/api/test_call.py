"""What is read of a request's head."""

from __future__ import annotations

import time

import pytest
from starlette.requests import Request
from starlette.types import Message

from service.api.boundary import REQUEST_ID
from service.api.params import MAX_TIMEOUT_MS, Call
from service.batching import Priority
from service.domain.errors import ParameterError
from service.domain.keys import OPERATOR

DEFAULT_S = 60.0


def call(query: str = "", **headers: str) -> Call:
    async def receive() -> Message:
        raise AssertionError("the head alone is read")

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/embed",
        "query_string": query.encode(),
        "headers": raw,
        REQUEST_ID: "0" * 32,
    }
    return Call.of(Request(scope, receive), OPERATOR, DEFAULT_S)


@pytest.mark.parametrize(
    ("headers", "timeout_s"),
    [
        ({}, DEFAULT_S),
        ({"x_request_timeout_ms": "1"}, 0.001),
        ({"x_request_timeout_ms": "250"}, 0.25),
        ({"x_request_timeout_ms": "00000000005000"}, 5.0),
        ({"x_request_timeout_ms": str(MAX_TIMEOUT_MS)}, 600.0),
    ],
)
def test_the_deadline_is_counted_from_the_head(headers: dict[str, str], timeout_s: float) -> None:
    before = time.monotonic()
    deadline = call(**headers).deadline
    assert before + timeout_s <= deadline <= time.monotonic() + timeout_s


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "+5", "1.5", "1e3", " 5", "5 ", "600001", "9" * 5000, "²", "five"]
)
def test_a_timeout_that_is_no_number_of_its_range_is_refused(value: str) -> None:
    with pytest.raises(ParameterError, match="X-Request-Timeout-Ms") as refused:
        call(x_request_timeout_ms=value)
    assert refused.value.parameter == "X-Request-Timeout-Ms"


@pytest.mark.parametrize(
    ("headers", "priority"),
    [
        ({}, Priority.INTERACTIVE),
        ({"x_priority": "interactive"}, Priority.INTERACTIVE),
        ({"x_priority": "Bulk"}, Priority.BULK),
    ],
)
def test_a_request_is_interactive_unless_it_says_bulk(
    headers: dict[str, str], priority: Priority
) -> None:
    assert call(**headers).priority is priority


@pytest.mark.parametrize("value", ["", "0", "1", "urgent", "bulk, interactive"])
def test_a_priority_that_there_is_not_is_refused(value: str) -> None:
    with pytest.raises(ParameterError, match="X-Priority"):
        call(x_priority=value)


@pytest.mark.parametrize(
    ("headers", "body_bytes"),
    [
        ({}, 0),
        ({"content_length": "0"}, 0),
        ({"content_length": "1234"}, 1234),
        ({"transfer_encoding": "chunked"}, None),
    ],
)
def test_the_length_of_a_body_is_what_the_head_announces(
    headers: dict[str, str], body_bytes: int | None
) -> None:
    assert call(**headers).body_bytes == body_bytes


@pytest.mark.parametrize(
    ("query", "tenant"), [("", None), ("tenant_id=a", "a"), ("x=1&tenant_id=a%20b", "a b")]
)
def test_the_tenant_is_the_one_of_the_query(query: str, tenant: str | None) -> None:
    assert call(query).tenant == tenant


@pytest.mark.parametrize("query", ["tenant_id=caf%E9", "tenant_id=a&tenant_id=b", "x=1&x=1"])
def test_a_query_that_can_be_read_in_two_ways_is_refused(query: str) -> None:
    with pytest.raises(ParameterError):
        call(query)
