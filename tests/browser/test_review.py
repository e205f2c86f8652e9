"""Questions are answered by keyboard, and no answer is lost or counts twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, expect

from bench.common.server import ServiceProcess as PlainService
from tests.browser.console import Console
from tests.support.folders import open_folder
from tests.support.service import ServiceProcess

ANSWERED_BEFORE = 2
ANSWERED_MEANWHILE = 3

# An observer is called before the page is drawn: nobody can press a key earlier.
_PRESS_WITH_THE_QUESTION = """() => {
    const observer = new MutationObserver(() => {
        if (!document.querySelector("#question")) return;
        observer.disconnect();
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "n", bubbles: true }));
    });
    observer.observe(document.body, { childList: true, subtree: true });
}"""


def test_questions_are_named_ignored_and_taken_back_by_keyboard(
    open_console: Callable[..., Console],
    client: httpx.Client,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    assert len(_open_questions(client, tenant)) == 2
    console = open_console()
    page = console.page
    console.sign_in(key)
    console.open("Review")
    expect(page.get_by_role("heading", name="Who is this?")).to_be_visible()

    page.keyboard.press("n")
    page.get_by_role("combobox", name="Name").fill("Eileen")
    page.keyboard.press("Enter")
    expect(page.locator(".past-answer").first).to_contain_text("Eileen")
    page.keyboard.press("x")
    expect(page.get_by_role("heading", name="No open questions")).to_be_visible()
    expect(page.get_by_text("All answers saved")).to_be_visible()
    assert _open_questions(client, tenant) == []
    assert _labels(client, tenant) == {"Eileen", None}

    page.get_by_role("button", name="Eileen").click()
    expect(page.locator(".past-answer.undone")).to_contain_text("Eileen")
    expect(page.get_by_role("heading", name="Who is this?")).to_be_visible()
    assert _labels(client, tenant) == {None}
    assert len(_open_questions(client, tenant)) == 1


def test_a_key_counts_from_the_moment_the_question_is_there(
    open_console: Callable[..., Console],
    two_people: dict[str, str],
    key: str,
) -> None:
    console = open_console()
    console.sign_in(key)
    console.page.evaluate(_PRESS_WITH_THE_QUESTION)
    console.open("Review")
    expect(console.page.get_by_role("combobox", name="Name")).to_be_focused()


class _OnOnePort(ServiceProcess):
    """A service that comes back at the address that it had."""

    def launch(self, *arguments: str) -> Any:
        port = self.url.rpartition(":")[2]
        return super().launch(*(("--port", port) if port else ()), *arguments)


@pytest.fixture
def mortal(models_dir: Path) -> Iterator[PlainService]:
    """A service of its own, to be killed."""
    with open_folder() as folder:
        service = _OnOnePort(folder, models_dir)
        yield service.start()
        service.stop()


@pytest.mark.slow
def test_answers_outlive_a_service_that_is_killed_and_a_tab_that_is_closed(
    browser: Browser, mortal: PlainService, faces_dir: Path
) -> None:
    with mortal.client() as client:
        for photo in sorted(faces_dir.glob("img*.jpg"))[:30:2]:
            answer = client.post(
                "/v1/tenants/t/images",
                content=photo.read_bytes(),
                headers={"Content-Type": "image/jpeg"},
            )
            assert answer.status_code == 201
        before = _open_questions(client, "t")
        asked = {"name": "Reviewer", "scopes": ["write"], "tenant_id": "t"}
        key = client.post("/v1/keys", json=asked).json()["key"]
    assert len(before) > ANSWERED_BEFORE + ANSWERED_MEANWHILE

    # While the service is gone, the browser tells of every request that failed.
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{mortal.url}/console")
    console = Console(page, mortal.url)
    console.sign_in(key)
    console.open("Review")
    for _ in range(ANSWERED_BEFORE):
        _answer_no(console)
    expect(page.get_by_text("All answers saved")).to_be_visible()

    mortal.kill()
    for _ in range(ANSWERED_MEANWHILE):
        _answer_no(console)
    expect(page.get_by_text("answers kept here until the service answers")).to_be_visible()
    page.close()

    mortal.start()
    page = context.new_page()
    page.goto(f"{mortal.url}/console/review")
    expect(page.get_by_text("All answers saved")).to_be_visible()
    expect(page.locator(".past-answer.saved")).to_have_count(ANSWERED_BEFORE + ANSWERED_MEANWHILE)
    with mortal.client() as client:
        changes = client.get("/v1/tenants/t/history?kind=review.answered&limit=500").json()["items"]
    context.close()
    assert len(changes) == ANSWERED_BEFORE + ANSWERED_MEANWHILE
    answered = [each["subject"]["review_id"] for each in changes]
    assert len(set(answered)) == len(answered)


def _answer_no(console: Console) -> None:
    """Answer the question on the screen with no, and see the next one."""
    past = console.page.locator(".past-answer")
    expect(console.page.locator("#question")).to_be_visible()
    number = past.count()
    console.page.keyboard.press("x")
    expect(past).to_have_count(number + 1)


def _open_questions(client: httpx.Client, tenant: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/tenants/{tenant}/reviews?limit=500")
    if answer.status_code == 404 and answer.json()["code"] == "route_not_found":
        pytest.skip("this service asks no questions over HTTP")
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def _labels(client: httpx.Client, tenant: str) -> set[object]:
    people = client.get(f"/v1/tenants/{tenant}/people?hidden=any").json()["items"]
    return {each["label"] for each in people}
