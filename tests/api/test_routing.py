"""The router by shapes finds what Starlette's finds, of all routes of the service."""

from __future__ import annotations

import re

import pytest
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.routes import build_routes, console_routes
from service.api.routing import ShapedRouter

IDS = ("one", "faces", "next", "x\n", "ü %", "new")
ODD = ("", "/", "/v1", "/v1/", "/v1/tenants/", "/v1//images", "/healthz\t", "/healthz/", "/nothing")


class Reached:
    """The end of a route."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.routes.append((scope["route"].path, scope["path_params"]))


def lease() -> object:
    raise AssertionError("no request is served")


def routes(end: ASGIApp) -> list[Route]:
    """The routes of the service, and two of which the first one goes first."""
    every = [*build_routes(lease), *console_routes(lease)]
    served = [Route(each.path, end, methods=each.methods) for each in every]
    return [
        *served,
        Route("/v2/{kind}/next", end, methods=["GET"]),
        Route("/v2/faces/{face_id}", end, methods=["GET"]),
        Route("/v2/{kind}/{name}", end, methods=["POST"]),
    ]


async def reached(router: ASGIApp, end: Reached, method: str, path: str) -> object:
    """The route and the parameters, or the status of the error."""
    end.routes = []
    scope = {
        "type": "http", "method": method, "path": path, "root_path": "", "headers": [],
        "query_string": b"", "app": None,
    }  # fmt: skip
    try:
        await router(scope, None, None)  # type: ignore[arg-type]
    except HTTPException as error:
        return error.status_code, (error.headers or {}).get("Allow")
    return end.routes


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_each_path_leads_where_the_first_matching_route_leads(method: str) -> None:
    end = Reached()
    made = routes(end)
    shaped, plain = ShapedRouter(made), Router(made, redirect_slashes=False)
    asked = {re.sub(r"\{\w+(:path)?\}", value, route.path) for route in made for value in IDS}
    found = []
    for path in sorted({*asked, *ODD, *(f"{each}/" for each in asked)}):
        expected = await reached(plain, end, method, path)
        assert await reached(shaped, end, method, path) == expected, path
        found.append(expected)
    assert {404, 405} <= {each[0] for each in found if isinstance(each, tuple)}
    assert any(isinstance(each, list) for each in found)
