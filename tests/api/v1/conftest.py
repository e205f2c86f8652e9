"""What the tests of the contract share."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest


class Tenant:
    """A tenant, and calls of its operations."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client = client
        self.name = name

    def call(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """A request below the tenant's path, whatever comes of it."""
        return self.client.request(method, f"/v1/tenants/{self.name}{path}", **sent)

    def ask(self, method: str, path: str, status: int = 200, **sent: Any) -> Any:
        """The JSON of a request that must have this status."""
        answer = self.call(method, path, **sent)
        assert answer.status_code == status, answer.text
        return answer.json()

    def insert(self, photo: bytes, status: int = 201, **query: str) -> dict[str, Any]:
        """Insert a photo, which must succeed."""
        headers = {"Content-Type": "image/jpeg"}
        return self.ask("POST", "/images", status, content=photo, params=query, headers=headers)

    def people(self, **query: Any) -> list[dict[str, Any]]:
        """All people of a list, page by page."""
        return self.listed("/people", **query)

    def listed(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = self.ask("GET", path, params={**query, **({"cursor": cursor} if cursor else {})})
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items


@pytest.fixture
def house(client: httpx.Client, tenant: str) -> Tenant:
    """A tenant that no other test knows."""
    return Tenant(client, tenant)


def problem(answer: httpx.Response) -> str:
    """The code of a problem, whose form is checked."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return str(body["code"])
