"""Who may call, and which routes there are."""

from __future__ import annotations

import httpx2 as httpx
import pytest

from bench.common.server import TOKEN, ServiceProcess
from tests.support.calls import (
    GUARDED,
    assert_error,
    call,
    log_lines_of,
    read_answer,
    started_request,
)

PATHS = sorted({path for _, path, _ in GUARDED})


@pytest.mark.parametrize(("method", "path", "_names"), GUARDED)
def test_every_route_asks_for_a_token_before_anything_else(
    service: ServiceProcess, method: str, path: str, _names: tuple[str, ...]
) -> None:
    answer = httpx.request(method, service.url + path)
    assert_error(answer, 401, "missing_token")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "_names"), GUARDED)
def test_every_route_refuses_a_wrong_token(
    service: ServiceProcess, method: str, path: str, _names: tuple[str, ...]
) -> None:
    answer = httpx.request(method, service.url + path, headers={"token": "another-token"})
    assert_error(answer, 401 if path.startswith("/v1/") else 403, "wrong_token")


@pytest.mark.parametrize(
    "headers",
    [
        {"token": TOKEN},
        {"Authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer {TOKEN}"},
        {"Token": TOKEN, "Authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": TOKEN},
        {"Token": TOKEN, "X-API-Key": TOKEN, "Authorization": f"Bearer {TOKEN}"},
    ],
)
def test_the_token_may_stand_in_any_of_the_headers(
    service: ServiceProcess, tenant: str, headers: dict[str, str]
) -> None:
    answer = httpx.get(
        f"{service.url}/review-pending-list", params={"tenant_id": tenant}, headers=headers
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "token",
    [TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "tökén", "\xff" * 40, "x" * 8000],
    ids=["shorter", "longer", "upper case", "umlauts", "bytes", "very long"],
)
@pytest.mark.parametrize("header", ["token", "authorization"])
def test_a_token_that_is_not_quite_right_is_wrong(
    service: ServiceProcess, header: str, token: str
) -> None:
    value = ("Bearer " if header == "authorization" else "").encode() + token.encode("latin-1")
    answer = httpx.get(f"{service.url}/review-pending-list", headers={header.encode(): value})
    assert_error(answer, 403, "wrong_token")


@pytest.mark.parametrize(
    "headers",
    [
        [("token", TOKEN), ("authorization", "Bearer another-token")],
        [("x-api-key", "another-token"), ("token", TOKEN)],
        [("token", TOKEN), ("token", "another-token")],
        [("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer another-token")],
    ],
)
def test_tokens_that_differ_are_refused(
    service: ServiceProcess, headers: list[tuple[str, str]]
) -> None:
    answer = httpx.get(f"{service.url}/review-pending-list", headers=headers)
    assert_error(answer, 403, "conflicting_tokens")


@pytest.mark.parametrize("value", ["", "Bearer", "Basic dXNlcjpwYXNz"])
def test_an_authorization_without_a_token_is_none(service: ServiceProcess, value: str) -> None:
    answer = httpx.get(f"{service.url}/image", headers={"authorization": value})
    assert_error(answer, 401, "missing_token")


def test_a_token_in_the_query_string_is_none(service: ServiceProcess) -> None:
    assert_error(httpx.get(f"{service.url}/image", params={"token": TOKEN}), 401, "missing_token")


@pytest.mark.parametrize(
    "path",
    ["/images", "/image/", "/image//", "/IMAGE", "/image%2F..%2Fface", "/%2e%2e/etc", "/é"],
)
def test_an_unknown_route_is_not_found(client: httpx.Client, path: str) -> None:
    assert_error(client.get(path), 404, "route_not_found")


@pytest.mark.parametrize("path", [*PATHS, "/healthz", "/readyz", "/metrics"])
def test_a_wrong_method_names_the_right_ones(client: httpx.Client, path: str) -> None:
    answer = client.put(path)
    assert_error(answer, 405, "method_not_allowed")
    allowed = {method.strip() for method in answer.headers["allow"].split(",")} - {"HEAD"}
    expected = {method for method, other, _ in GUARDED if other == path} or {"GET"}
    assert allowed == expected


def test_an_upgrade_to_a_websocket_is_not_taken_up(service: ServiceProcess) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with started_request(service, "GET", "/healthz", headers) as connection:
        status, _, _ = read_answer(connection)
    assert status == 200


def test_an_error_names_its_request_for_the_log(
    client: httpx.Client, tenant: str, service: ServiceProcess
) -> None:
    answer = call(client, "GET", "/image", tenant_id=tenant, image_id="unknown")
    (line,) = log_lines_of(service, answer)
    assert "code=not_found" in line
