"""What the console shows where there is nothing to show: each state says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.console import Console
from tests.browser.pictures import LOOKS, keep
from tests.support.service import ServiceProcess

PEOPLE = "**/people?*"
EMPTY = {
    "people": "Nobody here yet",
    "review": "No open questions",
    "photos": "No photos",
    "search": "Who is on a photo?",
}


@pytest.fixture
def tenant(look: str) -> str:
    """A tenant with nothing in it, and a name that pictures can show."""
    return f"new-{look}"


@pytest.fixture
def open_plainly(
    look: str, browser: Browser, service: ServiceProcess
) -> Iterator[Callable[[str], Console]]:
    """Signs in by a key. Nobody watches: the browser tells of each request that fails."""
    contexts = []

    def open_one(key: str) -> Console:
        context = browser.new_context(**LOOKS[look], reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{service.url}/console")
        console = Console(page, service.url)
        console.sign_in(key)
        return console

    yield open_one
    for each in contexts:
        each.close()


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_every_state_fits_its_window_and_says_what_to_do(
    look: str,
    open_plainly: Callable[[str], Console],
    client: httpx.Client,
    tenant: str,
    key: str,
) -> None:
    console = open_plainly(key)
    page = console.page
    for name, says in EMPTY.items():
        console.go(name)
        expect(page.get_by_role("heading", name=says)).to_be_visible()
        keep(page, f"empty-{name}-{look}")
    console.go("nowhere")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    keep(page, f"no-page-{look}")

    page.route(PEOPLE, _never)
    console.go("people")
    expect(page.locator(".skeleton").first).to_be_visible()
    keep(page, f"loading-{look}")
    page.unroute(PEOPLE)
    page.route(PEOPLE, lambda route: route.abort("connectionrefused"))
    console.go("people")
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached")
    keep(page, f"away-{look}")
    page.unroute(PEOPLE)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name=EMPTY["people"])).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_text("This browser is offline.")).to_be_visible()
    keep(page, f"offline-{look}")


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_keys_are_listed_and_made_by_those_who_may(
    look: str,
    open_plainly: Callable[[str], Console],
    client: httpx.Client,
    tenant: str,
    key: str,
) -> None:
    console = open_plainly(_key(client, tenant, "read", "Reader"))
    console.go("upload")
    expect(console.page.get_by_role("heading", name="Your key may not do this")).to_be_visible()
    keep(console.page, f"no-permission-{look}")

    console = open_plainly(_key(client, tenant, "admin", "Head of the archive"))
    page = console.page
    console.go("keys")
    expect(page.get_by_role("rowheader", name="Head of the archive")).to_be_visible()
    keep(page, f"keys-{look}")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Uploads of the studio")
    keep(page, f"new-key-{look}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your new key")).to_be_visible()
    made = [each["name"] for each in client.get("/v1/keys?limit=500").json()["items"]]
    assert made.count("Uploads of the studio") >= 1


def _never(route: Route) -> None:
    """Let a request wait for ever."""


def _key(client: httpx.Client, tenant: str, scope: str, name: str) -> str:
    asked = {"name": name, "scopes": [scope], "tenant_id": tenant}
    made: str = client.post("/v1/keys", json=asked).json()["key"]
    return made
