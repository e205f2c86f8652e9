"""Many faces that are taken for one person are looked through a hundred at a time, by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import expect

from tests.browser.console import Console
from tests.support.calls import Photos

PHOTOS = 104


@pytest.mark.slow
def test_faces_of_others_are_marked_before_the_one_answer(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    tenant: str,
    key: str,
) -> None:
    path = f"/v1/tenants/{tenant}"
    files = [("image", ("photo.jpg", photos.astronaut, "image/jpeg"))] * PHOTOS
    assert client.post(f"{path}/images/batch", files=files).status_code == 200

    def largest() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"{path}/people").json()["items"][0]
        return found

    number = largest()["face_count"]
    assert number == PHOTOS
    console = open_console()
    page = console.page
    console.sign_in(key)
    console.open("Review")
    asks = f"These {number} faces are one person. Who is it?"
    expect(page.get_by_role("heading", name=asks)).to_be_visible()
    faces = page.get_by_role("listbox").get_by_role("option")
    expect(faces).to_have_count(100)
    page.keyboard.press(".")
    expect(page.get_by_text(f"101 to {number} of {number} faces")).to_be_visible()
    expect(faces).to_have_count(number - 100)
    page.keyboard.press(",")
    expect(page.get_by_text(f"1 to 100 of {number} faces")).to_be_visible()

    faces.first.press("Space")
    faces.first.press("Shift+ArrowRight")
    faces.nth(1).press("Shift+ArrowDown")
    marked = page.locator("[role=option][aria-selected=true]")
    expect(marked).not_to_have_count(2)
    outside = marked.count()
    page.keyboard.press("Escape")
    expect(marked).to_have_count(0)
    faces.nth(3).press("Space")
    expect(page.get_by_text("1 face marked as somebody else")).to_be_visible()
    assert outside > 2

    page.keyboard.press("n")
    page.get_by_role("combobox", name="Name").fill("Eileen")
    page.keyboard.press("Enter")
    expect(page.locator(".past-answer").first).to_contain_text("Eileen")
    expect(page.get_by_text("All answers saved")).to_be_visible()
    assert (largest()["label"], largest()["face_count"]) == ("Eileen", number - 1)
