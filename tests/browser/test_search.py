"""People are found by a face of a photo or a box around one, and photos by their near copies."""

from __future__ import annotations

import io
from collections.abc import Callable

import httpx2 as httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.console import Console
from tests.support.calls import Photos


@pytest.mark.slow
def test_a_face_of_a_photo_and_a_box_around_one_lead_to_its_person(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    client.patch(f"/v1/tenants/{tenant}/people/{two_people['hopper']}", json={"label": "Grace"})
    console = open_console()
    page = console.page
    console.sign_in(key)
    page.get_by_role("link", name="Grace").click()
    console.faces().first.press("Enter")
    line = page.locator(".face-line", has_text="Grace")
    line.get_by_role("link", name="Find this person").click()
    expect(page.get_by_role("heading", name="Nearest people")).to_be_visible()
    expect(page.locator(".face-line.is-match")).to_contain_text("Grace")

    console.drop(photos.both, "both.jpg")
    expect(page.locator(".face-line.is-match")).to_be_visible()
    expect(page.locator(".box")).to_have_count(2)
    grace = page.locator(".box", has_text="Grace").bounding_box()
    assert grace is not None
    page.mouse.move(grace["x"] - 4, grace["y"] - 4)
    page.mouse.down()
    page.mouse.move(grace["x"] + grace["width"] + 4, grace["y"] + grace["height"] + 4, steps=5)
    page.mouse.up()
    expect(page.get_by_role("heading", name="Nearest to face 3 of 3")).to_be_visible()
    expect(page.locator(".face-line.is-match")).to_contain_text("Grace")


@pytest.mark.slow
def test_near_copies_stand_beside_each_other_with_what_differs(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    tenant: str,
    key: str,
) -> None:
    photo = Image.open(io.BytesIO(photos.hopper))
    smaller = io.BytesIO()
    photo.resize((photo.width // 2, photo.height // 2)).save(smaller, "JPEG", quality=80)
    images = [
        client.post(
            f"/v1/tenants/{tenant}/images", content=each, headers={"Content-Type": "image/jpeg"}
        ).json()["image_id"]
        for each in (photos.hopper, smaller.getvalue())
    ]
    console = open_console()
    page = console.page
    console.sign_in(key)
    console.go(f"photo?id={images[0]}")
    page.locator(".copies a").click()
    this, copy = (
        page.get_by_role("region", name="This photo"),
        page.get_by_role("region", name="Near copy"),
    )
    expect(this.locator(".picture.there")).to_be_visible()
    expect(this.locator(".differs").first).to_contain_text(f"{photo.height} more")
    expect(copy.locator(".differs").first).to_contain_text(f"{photo.height // 2}")
    copy.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="There is no near copy")).to_be_visible()
    left = client.get(f"/v1/tenants/{tenant}/images").json()["items"]
    assert [each["id"] for each in left] == images[:1]
