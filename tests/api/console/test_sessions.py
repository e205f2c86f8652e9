"""Sessions of the console: opened with a key, ended with it, of no use to pages of other sites."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import httpx2 as httpx
import pytest

from bench.common.server import NO_AUTHORITIES
from service.api.console.pages import HEADERS
from tests.api.v1.conftest import problem
from tests.support.calls import Photos, assert_error, wait_until
from tests.support.keys import make_key
from tests.support.service import TOKEN, ServiceProcess

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(service: ServiceProcess) -> Iterator[httpx.Client]:
    """A client that keeps cookies, as a browser does, and has no key of its own."""
    with httpx.Client(base_url=service.url, verify=NO_AUTHORITIES, timeout=30) as found:
        yield found


def _sign_in(browser: httpx.Client, key: str, status: int = 200) -> httpx.Response:
    answer = browser.post("/console/session", json={"key": key}, headers=SAME)
    assert answer.status_code == status, answer.text
    return answer


def test_a_session_does_what_its_key_may_do(
    browser: httpx.Client, service: ServiceProcess, photos: Photos, tenant: str
) -> None:
    answer = _sign_in(browser, make_key(service, "write", tenant=tenant))
    assert answer.json()["tenant_id"] == tenant
    assert answer.json()["scopes"] == ["write"]
    assert browser.get("/console/session").json() == answer.json()
    cookie = answer.headers["set-cookie"]
    assert re.search(r"^facette_session=[0-9a-f]{64};.*HttpOnly", cookie)
    assert "SameSite=strict" in cookie
    inserted = browser.post(
        f"/v1/tenants/{tenant}/images",
        content=photos.hopper,
        headers={**SAME, "Content-Type": "image/jpeg"},
    )
    assert inserted.status_code == 201
    assert browser.get("/v1/tenants/other/people").status_code == 404
    assert problem(browser.get("/v1/keys")) == "forbidden"


def test_signing_out_ends_a_session_and_not_the_key(
    browser: httpx.Client, service: ServiceProcess, tenant: str
) -> None:
    key = make_key(service, "read")
    _sign_in(browser, key)
    stolen = dict(browser.cookies)
    assert browser.delete("/console/session", headers=SAME).status_code == 204
    assert problem(browser.get("/console/session")) == "missing_token"
    browser.cookies.update(stolen)
    assert problem(browser.get("/console/session")) == "wrong_token"
    assert problem(browser.get("/v1/tenants")) == "wrong_token"
    browser.cookies.clear()
    _sign_in(browser, key)


def test_a_session_ends_with_its_key(
    browser: httpx.Client, client: httpx.Client, service: ServiceProcess
) -> None:
    key = make_key(service, "read")
    _sign_in(browser, key)
    assert browser.get("/v1/tenants").status_code == 200
    assert client.delete(f"/v1/keys/{key.split('_')[1]}").status_code == 200
    wait_until(lambda: browser.get("/v1/tenants").status_code == 401)


def test_a_session_ends_when_its_key_gets_another_secret(
    browser: httpx.Client, client: httpx.Client, service: ServiceProcess
) -> None:
    key = make_key(service, "read")
    _sign_in(browser, key)
    rotated = client.post(f"/v1/keys/{key.split('_')[1]}/rotate", json={})
    assert rotated.status_code == 200
    wait_until(lambda: browser.get("/v1/tenants").status_code == 401)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ],
    ids=["cross-site", "same-site", "none", "another origin", "null", "nothing"],
)
def test_a_page_of_another_site_changes_nothing(
    browser: httpx.Client, tenant: str, headers: dict[str, str]
) -> None:
    _sign_in(browser, TOKEN)
    made = browser.post("/v1/tenants", json={"id": tenant}, headers=headers)
    assert (made.status_code, problem(made)) == (403, "forbidden")
    out = browser.delete("/console/session", headers=headers)
    assert (out.status_code, problem(out)) == (403, "forbidden")
    assert browser.get(f"/v1/tenants/{tenant}").status_code == 404
    again = browser.post("/console/session", json={"key": TOKEN}, headers=headers)
    assert (again.status_code, problem(again)) == (403, "forbidden")


def test_a_browser_without_fetch_metadata_names_its_origin(
    browser: httpx.Client, service: ServiceProcess, tenant: str
) -> None:
    _sign_in(browser, TOKEN)
    made = browser.post("/v1/tenants", json={"id": tenant}, headers={"Origin": service.url})
    assert made.status_code == 201


def test_the_cookie_opens_no_route_of_the_legacy_api(browser: httpx.Client) -> None:
    _sign_in(browser, TOKEN)
    answer = browser.get("/review-pending-list", params={"tenant_id": "x"})
    assert_error(answer, 401, "missing_token")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"key": "wrong"}', 401, "wrong_token"),
        (b'{"key": ""}', 401, "missing_token"),
        (b'{"key": 5}', 422, "malformed_body"),
        ('{"key": "é"}'.encode(), 422, "malformed_body"),
        (b"[]", 422, "malformed_body"),
        (b"{", 422, "malformed_body"),
        (b'{"key": "' + b"x" * 5000 + b'"}', 422, "malformed_body"),
    ],
    ids=["wrong", "empty", "a number", "not ASCII", "a list", "broken", "too long"],
)
def test_what_is_no_key_is_told_apart(
    browser: httpx.Client, body: bytes, status: int, code: str
) -> None:
    answer = browser.post("/console/session", content=body, headers=SAME)
    assert (answer.status_code, problem(answer)) == (status, code)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("cookie", ["", "x", "0" * 64, '"', "0" * 63 + "g"])
def test_a_cookie_that_is_no_session_is_refused(browser: httpx.Client, cookie: str) -> None:
    answer = browser.get("/v1/tenants", headers={"Cookie": f"facette_session={cookie}"})
    assert (answer.status_code, problem(answer) in ("wrong_token", "missing_token")) == (401, True)


def test_the_pages_come_without_a_key_and_allow_nothing_from_elsewhere(
    browser: httpx.Client,
) -> None:
    for path in ("/console", "/console/people/one", "/console/review"):
        page = browser.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for name, value in HEADERS.items():
            assert page.headers[name] == value
    again = browser.get("/console", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = browser.get("/console/static/words.js", headers={"Accept-Encoding": "identity"})
    packed = browser.get("/console/static/words.js", headers={"Accept-Encoding": "gzip"})
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == (
        "gzip",
        "Accept-Encoding",
    )
    assert packed.headers["etag"] != plain.headers["etag"]
    assert "content-encoding" not in plain.headers
    for path in ("missing.js", "..%2f__init__.py", "%2e%2e/pages.py", ""):
        assert browser.get(f"/console/static/{path}").status_code == 404
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_a_body_that_does_not_arrive_is_given_up(service: ServiceProcess) -> None:
    """Nobody has shown a key by then."""
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    head = "POST /console/session HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nContent-Length: 9"
    with socket.create_connection((host, int(port)), timeout=30) as open_one:
        open_one.sendall(f"{head}\r\n\r\n{{".encode())
        assert b" 408 " in open_one.recv(100)
