"""Photos that are dropped again are told apart, also after the page was loaded anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import FilePayload, Page, Route, expect

from tests.browser.conftest import Watch
from tests.browser.console import Console
from tests.support.calls import Photos


@pytest.mark.slow
def test_what_is_stored_is_not_stored_twice_and_what_was_deleted_is_stored_again(
    open_console: Callable[..., Console],
    watch: Watch,
    client: httpx.Client,
    photos: Photos,
    tenant: str,
    key: str,
) -> None:
    # That the deleted photo is gone.
    watch.allow_refusal(404)
    console = open_console()
    page = console.page
    console.sign_in(key)
    console.open("Upload")
    files = [
        FilePayload(name="a.jpg", mimeType="image/jpeg", buffer=photos.astronaut),
        FilePayload(name="h.jpg", mimeType="image/jpeg", buffer=photos.hopper),
        FilePayload(name="broken.jpg", mimeType="image/jpeg", buffer=b"no photo"),
        FilePayload(name="notes.txt", mimeType="text/plain", buffer=b"no photo"),
    ]
    watch.allow_refusal(415)
    _choose(page, files)
    assert _results(page) == {"Stored": 2, "Was there already": 0, "Failed": 1, "No photo": 1}
    stored = client.get(f"/v1/tenants/{tenant}/images").json()["items"]
    assert client.delete(f"/v1/tenants/{tenant}/images/{stored[0]['id']}").status_code == 200

    page.reload()
    _choose(page, files[:2])
    assert _results(page) == {"Stored": 1, "Was there already": 1, "Failed": 0, "No photo": 0}
    assert len(client.get(f"/v1/tenants/{tenant}/images").json()["items"]) == 2


@pytest.mark.slow
def test_a_folder_that_a_reload_interrupted_goes_on_where_it_was(
    open_console: Callable[..., Console],
    client: httpx.Client,
    photos: Photos,
    tenant: str,
    key: str,
    tmp_path: Path,
) -> None:
    files = {"a.jpg": photos.astronaut, "b.jpg": photos.both, "c.jpg": photos.crowd}
    for name, photo in {**files, "below/h.jpg": photos.hopper}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(photo)
    console = open_console()
    page = console.page
    console.sign_in(key)
    console.open("Upload")
    sent: list[Route] = []

    def hold(route: Route) -> None:
        sent.append(route)
        if len(sent) <= 2:
            route.continue_()

    page.route("**/images?*", hold)
    page.get_by_label("Choose a folder").set_input_files(tmp_path)
    expect(page.get_by_text("2 of 4 photos to go")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.unroute("**/images?*")
    expect(page.get_by_text("2 photos were on their way when this page was closed")).to_be_visible()
    page.get_by_label("Choose a folder").set_input_files(tmp_path)
    expect(page.get_by_text("Done with 4 photos")).to_be_visible()
    assert _results(page) == {"Stored": 2, "Was there already": 2, "Failed": 0, "No photo": 0}
    assert len(client.get(f"/v1/tenants/{tenant}/images").json()["items"]) == 4


def _choose(page: Page, files: list[FilePayload]) -> None:
    page.get_by_label("Choose photos").set_input_files(files)
    expect(page.get_by_text(f"Done with {len(files)} photos")).to_be_visible()


def _results(page: Page) -> dict[str, int]:
    found = {}
    for name in ("Stored", "Was there already", "Failed", "No photo"):
        found[name] = int(page.get_by_role("button", name=name).locator("b").inner_text())
    return found
