"""The way of a person through the console, from signing in to signing out."""

from __future__ import annotations

from collections.abc import Callable

import httpx2 as httpx
from playwright.sync_api import FilePayload, expect

from tests.browser.console import Console
from tests.support.calls import Photos


def test_photos_become_people_that_are_named_merged_found_and_put_right(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    tenant: str,
    key: str,
) -> None:
    console = open_console()
    page = console.page
    console.sign_in(key)

    expect(page.get_by_role("heading", name="Nobody here yet")).to_be_visible()
    console.open("Upload")
    files = {"a.jpg": photos.astronaut, "h.jpg": photos.hopper, "both.jpg": photos.both}
    page.get_by_label("Choose photos").set_input_files(
        [FilePayload(name=k, mimeType="image/jpeg", buffer=v) for k, v in files.items()]
    )
    expect(page.get_by_text("Done with 3 photos")).to_be_visible()
    expect(page.get_by_text("Stored, 2 faces")).to_be_visible()

    console.open("People")
    expect(console.people()).to_have_count(2)
    console.people().first.get_by_role("link").press("Enter")
    page.get_by_role("button", name="Give a name").press("Enter")
    page.get_by_label("Name", exact=True).fill("Eileen")
    page.keyboard.press("Enter")
    console.expect_message("Renamed.")
    expect(page.get_by_role("heading", level=1, name="Eileen")).to_be_visible()
    assert _labels(client, tenant) == {"Eileen", None}

    page.get_by_role("tab", name="Looks alike").click()
    page.get_by_role("button", name="Same", exact=True).click()
    console.expect_message("Merged into one person.")
    assert _labels(client, tenant) == {"Eileen"}
    console.take_back("Merged into one person.")
    assert _labels(client, tenant) == {"Eileen", None}

    named = _person(client, tenant, "Eileen")
    shown = client.get(f"/v1/tenants/{tenant}/faces/{named['cover_face_id']}/crop?margin=2")
    console.drop(shown.content, "probe.jpg")
    match = page.locator(".face-line.is-match")
    expect(match).to_contain_text("Eileen")
    match.get_by_role("link").click()

    expect(console.faces()).to_have_count(2)
    console.faces().first.press("Space")
    expect(page.get_by_role("toolbar")).to_contain_text("1 selected")
    page.get_by_role("button", name="Not this person").click()
    expect(console.faces()).to_have_count(1)
    assert _person(client, tenant, "Eileen")["face_count"] == 1

    # A picture that is still on its way would be refused.
    expect(page.locator(".picture.loading")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to Facette")).to_be_visible()
    assert page.context.cookies() == []


def _people(client: httpx.Client, tenant: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = client.get(f"/v1/tenants/{tenant}/people").json()["items"]
    return found


def _labels(client: httpx.Client, tenant: str) -> set[object]:
    return {each["label"] for each in _people(client, tenant)}


def _person(client: httpx.Client, tenant: str, label: str) -> dict[str, object]:
    return next(each for each in _people(client, tenant) if each["label"] == label)
