"""Every curl line of docs/api.md, run against the service, and the fields of its answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from bench.common.server import TOKEN, ServiceProcess
from tests.support.calls import Photos
from tests.support.folders import ROOT

_PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
_SECTION = re.compile(
    r"^### `(?P<route>[A-Z]+ /\S+)`\n(?P<text>.*?)(?=^##+ [^#]|\Z)", re.MULTILINE | re.DOTALL
)
SECTIONS = {match["route"]: match["text"] for match in _SECTION.finditer(_PAGE)}
_RECEIPT = "the receipt of `DELETE /image`"


def curl_of(text: str) -> str:
    (line,) = re.findall(r"^    (curl .*)$", text, re.MULTILINE)
    return str(line)


def documented_fields(text: str) -> set[str] | None:
    """The outermost fields of `Answer: ...`; None where the section shows none."""
    text = " ".join(text.split())
    if _RECEIPT in text:
        text = SECTIONS["DELETE /image"]
    found = re.search(r"Answer:\s+`\[?\{(.*?)\}\]?`", text)
    if found is None:
        return None
    outermost = found[1]
    while re.search(r"[\[{][^\[\]{}]*[\]}]", outermost):
        outermost = re.sub(r"[\[{][^\[\]{}]*[\]}]", "", outermost)
    return {field.split(":")[0].strip() for field in outermost.split(",")}


@pytest.fixture
def environment(client: httpx.Client, tenant: str, photos: Photos) -> dict[str, str]:
    """The variables of the examples: a photo with two people and their clusters in a new tenant."""
    inserted = client.post(
        "/insert-image", data={"tenant_id": tenant}, files={"image": photos.both}
    ).json()
    reviews = client.get("/review-pending-list", params={"tenant_id": tenant}).json()
    face, _ = inserted["faces"]
    clusters = [each["cluster_id"] for each in inserted["faces"]]
    assert clusters[0] != clusters[1]
    return {
        "TOKEN": TOKEN,
        "IMAGE": inserted["image_id"],
        "FACE": face["face_id"],
        "CLUSTER": clusters[0],
        "OTHER_CLUSTER": clusters[1],
        "REVIEW": str(reviews[0]["id"]),
    }


@pytest.mark.parametrize("route", SECTIONS)
def test_documented_request_is_answered_with_the_documented_fields(
    route: str,
    service: ServiceProcess,
    tenant: str,
    environment: dict[str, str],
    photos: Photos,
    tmp_path: Path,
) -> None:
    (tmp_path / "photo.jpg").write_bytes(photos.both)
    line = curl_of(SECTIONS[route])
    method, path = route.split(" ")
    assert re.search(rf"8000{re.escape(path)}(?=[\"?\s]|$)", line), "it asks another route"
    line = line.replace("http://127.0.0.1:8000", service.url)
    line = re.sub(r"\btenant_id=demo\b", f"tenant_id={tenant}", line)
    done = subprocess.run(
        ["bash", "-uc", line.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "no_proxy": "*", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fields = documented_fields(SECTIONS[route])
    if fields is not None:
        answer: Any = json.loads(done.stdout)
        assert set(answer[0] if isinstance(answer, list) else answer) == fields
    if method == "DELETE":
        assert _is_gone(service, tenant, path, environment)


def _is_gone(service: ServiceProcess, tenant: str, path: str, environment: dict[str, str]) -> bool:
    """Whether a GET no longer finds what was removed; for a tenant, its photo."""
    asked = "/image" if path == "/tenant" else path
    kind = {"/review-pending": "review"}.get(asked, asked.removeprefix("/"))
    params = {"tenant_id": tenant, f"{kind}_id": environment[kind.upper()]}
    answer = httpx.get(f"{service.url}{asked}", headers={"token": TOKEN}, params=params)
    return answer.status_code == 404


def test_all_but_the_operations_show_their_fields() -> None:
    without = {route for route, text in SECTIONS.items() if documented_fields(text) is None}
    assert without == {
        *("GET /healthz", "GET /readyz", "GET /metrics"),
        # These show an example, or refer to another answer.
        *("POST /insert-image", "GET /faces"),
    }
