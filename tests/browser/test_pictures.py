"""Every page of the console fits its window and is accessible, in light, dark and on a phone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import httpx2 as httpx
import pytest
from PIL import Image, ImageEnhance
from playwright.sync_api import expect

from tests.browser.console import Console
from tests.browser.pictures import LOOKS, keep
from tests.support.calls import Photos, encode

JPEG = {"Content-Type": "image/jpeg"}
# What is there once a page has everything.
PAGES = {
    "people": ".person-card .picture.there",
    "photos": ".photo-card .picture.there",
    "search": ".state",
    "upload": ".drop-zone",
    "history": ".change",
    "status": ".uplot",
}


@pytest.fixture
def tenant(look: str) -> str:
    """A tenant with a name that pictures can show."""
    return f"family-{look}"


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_every_page_fits_its_window_and_is_accessible(
    look: str,
    open_console: Callable[..., Console],
    client: httpx.Client,
    two_people: dict[str, str],
    photos: Photos,
    tenant: str,
    key: str,
) -> None:
    path = f"/v1/tenants/{tenant}"
    client.patch(f"{path}/people/{two_people['astronaut']}", json={"label": "Eileen"})
    console = open_console(**LOOKS[look])
    page = console.page
    keep(page, f"sign-in-{look}")
    console.sign_in(key)
    for name, content in PAGES.items():
        page.get_by_role("navigation", name="Pages").locator(f"a[href*='/{name}']").click()
        expect(page.locator(content).first).to_be_visible()
        if name == "status":
            # The second reading gives the first rates.
            expect(page.locator(".chart-now b").last).to_have_text(re.compile(r"\d"))
        keep(page, f"{name}-{look}")

    page.locator(".nav a[href*='/review']").click()
    expect(page.locator(".side-face .picture.there").first).to_be_visible()
    keep(page, f"review-{look}")
    page.keyboard.press("n")
    expect(page.get_by_role("dialog").locator(".option .picture.there").first).to_be_visible()
    keep(page, f"name-{look}")
    page.keyboard.press("Escape")

    page.locator(".nav a[href*='/people']").click()
    page.get_by_role("link", name="Eileen").click()
    expect(page.locator(".face-card .picture.there").first).to_be_visible()
    console.faces().first.click()
    keep(page, f"person-{look}")
    page.get_by_role("tab", name="Looks alike").click()
    expect(page.locator(".alike-card .picture.there")).to_be_visible()
    keep(page, f"alike-{look}")
    page.get_by_role("tab", name="Photos").click()
    page.get_by_role("list", name="Photos").get_by_role("link").first.click()
    expect(page.locator(".photo-stage .picture.there")).to_be_visible()
    keep(page, f"photo-{look}")
    console.drop(photos.both, "both.jpg")
    expect(page.locator(".face-line.is-match .picture.there")).to_be_visible()
    keep(page, f"found-{look}")
    face = client.get(f"{path}/people/{two_people['astronaut']}").json()["cover_face_id"]
    console.go(f"search?face={face}")
    expect(page.locator(".face-line.is-match .picture.there")).to_be_visible()
    keep(page, f"face-{look}")

    copy = client.post(f"{path}/images", content=_smaller(photos.astronaut), headers=JPEG)
    console.go(f"copies?id={copy.json()['image_id']}")
    expect(page.locator(".copy .picture.there")).to_have_count(2)
    keep(page, f"copies-{look}")
    for each in _variants(photos.hopper):
        client.post(f"{path}/images", content=each, headers=JPEG)
    console.go("review")
    expect(page.get_by_role("listbox").locator(".picture.there")).to_have_count(2 + MANY)
    page.get_by_role("option").nth(1).press("Space")
    keep(page, f"batch-{look}")
    console.go("people")
    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("listbox", name="People").get_by_role("option").first.press("Control+a")
    expect(page.get_by_role("toolbar")).to_contain_text("2 selected")
    keep(page, f"selected-{look}")
    page.get_by_role("button", name="Merge…").click()
    keep(page, f"merge-{look}")


MANY = 12


def _smaller(photo: bytes) -> bytes:
    """A near copy."""
    image = Image.open(io.BytesIO(photo))
    return encode(image.resize((image.width * 2 // 3, image.height * 2 // 3)))


def _variants(photo: bytes) -> list[bytes]:
    """Photos of one face, brighter and darker."""
    image = ImageEnhance.Brightness(Image.open(io.BytesIO(photo)).convert("RGB"))
    return [encode(image.enhance(0.7 + 0.05 * number)) for number in range(MANY)]
