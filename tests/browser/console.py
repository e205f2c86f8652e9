"""The console as a person uses it: pages, people, photos dropped on it, messages."""

from __future__ import annotations

import base64

import httpx2 as httpx
from playwright.sync_api import Locator, Page, expect

_DROP = """([content, name]) => {
    const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
    return transfer;
}"""


class Console:
    """One open console."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._url = url

    def sign_in(self, key: str) -> None:
        """Sign in, as somebody who uses the keyboard alone."""
        field = self.page.get_by_label("Access key")
        expect(field).to_be_focused()
        field.fill(key)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("navigation", name="Pages")).to_be_visible()

    def open(self, name: str) -> None:
        """Open a page by its link."""
        self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(self.page.get_by_role("heading", level=1, name=name)).to_be_visible()

    def go(self, path: str) -> None:
        """Load a page by its address below that of the console."""
        self.page.goto(f"{self._url}/console/{path}")

    def people(self) -> Locator:
        """The people on the wall."""
        return self.page.get_by_role("list", name="People").get_by_role("listitem")

    def faces(self) -> Locator:
        """The faces of the person on the screen."""
        return self.page.get_by_role("listbox", name="Faces").get_by_role("option")

    def drop(self, photo: bytes, name: str) -> None:
        """Drop a photo on the page."""
        content = base64.b64encode(photo).decode()
        transfer = self.page.evaluate_handle(_DROP, [content, name])
        for event in ("dragover", "drop"):
            self.page.dispatch_event("body", event, {"dataTransfer": transfer})

    def labels(self, client: httpx.Client, tenant: str) -> list[str | None]:
        """The names of the people on the wall, those without a name last."""
        people = client.get(f"/v1/tenants/{tenant}/people").json()["items"]
        return sorted((each["label"] for each in people), key=lambda each: (each is None, each))

    def expect_message(self, text: str) -> Locator:
        """The last message with this text, once it is there."""
        found = self.page.locator(".toast", has_text=text).last
        expect(found).to_be_visible()
        return found

    def take_back(self, text: str) -> None:
        """Take back what a message tells of."""
        self.expect_message(text).get_by_role("button", name="Undo").click()
        self.expect_message("Taken back.")
