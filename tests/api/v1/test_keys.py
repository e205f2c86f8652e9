"""Keys over HTTP: made once, rotated once, shown once, revoked for good."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from tests.api.v1.conftest import problem


def _make(client: httpx.Client, headers: dict[str, str] | None = None, **facts: Any) -> Any:
    body = {"name": "k", "scopes": ["read"], **facts}
    return client.post("/v1/keys", json=body, headers=headers)


def _works(service: ServiceProcess, key: str, tenant: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.get(f"{service.url}/v1/tenants/{tenant}", headers=headers).status_code


def test_a_key_is_shown_once_and_works_until_it_is_revoked(
    service: ServiceProcess, client: httpx.Client, tenant: str
) -> None:
    client.post("/v1/tenants", json={"id": tenant}).raise_for_status()
    made = _make(client, tenant_id=tenant)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    assert key["key"].startswith(f"fct_{key['id']}_")
    assert _works(service, key["key"], tenant) == 200
    shown = client.get(f"/v1/keys/{key['id']}").json()
    assert "key" not in shown
    assert (shown["tenant_id"], shown["scopes"], shown["revoked_at"]) == (tenant, ["read"], None)
    listed = client.get("/v1/keys", params={"tenant_id": tenant}).json()["items"]
    assert [each["id"] for each in listed] == [key["id"]]
    revoked = client.delete(f"/v1/keys/{key['id']}").json()
    assert revoked["revoked_at"] is not None
    assert _works(service, key["key"], tenant) == 401


def test_a_repeated_request_makes_one_key(
    service: ServiceProcess, client: httpx.Client, tenant: str
) -> None:
    client.post("/v1/tenants", json={"id": tenant}).raise_for_status()
    headers = {"Idempotency-Key": f"make-{tenant}"}
    first, again = (_make(client, headers, tenant_id=tenant).json() for _ in range(2))
    assert again == first
    assert _works(service, again["key"], tenant) == 200
    other = _make(client, headers, tenant_id=tenant, name="other")
    assert (other.status_code, problem(other)) == (409, "idempotency_key_reused")
    assert _make(client, {"Idempotency-Key": f"x-{tenant}"}).json()["id"] != first["id"]
    assert len(client.get("/v1/keys", params={"tenant_id": tenant}).json()["items"]) == 1


def test_a_repeated_rotation_gives_one_new_secret(
    service: ServiceProcess, client: httpx.Client, tenant: str
) -> None:
    client.post("/v1/tenants", json={"id": tenant}).raise_for_status()
    key = _make(client, tenant_id=tenant).json()
    path = f"/v1/keys/{key['id']}/rotate"
    body, headers = {"keep_former_s": 60}, {"Idempotency-Key": f"rotate-{tenant}"}
    first, again = (client.post(path, json=body, headers=headers).json() for _ in range(2))
    assert first["key"] == again["key"] != key["key"]
    assert _works(service, first["key"], tenant) == 200
    assert _works(service, key["key"], tenant) == 200
    third = client.post(path, json={}).json()
    assert _works(service, third["key"], tenant) == 200
    assert _works(service, first["key"], tenant) == 401


@pytest.mark.parametrize(
    "facts",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"name": ""},
        {"tenant_id": "a/b"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2099-01-01T00:00:00"},
        {"secret": "mine"},
    ],
    ids=str,
)
def test_a_malformed_key_is_not_made(client: httpx.Client, facts: dict[str, Any]) -> None:
    answer = _make(client, **facts)
    assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")
