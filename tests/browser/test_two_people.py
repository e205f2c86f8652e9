"""Two people who work in one tenant at once see what the other one did, and undo none of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watch
from tests.browser.console import Console

PERSON = re.compile(r"/people/[^/?]+$")


@pytest.mark.slow
def test_the_second_of_two_names_is_refused_and_told(
    open_console: Callable[..., Console],
    watch: Watch,
    client: httpx.Client,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    watch.allow_refusal(412)
    pages = []
    for _ in range(2):
        console = open_console()
        console.sign_in(key)
        console.people().first.get_by_role("link").click()
        expect(console.faces().first).to_be_visible()
        pages.append(console)
    first, second = pages
    # Also where the page was told of the first name while the second one was written.
    second.page.get_by_role("button", name="Give a name").click()
    with second.page.expect_response(
        lambda answer: bool(PERSON.search(answer.url)) and "Eileen" in answer.text()
    ):
        _rename(first.page, "Eileen")
    first.expect_message("Renamed.")
    _write(second.page, "Grace")
    told = second.expect_message("Somebody changed this in the meantime.")
    expect(told).to_contain_text("Nothing was saved.")
    labels = {each["label"] for each in client.get(f"/v1/tenants/{tenant}/people").json()["items"]}
    assert labels == {"Eileen", None}
    # What the other one did is on the page now, and can be changed from there.
    expect(second.page.get_by_role("heading", level=1, name="Eileen")).to_be_visible()
    _rename(second.page, "Grace", now="Eileen")
    second.expect_message("Renamed.")
    first.page.reload()
    expect(first.page.get_by_role("heading", level=1, name="Grace")).to_be_visible()


@pytest.mark.slow
def test_a_key_that_may_read_alone_sees_people_and_changes_nothing(
    open_console: Callable[..., Console],
    client: httpx.Client,
    two_people: dict[str, str],
    tenant: str,
) -> None:
    asked = {"name": "Guest", "scopes": ["read"], "tenant_id": tenant}
    console = open_console()
    page = console.page
    console.sign_in(client.post("/v1/keys", json=asked).json()["key"])
    expect(page.get_by_role("navigation").get_by_role("link", name="Upload")).to_have_count(0)
    page.get_by_role("navigation").get_by_role("link", name="Review").click()
    expect(page.get_by_role("heading", name="Your key may not do this")).to_be_visible()
    page.get_by_role("navigation").get_by_role("link", name="People").click()
    console.people().first.get_by_role("link").click()
    faces = page.get_by_role("list", name="Faces").get_by_role("listitem")
    expect(faces).to_have_count(2)
    for action in ("Give a name", "Merge…", "Hide", "Erase"):
        expect(page.get_by_role("button", name=action)).to_have_count(0)
    faces.first.get_by_role("button").click()
    expect(page.locator(".photo-stage .picture.there")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)


def _rename(page: Page, name: str, now: str = "Give a name") -> None:
    page.get_by_role("button", name=now).click()
    _write(page, name)


def _write(page: Page, name: str) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    page.keyboard.press("Enter")
