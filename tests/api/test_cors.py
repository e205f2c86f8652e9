"""Calls of web pages: preflight requests, and the headers that let a page read an answer."""

from __future__ import annotations

import httpx2 as httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from service.api.cors import CrossOrigin
from service.telemetry import Metrics
from tests.support.calls import assert_error_body

APP = "https://app.example"
OTHER = "https://other.example"


async def answering(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("served")(scope, receive, send)


class House:
    """The middleware in front of an application, with a client."""

    def __init__(self, *origins: str) -> None:
        self.metrics = Metrics()
        self.middleware = CrossOrigin(answering, self.metrics, origins)
        transport = httpx.ASGITransport(self.middleware)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service.example")

    async def preflight(
        self, origin: str, method: str = "POST", headers: str = "x-api-key"
    ) -> httpx.Response:
        return await self.client.options(
            "/v1/detect",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": headers,
            },
        )


@pytest.mark.parametrize(
    "headers",
    ["token", "X-Api-Key", "authorization,content-type", "x-request-timeout-ms,x-priority"],
)
async def test_page_of_an_allowed_origin_may_call(headers: str) -> None:
    house = House(APP)
    answer = await house.preflight(APP, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "access-control-allow-credentials" not in answer.headers
    answer = await house.client.get("/", headers={"Origin": APP})
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["vary"] == "Origin"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"X-Request-Id", "Server-Timing", "Retry-After"} <= set(exposed)
    count = {"method": "OPTIONS", "route": "(preflight)", "status": "200"}
    assert house.metrics.registry.get_sample_value("facette_http_requests_total", count) == 1


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [(OTHER, "POST", "token"), ("null", "POST", "token"), (APP + ".evil.example", "GET", "token"),
     (APP, "PUT", "token"), (APP, "POST", "x-anything")],
)  # fmt: skip
async def test_other_calls_are_refused(origin: str, method: str, headers: str) -> None:
    answer = await House(APP).preflight(origin, method, headers)
    assert answer.status_code == 403
    assert_error_body(answer.text, "origin_not_allowed")  # no script may read it, of any route


async def test_page_of_another_origin_cannot_read_an_answer() -> None:
    answer = await House(APP).client.get("/", headers={"Origin": OTHER})
    assert "access-control-allow-origin" not in answer.headers


async def test_star_allows_every_page_but_no_credentials() -> None:
    house = House("*")
    for answer in (
        await house.preflight(OTHER),
        await house.client.get("/", headers={"Origin": OTHER, "Cookie": "a=b"}),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_without_origins_nothing_is_added_until_some_are_allowed() -> None:
    house = House()
    answer = await house.preflight(APP)
    assert answer.text == "served"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    house.middleware.allow([APP])
    assert (await house.preflight(APP)).text == "OK"
    house.middleware.allow([])
    assert (await house.preflight(APP)).text == "served"
