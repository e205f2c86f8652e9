"""Questions are answered by keyboard, and no answer is lost or counts twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Request, Route, expect

from bench.common.server import ServiceProcess as PlainService
from tests.browser.conftest import Watch
from tests.browser.console import Console
from tests.support.folders import open_folder
from tests.support.service import ServiceProcess

NEXT = "**/reviews/next?*"
ANSWERS = re.compile(r"/reviews/\d+$")
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


def test_an_answer_is_of_the_question_that_was_seen_and_of_no_other(
    open_console: Callable[..., Console],
    client: httpx.Client,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    path = f"/v1/tenants/{tenant}"
    console = open_console()
    page = console.page
    shown = page.locator("section.question")
    console.sign_in(key)
    console.open("Review")
    first = shown.get_attribute("data-id")
    # A key that is held down repeats itself.
    page.keyboard.down("x")
    page.keyboard.down("x")
    page.keyboard.up("x")
    expect(page.locator(".past-answer.saved")).to_have_count(1)
    second = shown.get_attribute("data-id")
    assert second != first
    assert [each["id"] for each in _open_questions(client, tenant)] == [second]

    # While somebody looks for a name, the question is answered elsewhere, and the first one is
    # taken back there: it is asked again, and does not get the name.
    page.keyboard.press("n")
    page.get_by_role("combobox", name="Name").fill("Eileen")
    (change,) = client.get(f"{path}/history?kind=review.answered").json()["items"]
    client.post(f"{path}/history/{change['id']}/undo").raise_for_status()
    client.post(f"{path}/reviews/{second}", json={"answer": "ignore"}).raise_for_status()
    expect(page.locator(f".question[data-id='{first}']")).to_be_visible()
    page.keyboard.press("Enter")
    console.expect_message("This question was settled in the meantime. Nothing was saved.")
    expect(page.get_by_text("All answers saved")).to_be_visible()
    assert _labels(client, tenant) == {None}
    assert [each["id"] for each in _open_questions(client, tenant)] == [first]


def test_an_answer_and_the_faces_taken_out_before_it_are_saved_and_taken_back_as_one(
    open_console: Callable[..., Console],
    client: httpx.Client,
    watch: Watch,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    watch.allow_refusal(409)
    console = open_console()
    page = console.page
    past = page.locator(".past-answer").first
    console.sign_in(key)
    console.open("Review")

    def answer(name: str) -> None:
        page.get_by_role("listbox").get_by_role("option").first.press("Space")
        expect(page.get_by_text("1 face marked as somebody else")).to_be_visible()
        page.keyboard.press("n")
        page.get_by_role("combobox", name="Name").fill(name)
        page.keyboard.press("Enter")
        expect(past).to_contain_text(name)

    def people() -> list[tuple[str | None, int]]:
        items = client.get(f"/v1/tenants/{tenant}/people").json()["items"]
        found = [(each["label"], each["face_count"]) for each in items]
        return sorted(found, key=lambda each: (-each[1], each[0] or ""))

    page.route("**/split", _refuse)
    answer("Eileen")
    expect(past).to_contain_text("not saved")
    expect(page.get_by_text("All answers saved")).to_be_visible()
    assert people() == [(None, 2), (None, 2)]
    page.unroute("**/split")

    # What was split off before the answer was refused is put back.
    page.route(ANSWERS, _refuse)
    answer("Grace")
    expect(past).to_contain_text("not saved")
    expect(page.get_by_text("All answers saved")).to_be_visible()
    assert people() == [(None, 2), (None, 2)]
    page.unroute(ANSWERS)

    page.reload()
    page.route(ANSWERS, _cut_off, times=1)
    answer("Ada")
    expect(past).to_have_text("Adasaved")
    assert people() == [(None, 2), (None, 1), ("Ada", 1)]
    page.keyboard.press("u")
    expect(past).to_have_text("Adataken back")
    assert people() == [(None, 2), (None, 2)]


def _refuse(route: Route) -> None:
    """Answer as the service does where a decision keeps people apart."""
    problem = {"code": "decision_conflict", "title": "Conflict", "detail": "Somebody said no."}
    route.fulfill(status=409, json=problem)


def _cut_off(route: Route) -> None:
    """Let the service answer, and lose what it says."""
    assert route.fetch().ok
    route.fulfill(content_type="application/json", body='{"id": ')


def test_each_window_saves_its_own_answers_and_those_of_a_window_that_was_closed(
    open_console: Callable[..., Console],
    client: httpx.Client,
    two_people: dict[str, str],
    tenant: str,
    key: str,
) -> None:
    first = open_console()
    context = first.page.context
    # A question for each of the two windows.
    context.route(
        NEXT,
        lambda route: route.continue_(url=route.request.url.replace("limit=30", "limit=1")),
    )
    first.sign_in(key)
    first.open("Review")
    first.page.route(ANSWERS, lambda _: None)
    second = Console(context.new_page(), "")
    second.page.goto(first.page.url)
    expect(second.page.locator("section.question")).to_be_visible()
    _answer_no(first)
    _answer_no(second)
    expect(second.page.locator(".past-answer.saved")).to_have_count(1)
    expect(first.page.locator(".past-answer.saved")).to_have_count(1)
    assert len(_open_questions(client, tenant)) == 1

    first.page.close()
    expect(second.page.locator(".past-answer.saved")).to_have_count(2)
    assert _open_questions(client, tenant) == []
    second.page.locator(".past-answer").last.click()
    expect(second.page.locator(".past-answer.undone")).to_have_count(1)
    assert len(_open_questions(client, tenant)) == 1


def test_a_copy_of_a_tab_is_another_reviewer_and_a_tab_loaded_again_the_same(
    open_console: Callable[..., Console],
    two_people: dict[str, str],
    key: str,
) -> None:
    first = open_console()
    first.sign_in(key)
    with first.page.expect_request(NEXT) as of_first:
        first.open("Review")
    with first.page.expect_request(NEXT) as again:
        first.page.reload()
    copied = first.page.evaluate("JSON.stringify({ ...sessionStorage })")
    copy = first.page.context.new_page()
    copy.add_init_script(
        f"if (!sessionStorage.length) Object.assign(sessionStorage, JSON.parse({copied!r}))"
    )
    with copy.expect_request(NEXT) as of_copy:
        copy.goto(first.page.url)
    expect(copy.locator("section.question, .review .state")).to_be_visible()
    assert _reviewer(of_first.value) == _reviewer(again.value) != _reviewer(of_copy.value)


def _reviewer(request: Request) -> str:
    (name,) = parse_qs(urlsplit(request.url).query)["reviewer"]
    return name


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
