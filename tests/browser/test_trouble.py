"""What the console says and does where not everything goes as it was asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import httpx2 as httpx
from playwright.sync_api import Route, expect

from bench.common.server import TOKEN
from tests.browser.conftest import Watch
from tests.browser.console import Console

# After a refusal the faces of a question are asked for again at the earliest.
_REFUSED_S = 5.0
_LIKE_PLAIN_HTTP = """
    delete Navigator.prototype.locks;
    delete Navigator.prototype.clipboard;
    delete Crypto.prototype.randomUUID;
"""


def test_what_was_saved_is_told_as_saved_and_an_ended_session_as_ended(
    open_console: Callable[..., Console],
    client: httpx.Client,
    watch: Watch,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    for status in (401, 409, 429):
        watch.allow_refusal(status)
    console = open_console()
    page = console.page
    console.sign_in(key)
    console.people().first.get_by_role("link").click()
    # The history, which has the way back, cannot be read.
    page.route("**/history?*", _refuse(429))
    page.get_by_role("button", name="Give a name").click()
    page.get_by_label("Name", exact=True).fill("Eileen")
    page.keyboard.press("Enter")
    told = console.expect_message("Renamed.")
    expect(told.get_by_role("button", name="Undo")).to_have_count(0)
    expect(page.get_by_text("Nothing was saved.")).to_have_count(0)
    assert console.labels(client, tenant) == ["Eileen", None]

    # One of two faces is moved.
    page.route("**/faces/*", _refuse(409), times=1)
    console.faces().first.press("Control+a")
    page.get_by_role("button", name="Not this person").click()
    console.expect_message("1 face taken out")
    console.expect_message("Not all of your change was saved")

    # Of two calls at once the second one is refused on the page to sign in.
    page.route("**/v1/**", _refuse(401))
    held: list[Route] = []
    page.route("**/v1/tenants?*", lambda route: held.append(route))
    page.reload()
    ended = page.get_by_text("Your session has ended.")
    expect(ended).to_be_visible()
    with page.expect_response("**/v1/tenants?*"):
        _refuse(401)(held[0])
    page.evaluate("new Promise((done) => setTimeout(done))")
    expect(ended).to_be_visible()


def test_a_key_that_is_asked_for_twice_is_made_once_and_shown(
    open_console: Callable[..., Console], client: httpx.Client, tenant: str, key: str
) -> None:
    asked = {"name": "Head", "scopes": ["admin"], "tenant_id": tenant}
    console = open_console()
    page = console.page
    console.sign_in(client.post("/v1/keys", json=asked).json()["key"])
    console.open("Keys and tenants")
    sent: list[Route] = []
    page.route("**/v1/keys", lambda route: sent.append(route))
    page.get_by_role("button", name="New key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Uploads")
    with page.expect_request(lambda request: request.method == "POST"):
        page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    for each in sent:
        each.continue_()
    expect(page.get_by_role("heading", name="Your new key")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
    expect(page.get_by_role("rowheader", name="Uploads")).to_have_count(1)


def test_the_way_back_leads_to_the_tenant_that_was_looked_at_and_a_link_to_the_content_there(
    open_console: Callable[..., Console], client: httpx.Client, tenant: str
) -> None:
    others = f"{tenant}-others"
    for each, name in ((tenant, "Ada"), (others, "Bea")):
        client.post("/v1/tenants", json={"id": each})
        client.post(f"/v1/tenants/{each}/people", json={"label": name}).raise_for_status()
    console = open_console()
    page = console.page
    page.evaluate("(id) => localStorage.setItem('facette.tenant', id)", tenant)
    console.sign_in(TOKEN)
    ada, bea = (page.get_by_role("link", name=each) for each in ("Ada", "Bea"))
    expect(ada).to_be_visible()
    choice = page.get_by_role("combobox", name="Tenant")
    choice.select_option(others)
    expect(bea).to_be_visible()
    page.go_back()
    expect(ada).to_be_visible()
    expect(choice).to_have_value(tenant)
    page.go_forward()
    expect(bea).to_be_visible()

    page.get_by_role("link", name="Skip to the content").press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("main").locator(":focus")).to_have_count(1)


def test_questions_are_answered_and_keys_are_made_without_what_plain_http_does_not_have(
    open_console: Callable[..., Console],
    client: httpx.Client,
    two_people: dict[str, str],
    tenant: str,
) -> None:
    client.post("/v1/tenants", json={"id": tenant})
    asked = {"name": "Head", "scopes": ["admin"], "tenant_id": tenant}
    console = open_console()
    page = console.page
    page.add_init_script(_LIKE_PLAIN_HTTP)
    page.reload()
    console.sign_in(client.post("/v1/keys", json=asked).json()["key"])
    console.open("Review")
    expect(page.locator("#question")).to_be_visible()
    page.keyboard.press("x")
    expect(page.locator(".past-answer.saved")).to_have_count(1)

    console.open("Keys and tenants")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Uploads")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your new key")).to_be_visible()
    expect(page.locator(".secret")).to_contain_text("fct_")
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)


def _refuse(status: int) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, json={"detail": "No."})


def test_faces_that_are_refused_are_not_asked_for_without_a_pause(
    open_console: Callable[..., Console],
    watch: Watch,
    two_people: dict[str, str],
    key: str,
) -> None:
    """The cover stands for the person until they come, and the question can be answered."""
    watch.allow_refusal(429)
    console = open_console()
    page = console.page
    console.sign_in(key)
    asked: list[str] = []
    began = time.monotonic()

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        _refuse(429)(route)

    page.route("**/people/*/faces?*", refuse)
    console.open("Review")
    side = page.locator(".side")
    expect(side.locator(".picture.there img")).to_have_count(1)
    expect(side.locator(".skeleton")).to_have_count(0)
    # Drawn again, as after each event of the tenant.
    for width in (1000, 1280):
        page.set_viewport_size({"width": width, "height": 800})
    page.keyboard.press("n")
    expect(page.get_by_role("combobox", name="Name")).to_be_focused()
    most = 1 + (time.monotonic() - began) / _REFUSED_S
    assert max(Counter(asked).values()) <= most, asked

    page.unroute("**/people/*/faces?*")
    expect(side.locator(".picture.there img")).to_have_count(2)
