"""A key of one tenant meets another tenant in no place where an id can stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from service.api.v1.operation import BodyKind, Operation
from service.api.v1.operations import OPERATIONS
from tests.api.v1.conftest import Tenant, problem
from tests.support.calls import Photos

SCOPES = ("read", "write", "admin")


@dataclass(frozen=True)
class Neighbours:
    """Two tenants with a photo each; `key` is an admin of the first one alone.

    ids: of the second one's things, by the names that paths and bodies give them.
    """

    own: Tenant
    other: Tenant
    ids: dict[str, str]

    def stands(self) -> tuple[Any, ...]:
        """Everything that the other tenant has."""
        return (
            self.other.ask("GET", ""),
            self.other.listed("/images"),
            self.other.people(hidden="any"),
            self.other.listed("/decisions"),
            self.other.listed("/history"),
        )


def _key(client: httpx.Client, **facts: Any) -> httpx.Headers:
    made = client.post("/v1/keys", json={"name": "test", "scopes": ["admin"], **facts})
    assert made.status_code == 201, made.text
    return httpx.Headers({"Authorization": f"Bearer {made.json()['key']}"})


@pytest.fixture(scope="module")
def neighbours(service: ServiceProcess, photos: Photos) -> Iterator[Neighbours]:
    """Nothing that the tests do changes either of them."""
    with service.client() as client:
        yield from _neighbours(service, client, photos)


def _neighbours(
    service: ServiceProcess, client: httpx.Client, photos: Photos
) -> Iterator[Neighbours]:
    tenant = f"tenant-{uuid4().hex}"
    other = Tenant(client, f"{tenant}-other")
    stored = other.insert(photos.hopper)
    (face,) = stored["faces"]
    other.insert(photos.hopper)
    other.ask("POST", f"/people/{face['person_id']}/confirm", json={})
    (decision,) = other.listed("/decisions")
    client.post(
        "/insert-image", data={"tenant_id": tenant}, files={"image": photos.astronaut}
    ).raise_for_status()
    review = client.get("/review-pending-list", params={"tenant_id": other.name}).json()[0]["id"]
    key = client.post(
        "/v1/keys", json={"name": "other's", "scopes": ["admin"], "tenant_id": other.name}
    ).json()
    ids = {
        "image_id": stored["image_id"],
        "face_id": face["id"],
        "person_id": face["person_id"],
        "cluster_id": face["person_id"],
        "to_cluster_id": face["person_id"],
        "from_cluster_id": face["person_id"],
        "into_cluster_id": face["person_id"],
        "review_id": str(review),
        "decision_id": decision["id"],
        # The first tenant has not changed as often.
        "change_id": other.listed("/history")[0]["id"],
        "key_id": key["id"],
        "tenant_id": other.name,
    }
    with httpx.Client(
        base_url=service.url, headers=_key(client, tenant_id=tenant), timeout=30
    ) as mine:
        yield Neighbours(Tenant(mine, tenant), other, ids)


def _body(operation: Operation, ids: dict[str, str], photos: Photos) -> dict[str, Any]:
    """A body that fits the operation, with the other tenant's ids in it."""
    bodies: dict[str, dict[str, Any]] = {
        "FaceMove": {"person_id": ids["person_id"]},
        "Merge": {"into": ids["person_id"]},
        "Confirm": {"face_ids": [ids["face_id"]]},
        "ReviewReply": {"answer": "ignore"},
        "Split": {"face_ids": [ids["face_id"]]},
        "NewPerson": {"face_ids": [ids["face_id"]]},
        "PersonChange": {"cover_face_id": ids["face_id"]},
        "TenantEdit": {"max_images": 1},
        "NewTenant": {"id": ids["tenant_id"]},
        "SearchRequest": {"face_id": ids["face_id"]},
        "NewKeyRequest": {"name": "n", "scopes": ["read"], "tenant_id": ids["tenant_id"]},
        "RotateRequest": {},
    }
    if operation.body is BodyKind.STREAM:
        return {"files": {"a": ("a.jpg", photos.hopper, "image/jpeg")}}
    if operation.takes is not None:
        return {"json": bodies[operation.takes.__name__]}
    if operation.body is BodyKind.PHOTO:
        return {"content": photos.hopper, "headers": {"Content-Type": "image/jpeg"}}
    return {}


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if "{" in each.path], ids=lambda each: each.name
)
def test_the_path_of_another_tenant_is_no_path(
    neighbours: Neighbours, photos: Photos, operation: Operation
) -> None:
    before = neighbours.stands()
    path = operation.path.format_map(neighbours.ids)
    answer = neighbours.own.client.request(
        operation.method, path, **_body(operation, neighbours.ids, photos)
    )
    assert answer.status_code in (403, 404)
    assert problem(answer) in ("forbidden", "not_found")
    assert neighbours.stands() == before


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if each.path.count("{") > 1],
    ids=lambda each: each.name,
)
def test_an_id_of_another_tenant_is_no_id_of_this_one(
    neighbours: Neighbours, photos: Photos, operation: Operation
) -> None:
    before = neighbours.stands()
    path = operation.path.format_map({**neighbours.ids, "tenant_id": neighbours.own.name})
    answer = neighbours.own.client.request(
        operation.method, path, **_body(operation, neighbours.ids, photos)
    )
    assert (answer.status_code, problem(answer)) == (404, "not_found")
    missing = re.sub(r"[0-9a-f-]{36}", str(UUID(int=0)), path.rpartition(neighbours.own.name)[2])
    nobody = neighbours.own.call(
        operation.method, missing, **_body(operation, neighbours.ids, photos)
    )
    assert nobody.json()["detail"] == answer.json()["detail"]
    assert neighbours.stands() == before


