"""The pages on the contract: open to all, self-contained, and small work for the service."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from service.api.contract.pages import document
from service.api.error_table import WHEN, entries

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class Page(HTMLParser):
    """The elements of a page, and the anchors in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"] or "")
        if "href" in found:
            self.targets.append(found["href"] or "")


@pytest.fixture
def anybody(service: ServiceProcess) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=service.url) as client:
        yield client


def test_the_contract_is_served_as_it_is_made(anybody: httpx.Client) -> None:
    answer = anybody.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json() == document()


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_page_that_the_client_has_is_not_sent_again(
    anybody: httpx.Client, path: str, form: str
) -> None:
    tag = anybody.get(path).headers["etag"]
    again = anybody.get(path, headers={"If-None-Match": form.format(tag)})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert anybody.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_a_page_takes_nothing_from_elsewhere_and_runs_no_script(
    anybody: httpx.Client, path: str
) -> None:
    answer = anybody.get(path, headers=BROWSER)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = Page(answer.text)
    assert not {"script", "link", "img", "iframe", "form", "object", "base"} & set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert [each for each in page.targets if not each.startswith(("/", "#"))] == []
    policy = answer.headers["content-security-policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "frame-ancestors 'none'" in policy


def test_the_page_of_the_contract_has_an_anchor_for_each_operation_and_error(
    anybody: httpx.Client,
) -> None:
    page = Page(anybody.get("/docs").text)
    assert len(page.ids) == len(set(page.ids))
    operations = {
        operation["operationId"]
        for methods in document()["paths"].values()
        for operation in methods.values()
    }
    assert operations <= set(page.ids)
    assert {f"error-{entry.status}-{entry.code}" for entry in entries(WHEN)} <= set(page.ids)
    assert {each[1:] for each in page.targets if each.startswith("#")} <= set(page.ids)


def test_the_front_page_shows_a_browser_how_to_send_a_photo_to_the_host_it_asked(
    anybody: httpx.Client,
) -> None:
    answer = anybody.get("/", headers={**BROWSER, "Host": "faces.example:8443"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept"
    assert "http://faces.example:8443/v1/tenants/demo/images" in answer.text
    assert {"/docs", "/openapi.json"} <= set(Page(answer.text).targets)


@pytest.mark.parametrize("host", ["x/$(id)", "<script>", "a b", "x;id", "`id`", "'", "a&b", ""])
def test_the_front_page_shows_no_host_that_a_shell_or_browser_would_run(
    anybody: httpx.Client, host: str
) -> None:
    answer = anybody.get("/", headers={**BROWSER, "Host": host})
    if answer.status_code == 200:
        shown = re.findall(r"(http\S*)/v1/tenants/demo/images", answer.text)
        assert shown in (["http://127.0.0.1:8000"], [str(anybody.base_url).rstrip("/")])
    if host:
        assert f"//{host}/" not in answer.text


def test_the_front_page_is_json_for_other_clients(anybody: httpx.Client) -> None:
    answer = anybody.get("/", headers={"Accept": "*/*"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["contract"] == "/openapi.json"
    assert anybody.get(answer.json()["documentation"]).status_code == 200


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/"])
def test_a_page_is_only_read(anybody: httpx.Client, path: str) -> None:
    assert anybody.head(path).status_code == 200
    assert anybody.post(path).status_code == 405
