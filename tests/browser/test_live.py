"""What happens elsewhere is on the page without loading it again, and disturbs nobody."""

from __future__ import annotations

from collections.abc import Callable

import httpx2 as httpx
import pytest
from playwright.sync_api import expect

from tests.browser.console import Console
from tests.support.calls import Photos

JPEG = {"Content-Type": "image/jpeg"}
# The whole of the page is higher than its window, so that it can be scrolled.
_LOW = {"viewport": {"width": 420, "height": 260}}


@pytest.mark.slow
def test_new_photos_names_and_questions_appear_and_selection_and_place_stay(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    path = f"/v1/tenants/{tenant}"
    console = open_console()
    page = console.page
    console.sign_in(key)
    badge = page.get_by_role("link", name="Review").locator(".badge")
    expect(badge).to_have_text("2")

    client.patch(f"{path}/people/{two_people['hopper']}", json={"label": "Grace"})
    expect(page.get_by_role("link", name="Grace")).to_be_visible()
    (question,) = [
        each
        for each in client.get(f"{path}/reviews").json()["items"]
        if each["people"][0]["id"] == two_people["astronaut"]
    ]
    client.post(f"{path}/reviews/{question['id']}", json={"answer": "label", "label": "Eileen"})
    expect(page.get_by_role("link", name="Eileen")).to_be_visible()

    page.get_by_role("link", name="Grace").click()
    expect(console.faces()).to_have_count(2)
    console.faces().nth(1).press("Space")
    expect(page.get_by_role("toolbar")).to_contain_text("1 selected")
    shown = console.faces().nth(1).locator("img").get_attribute("src")
    client.post(f"{path}/images", content=photos.hopper, headers=JPEG)
    expect(console.faces()).to_have_count(3)
    expect(page.get_by_role("toolbar")).to_contain_text("1 selected")
    chosen = page.locator("[role=option][aria-selected=true] img")
    assert chosen.get_attribute("src") == shown


@pytest.mark.slow
def test_what_comes_above_does_not_move_what_is_looked_at(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    tenant: str,
    key: str,
) -> None:
    path = f"/v1/tenants/{tenant}"
    for name in ("Ada", "Bea", "Cora", "Dora", "Eva", "Fay", "Gil", "Hal", "Ida", "Jo", "Kay"):
        client.post(f"{path}/people", json={"label": name})
    console = open_console(**_LOW)
    page = console.page
    console.sign_in(key)
    console.go("people?order=label")
    last = page.get_by_role("link", name="Kay")
    expect(console.people().first).to_be_visible()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(last).to_be_in_viewport()
    page.evaluate("scrollBy(0, -5)")
    before = last.bounding_box()
    client.post(f"{path}/people", json={"label": "Aaron"})
    client.post(f"{path}/people", json={"label": "Abel"})
    client.post(f"{path}/people", json={"label": "Abe"})
    expect(last.locator("xpath=ancestor-or-self::*[@aria-posinset][1]")).to_have_attribute(
        "aria-posinset", "14"
    )
    after = last.bounding_box()
    assert before is not None
    assert after is not None
    assert after["y"] == pytest.approx(before["y"], abs=1)
