"""A real Chromium, and pages that fail a test for whatever the console must not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from bench.common.browser import launch_options
from tests.browser.console import Console
from tests.support.calls import Photos
from tests.support.service import ServiceProcess

# No test fails because a machine is slow: these are for what never comes.
_TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium; tests that need it skip without.

    While it is open, an event loop runs in this thread: no longer than a module, and its tests run
    none of their own.
    """
    options = launch_options()
    if options is None:
        pytest.skip("no Chromium: install the distribution's package, such as chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(**options)
        expect.set_options(timeout=_TIMEOUT_MS)
        yield found
        found.close()


class Watch:
    """What a page did that the console never does: errors, and requests to other origins."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._refusals: set[int] = set()
        self.seen: list[str] = []

    def allow_refusal(self, status: int) -> None:
        """Let the service refuse requests with this status; a browser tells of each one."""
        self._refusals.add(status)

    def look_at(self, page: Page) -> None:
        """Watch a page from now on."""
        page.on("console", self._message)
        page.on("pageerror", lambda error: self.seen.append(f"uncaught: {error}"))
        page.on("request", self._request)

    def _message(self, message: ConsoleMessage) -> None:
        # A violation of the Content-Security-Policy is an error on the console, too.
        is_allowed = any(f"status of {status} " in message.text for status in self._refusals)
        if message.type in ("error", "warning") and not is_allowed:
            self.seen.append(f"{message.type}: {message.text} {message.location['url']}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._origin + "/", "blob:", "data:")):
            self.seen.append(f"request off the origin: {request.url}")


@pytest.fixture
def watch(service: ServiceProcess) -> Iterator[Watch]:
    """Fails the test at its end for whatever was seen."""
    found = Watch(service.url)
    yield found
    assert found.seen == []


@pytest.fixture
def open_console(
    browser: Browser, service: ServiceProcess, watch: Watch
) -> Iterator[Callable[..., Console]]:
    """Opens the console, each time in a browser profile of its own; takes options of a context."""
    contexts = []

    def open_one(**options: Any) -> Console:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        context.set_default_timeout(_TIMEOUT_MS)
        page = context.new_page()
        watch.look_at(page)
        page.goto(f"{service.url}/console")
        return Console(page, service.url)

    yield open_one
    for each in contexts:
        each.close()


@pytest.fixture
def key(client: httpx.Client, tenant: str) -> str:
    """A key that may write in a new tenant."""
    client.post("/v1/tenants", json={"id": tenant})
    asked = {"name": "Reviewer", "scopes": ["write"], "tenant_id": tenant}
    made: str = client.post("/v1/keys", json=asked).json()["key"]
    return made


@pytest.fixture
def two_people(client: httpx.Client, tenant: str, photos: Photos) -> dict[str, str]:
    """A tenant with a photo each of two people, and one of both: the ids of the people by name."""
    people = {}
    for name, photo in (("astronaut", photos.astronaut), ("hopper", photos.hopper)):
        answer = client.post(
            f"/v1/tenants/{tenant}/images", content=photo, headers={"Content-Type": "image/jpeg"}
        )
        people[name] = answer.json()["faces"][0]["person_id"]
    client.post(
        f"/v1/tenants/{tenant}/images",
        content=photos.both,
        headers={"Content-Type": "image/jpeg"},
    )
    return people