def test_ids_of_another_tenant_in_bodies_and_queries(neighbours: Neighbours) -> None:
    own, ids = neighbours.own, neighbours.ids
    before = neighbours.stands()
    (person,) = (each["id"] for each in own.people())
    (face,) = (each["id"] for each in own.listed(f"/people/{person}/faces"))
    for method, path, sent in (
        ("PATCH", f"/faces/{face}", {"json": {"person_id": ids["person_id"]}}),
        (
            "POST",
            f"/reviews/{own.listed('/reviews')[0]['id']}",
            {"json": {"answer": "same", "person_id": ids["person_id"]}},
        ),
        ("POST", f"/people/{person}/merge", {"json": {"into": ids["person_id"]}}),
        ("PATCH", f"/people/{person}", {"json": {"cover_face_id": ids["face_id"]}}),
        ("POST", "/people", {"json": {"face_ids": [ids["face_id"]]}}),
        ("POST", "/search", {"json": {"face_id": ids["face_id"]}}),
        ("GET", "/images", {"params": {"person_id": ids["person_id"]}}),
    ):
        answer = own.call(method, path, **sent)
        assert (answer.status_code, problem(answer)) == (404, "not_found"), path
    for path, sent in ((f"/people/{person}/split", {"json": {"face_ids": [ids["face_id"]]}}),):
        answer = own.call("POST", path, **sent)
        assert answer.status_code in (404, 422), path
    found = own.ask("POST", "/search", json={"face_id": face, "person_ids": [ids["person_id"]]})
    assert found["matches"] == []
    assert neighbours.stands() == before


def test_keys_of_another_tenant_and_of_all_tenants_are_out_of_reach(
    neighbours: Neighbours, client: httpx.Client
) -> None:
    mine, ids = neighbours.own.client, neighbours.ids
    of_all = client.post("/v1/keys", json={"name": "all", "scopes": ["read"]}).json()["id"]
    for key in (ids["key_id"], of_all, "0" * 16):
        for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            sent = {"json": {}} if method == "POST" else {}
            answer = mine.request(method, f"/v1/keys/{key}{below}", **sent)
            assert (answer.status_code, problem(answer)) == (404, "not_found")
    for tenant in (ids["tenant_id"], None):
        body = {"name": "more", "scopes": ["read"], "tenant_id": tenant}
        answer = mine.post("/v1/keys", json=body)
        assert answer.status_code in (403, 404)
    listed = mine.get("/v1/keys").json()["items"]
    assert {key["tenant_id"] for key in listed} == {neighbours.own.name}
    assert [each["id"] for each in mine.get("/v1/tenants").json()["items"]] == [neighbours.own.name]
    answer = mine.patch(f"/v1/tenants/{neighbours.own.name}", json={"max_images": None})
    assert (answer.status_code, problem(answer)) == (403, "forbidden")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_opens_what_it_names_and_what_is_below(
    service: ServiceProcess, client: httpx.Client, tenant: str, photos: Photos, scope: str
) -> None:
    Tenant(client, tenant).insert(photos.hopper)
    headers = _key(client, tenant_id=tenant, scopes=[scope])
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as mine:
        own = Tenant(mine, tenant)
        may = SCOPES[: SCOPES.index(scope) + 1]
        assert own.call("GET", "/people").status_code == 200
        written = own.call("POST", "/people", json={"label": "new"})
        assert written.status_code == (201 if "write" in may else 403)
        assert mine.get("/v1/keys").status_code == (200 if "admin" in may else 403)
        if scope != "admin":
            refused = own.call("DELETE", "")
            assert (refused.status_code, problem(refused)) == (403, "forbidden")
