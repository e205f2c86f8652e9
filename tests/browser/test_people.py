"""People are put together, hidden and named on the wall, and told apart where they look alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import expect

from tests.browser.console import Console
from tests.support.calls import Photos, wait_until
from tests.support.folders import open_folder
from tests.support.service import ServiceProcess


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service that looks for questions all the time."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, {"FACETTE_MATCH_ASK_INTERVAL_S": "0.2"})
        process.start()
        yield process
        process.stop()


@pytest.mark.slow
def test_people_are_selected_on_the_wall_and_put_together_named_and_hidden(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    console = open_console()
    page = console.page
    console.sign_in(key)
    expect(console.people()).to_have_count(2)

    page.get_by_role("button", name="Select", exact=True).click()
    options = page.get_by_role("listbox", name="People").get_by_role("option")
    options.first.press("Control+a")
    bar = page.get_by_role("toolbar", name="Selected people")
    expect(bar).to_contain_text("2 selected")
    bar.get_by_role("button", name="Merge…").click()
    page.get_by_label("Name", exact=True).fill("Eileen")
    page.keyboard.press("Enter")
    console.expect_message("2 people merged into one.")
    expect(console.people()).to_have_count(1)
    assert console.labels(client, tenant) == ["Eileen"]
    console.take_back("2 people merged into one.")
    expect(console.people()).to_have_count(2)
    assert console.labels(client, tenant) == [None, None]

    # A rectangle selects what it touches, and a click more.
    page.get_by_role("button", name="Select", exact=True).click()
    box = options.first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    expect(bar).to_contain_text("1 selected")
    bar.get_by_role("button", name="Hide").click()
    console.expect_message("1 person hidden from the wall.")
    expect(console.people()).to_have_count(1)
    console.take_back("1 person hidden from the wall.")
    expect(console.people()).to_have_count(2)


@pytest.mark.slow
def test_people_who_look_alike_are_told_apart_for_good(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    tenant: str,
    key: str,
) -> None:
    # Two who were taken apart, and then not: the machine asks whether they are one.
    def insert() -> dict[str, Any]:
        sent = {"content": photos.astronaut, "headers": {"Content-Type": "image/jpeg"}}
        answer: dict[str, Any] = client.post(f"{path}/images", **sent).json()["faces"][0]
        return answer

    path = f"/v1/tenants/{tenant}"
    person, face = insert()["person_id"], insert()["id"]
    asked = {"face_ids": [face], "label": "Twin"}
    client.post(f"{path}/people/{person}/split", json=asked).raise_for_status()
    for each in client.get(f"{path}/decisions").json()["items"]:
        client.delete(f"{path}/decisions/{each['id']}").raise_for_status()

    def questions() -> list[dict[str, Any]]:
        asked = {"kind": "same_person", "person_id": person}
        found: list[dict[str, Any]] = client.get(f"{path}/reviews", params=asked).json()["items"]
        return found

    wait_until(lambda: len(questions()) == 1)
    console = open_console()
    page = console.page
    console.sign_in(key)
    page.get_by_role("link", name="Twin").click()
    page.get_by_role("tab", name="Looks alike").click()
    page.get_by_role("button", name="Different").click()
    console.expect_message("Told apart: they are not put together any more.")
    expect(page.locator(".alike-card")).to_contain_text("Different people")
    assert questions() == []
    (decision,) = client.get(f"{path}/decisions").json()["items"]
    assert decision["kind"] == "different"
    assert len(client.get(f"{path}/people").json()["items"]) == 2
    console.take_back("Told apart: they are not put together any more.")
    expect(page.get_by_role("button", name="Different")).to_be_visible()
    assert len(questions()) == 1
