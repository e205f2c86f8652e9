"""People over HTTP: named, listed, merged, split; two editors, and ids that are none."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from service.api.v1.images import insert_once
from service.batching import free_ticket
from service.domain.errors import NotFoundError
from service.domain.people import MAX_DIGESTS
from service.domain.types import ImageId, IngestedPhoto
from service.telemetry import StageClock
from service.usecases.ingest import InsertCondition, OnDuplicate
from tests.api.v1.conftest import Tenant, problem
from tests.support.calls import Photos


@pytest.fixture
def couple(house: Tenant, photos: Photos) -> tuple[str, str]:
    """The astronaut, on two images, and Grace Hopper on one."""
    house.insert(photos.astronaut)
    both = house.insert(photos.both)
    people = house.people()
    assert [person["face_count"] for person in people] == [2, 1]
    assert len(both["faces"]) == 2
    return people[0]["id"], people[1]["id"]


def test_a_person_is_named_found_and_listed(house: Tenant, couple: tuple[str, str]) -> None:
    first, second = couple
    edit = {"label": " Zo\u0065\u0308 ", "external_id": "p-1", "metadata": {"born": 1906}}
    person = house.ask("PATCH", f"/people/{second}", json=edit)
    assert person["label"] == "Zo\u00eb"
    assert person["external_id"] == "p-1"
    assert person["metadata"] == {"born": 1906}
    assert person["version"] == 2
    assert house.ask("GET", f"/people/{second}") == person
    assert house.people(labelled="true") == [person]
    assert house.people(prefix="ZO") == [person]
    assert house.people(prefix="x") == []
    assert house.people(external_id="p-1") == [person]
    assert [each["id"] for each in house.people(labelled="false")] == [first]
    assert house.ask("PATCH", f"/people/{second}", json={"hidden": True})["hidden"] is True
    assert [each["id"] for each in house.people()] == [first]
    assert [each["id"] for each in house.people(hidden="true")] == [second]
    assert {each["id"] for each in house.people(hidden="any")} == {first, second}
    cleared = {"label": None, "metadata": None, "external_id": None, "hidden": False}
    person = house.ask("PATCH", f"/people/{second}", json=cleared)
    assert (person["label"], person["metadata"], person["external_id"]) == (None, {}, None)


def test_pages_of_people_follow_each_other_in_every_order(
    house: Tenant, couple: tuple[str, str]
) -> None:
    made = [
        house.ask("POST", "/people", 201, json={"label": f"Person {9 - number}"})["id"]
        for number in range(5)
    ]
    everybody = {*couple, *made}
    for order in ("faces", "recency"):
        for limit in (1, 2, 3, 50):
            people = [person["id"] for person in house.people(order=order, limit=limit)]
            assert len(people) == len(everybody)
            assert set(people) == everybody
    labelled = house.people(order="label", limit=2)
    assert [person["label"] for person in labelled] == [f"Person {n}" for n in range(5, 10)]
    assert [person["id"] for person in house.people(labelled="true", limit=2)] != labelled


def test_a_cursor_of_another_list_is_refused(house: Tenant, couple: tuple[str, str]) -> None:
    page = house.ask("GET", "/people", params={"limit": 1})
    cursor = page["next"]
    for path, query in (
        ("/people", {"order": "recency"}),
        ("/people", {"labelled": "false"}),
        (f"/people/{couple[0]}/faces", {}),
        ("/images", {}),
    ):
        answer = house.call("GET", path, params={**query, "cursor": cursor})
        assert (answer.status_code, problem(answer)) == (422, "invalid_cursor")
    for forged in ("", "x", "!" * 20, cursor[:-1], "A" + cursor[1:], "AAAA" * 100):
        answer = house.call("GET", "/people", params={"cursor": forged})
        assert (answer.status_code, problem(answer)) == (422, "invalid_cursor"), forged


def test_a_merge_keeps_what_is_known_and_says_where_the_person_went(
    house: Tenant, couple: tuple[str, str]
) -> None:
    first, second = couple
    house.ask("PATCH", f"/people/{first}", json={"label": "A", "external_id": "one"})
    kept = house.ask("POST", f"/people/{first}/merge", json={"into": second})
    assert (kept["id"], kept["label"], kept["external_id"]) == (second, "A", "one")
    assert (kept["face_count"], kept["image_count"]) == (3, 2)
    gone = house.call("GET", f"/people/{first}")
    assert (gone.status_code, problem(gone)) == (410, "person_merged")
    assert gone.json()["merged_into"] == second
    third = house.ask("POST", "/people", 201, json={"label": "C"})["id"]
    house.ask("POST", f"/people/{second}/merge", json={"into": third})
    assert house.call("GET", f"/people/{first}").json()["merged_into"] == third


def test_of_two_merges_into_each_other_one_wins(house: Tenant, couple: tuple[str, str]) -> None:
    def merge(pair: tuple[str, str]) -> int:
        return house.call("POST", f"/people/{pair[0]}/merge", json={"into": pair[1]}).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(merge, [couple, couple[::-1]])) == [200, 410]
    assert [person["face_count"] for person in house.people()] == [3]


def test_a_split_makes_a_person_of_some_faces(house: Tenant, couple: tuple[str, str]) -> None:
    first, _ = couple
    faces = [face["id"] for face in house.listed(f"/people/{first}/faces", limit=1)]
    assert len(faces) == 2
    body = {"face_ids": faces[:1], "label": "B"}
    made = house.ask("POST", f"/people/{first}/split", 201, json=body)
    assert (made["face_count"], made["label"], made["cover_face_id"]) == (1, "B", faces[0])
    assert house.ask("GET", f"/people/{first}")["face_count"] == 1
    nobody_left = house.call("POST", f"/people/{first}/split", json={"face_ids": faces[1:]})
    assert (nobody_left.status_code, problem(nobody_left)) == (422, "invalid_parameter")
    not_theirs = house.call("POST", f"/people/{made['id']}/split", json={"face_ids": faces[1:]})
    assert not_theirs.status_code in (404, 422)
    assert {person["face_count"] for person in house.people()} == {1}


def test_two_editors_do_not_overwrite_each_other(house: Tenant, couple: tuple[str, str]) -> None:
    path = f"/people/{couple[0]}"
    etag = house.call("GET", path).headers["etag"]
    answer = house.call("PATCH", path, json={"label": "mine"}, headers={"If-Match": etag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != etag
    for method, below, body in (
        ("PATCH", "", {"label": "yours"}),
        ("POST", "/merge", {"into": couple[1]}),
        ("POST", "/split", {"face_ids": ["x"]}),
        ("DELETE", "", None),
    ):
        late = house.call(method, path + below, json=body, headers={"If-Match": etag})
        assert (late.status_code, problem(late)) == (412, "precondition_failed"), method
    assert house.ask("GET", path)["label"] == "mine"
    for wrong in ("mine", '"x"', 'W/"1"', '"1", "2"'):
        answer = house.call("PATCH", path, json={}, headers={"If-Match": wrong})
        assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")


def test_an_external_id_is_unique_in_the_tenant(house: Tenant) -> None:
    house.ask("POST", "/tenants", 404)
    house.client.post("/v1/tenants", json={"id": house.name})
    house.ask("POST", "/people", 201, json={"external_id": "e"})
    second = house.ask("POST", "/people", 201, json={"label": "second"})["id"]
    for method, path in (("POST", "/people"), ("PATCH", f"/people/{second}")):
        answer = house.call(method, path, json={"external_id": "e"})
        assert (answer.status_code, problem(answer)) == (409, "external_id_taken")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"label": "x" * 257}, "/body/label"),
        ({"label": "x" * 1_000_000}, "/body/label"),
        ({"label": "a\u0000b"}, "/body/label"),
        ({"label": "  "}, "/body/label"),
        ({"label": 5}, "/body/label"),
        ({"external_id": "\u200b"}, "/body/external_id"),
        ({"metadata": {"x": "y" * 5000}}, "/body/metadata"),
        ({"metadata": {"x": "\u0000"}}, "/body/metadata"),
        ({"metadata": []}, "/body/metadata"),
        ({"hidden": "perhaps"}, "/body/hidden"),
        ({"name": "x"}, "/body/name"),
    ],
)
def test_a_body_that_does_not_fit_says_where(
    house: Tenant, couple: tuple[str, str], body: dict[str, object], pointer: str
) -> None:
    answer = house.call("PATCH", f"/people/{couple[0]}", json=body)
    assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
    assert len(answer.content) < 2000


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"null", b"[" * 10_000, b'{"label": "\xff"}', b'{"label": "\\ud800"}'],
)
def test_a_body_that_is_no_object_is_refused(
    house: Tenant, couple: tuple[str, str], body: bytes
) -> None:
    answer = house.call(
        "POST",
        f"/people/{couple[0]}/merge",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    assert problem(answer) in ("malformed_body", "invalid_parameter")


def test_a_person_is_erased_with_a_receipt(house: Tenant, couple: tuple[str, str]) -> None:
    receipt = house.ask("DELETE", f"/people/{couple[0]}")
    erased = {"images": 1, "faces": 2, "people": 1, "reviews": 1, "files": 1}
    assert receipt == {**erased, "decisions": 0, "changes": 1}
    (left,) = [
        each["subject"] for each in house.listed("/history") if "person_id" in each["subject"]
    ]
    assert left == {"person_id": couple[0]}
    assert [person["id"] for person in house.people()] == [couple[1]]
    assert len(house.listed("/images")) == 1


def test_a_cover_is_chosen_by_a_person(house: Tenant, couple: tuple[str, str]) -> None:
    path = f"/people/{couple[0]}"
    best = house.ask("GET", path)["cover_face_id"]
    faces = {face["id"] for face in house.listed(path + "/faces")}
    (other,) = faces - {best}
    person = house.ask("PATCH", path, json={"cover_face_id": other})
    assert (person["cover_face_id"], person["cover_is_chosen"]) == (other, True)
    person = house.ask("PATCH", path, json={"cover_face_id": None})
    assert (person["cover_face_id"], person["cover_is_chosen"]) == (best, False)
    (theirs,) = {face["id"] for face in house.listed(f"/people/{couple[1]}/faces")}
    answer = house.call("PATCH", path, json={"cover_face_id": theirs})
    assert (answer.status_code, problem(answer)) == (404, "not_found")


def test_a_face_goes_to_another_person_or_to_a_new_one(
    house: Tenant, couple: tuple[str, str]
) -> None:
    first, second = couple
    (face,) = house.listed(f"/people/{second}/faces")
    moved = house.ask("PATCH", f"/faces/{face['id']}", json={"person_id": first})
    assert (moved["person_id"], moved["is_auto_matched"]) == (first, False)
    assert house.call("GET", f"/people/{second}").status_code == 404
    again = house.ask("PATCH", f"/faces/{face['id']}", json={"person_id": first})
    assert again == moved  # which confirms it
    kinds = [each["kind"] for each in house.listed("/history")]
    assert kinds[:2] == ["face.confirmed", "face.moved"]
    for target in ("new", None):
        answer = house.call("PATCH", f"/faces/{face['id']}", json={"person_id": target})
        assert (answer.status_code, problem(answer)) == (409, "decision_conflict")
        against = set(answer.json()["decisions"])
        assert against
        assert against <= {each["id"] for each in house.listed("/decisions")}
    former = {first, second}
    for target in ("new", None):
        said = {"person_id": target, "override": True}
        alone = house.ask("PATCH", f"/faces/{face['id']}", json=said)["person_id"]
        assert alone not in former
        former.add(alone)
        assert house.ask("GET", f"/people/{alone}")["face_count"] == 1


def test_a_named_person_stays_without_faces(house: Tenant, couple: tuple[str, str]) -> None:
    first, second = couple
    house.ask("PATCH", f"/people/{second}", json={"label": "Grace"})
    (face,) = house.listed(f"/people/{second}/faces")
    house.ask("PATCH", f"/faces/{face['id']}", json={"person_id": first})
    assert house.ask("GET", f"/people/{second}")["face_count"] == 0


def test_a_repeated_request_is_done_once(house: Tenant, couple: tuple[str, str]) -> None:
    headers = {"Idempotency-Key": "once"}
    first = house.call("POST", "/people", json={"label": "X"}, headers=headers)
    again = house.call("POST", "/people", json={"label": "X"}, headers=headers)
    assert (
        (again.status_code, again.content)
        == (first.status_code, first.content)
        == (201, first.content)
    )
    assert again.headers["idempotency-replayed"] == "true"
    other = house.call("POST", "/people", json={"label": "Y"}, headers=headers)
    assert (other.status_code, problem(other)) == (409, "idempotency_key_reused")
    assert len(house.people(labelled="true")) == 1


def test_images_are_listed_by_time_and_by_person(
    house: Tenant, couple: tuple[str, str], photos: Photos
) -> None:
    empty = house.insert(photos.nobody)["image_id"]
    images = house.listed("/images", limit=2)
    assert len(images) == 3
    assert images[0]["id"] == empty
    assert [image["created_at"] for image in images] == sorted(
        (image["created_at"] for image in images), reverse=True
    )
    after = images[1]["created_at"]
    assert [image["id"] for image in house.listed("/images", after=after)] == [empty]
    of_person = house.listed("/images", person_id=couple[0], limit=1)
    assert of_person == house.listed(f"/people/{couple[0]}/images", limit=1) == images[1:]
    assert house.listed("/images", order="taken") == []
    answer = house.call("GET", "/images", params={"after": "2026-01-01T00:00:00"})
    assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")


def test_images_are_found_by_the_hashes_of_their_files(house: Tenant, photos: Photos) -> None:
    files = [photos.hopper, photos.nobody, photos.hopper]
    stored = [house.insert(photo)["image_id"] for photo in files]
    hopper, nobody, other = (
        hashlib.sha256(data).hexdigest() for data in (photos.hopper, photos.nobody, b"other")
    )

    def found(*digests: str, **query: Any) -> list[str]:
        listed = house.listed("/images", sha256=",".join(digests), **query)
        return [image["id"] for image in listed]

    assert found(hopper, other, limit=1) == [stored[2], stored[0]]
    assert found(nobody) == [stored[1]]
    assert found(other) == []
    assert found(*[other] * (MAX_DIGESTS - 1), nobody) == [stored[1]]
    for query in (
        {"sha256": hopper[1:]},
        {"sha256": hopper.upper()},
        {"sha256": ",".join([hopper] * (MAX_DIGESTS + 1))},
        {"sha256": hopper, "order": "taken"},
        {"sha256": hopper, "person_id": "x"},
    ):
        answer = house.call("GET", "/images", params=query)
        assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")


def test_an_image_on_two_faces_of_a_person_is_listed_once(house: Tenant, photos: Photos) -> None:
    stored = house.insert(photos.twins)
    first, second = (face["id"] for face in stored["faces"])
    person = stored["faces"][0]["person_id"]
    house.ask("PATCH", f"/faces/{second}", json={"person_id": person})
    other = house.insert(photos.astronaut)["image_id"]
    images = [image["id"] for image in house.listed(f"/people/{person}/images", limit=1)]
    assert images == [other, stored["image_id"]]
    assert house.ask("GET", f"/people/{person}")["image_count"] == 2
    assert first in {face["id"] for face in house.listed(f"/people/{person}/faces")}


def test_on_duplicate_says_what_happens_to_the_same_file(house: Tenant, photos: Photos) -> None:
    first = house.insert(photos.hopper)
    same = house.insert(photos.hopper, 200, on_duplicate="return")
    assert (same["image_id"], same["created"]) == (first["image_id"], False)
    assert [face["id"] for face in same["faces"]] == [face["id"] for face in first["faces"]]
    answer = house.call(
        "POST",
        "/images",
        content=photos.hopper,
        params={"on_duplicate": "reject"},
        headers={"Content-Type": "image/jpeg"},
    )
    assert (answer.status_code, problem(answer)) == (409, "duplicate_image")
    assert answer.json()["image_id"] == first["image_id"]
    assert house.insert(photos.hopper)["image_id"] != first["image_id"]
    assert len(house.listed("/images")) == 2


async def test_a_duplicate_that_is_deleted_before_it_is_shown_is_stored_again() -> None:
    stored = iter([ImageId("deleted"), IngestedPhoto(ImageId("new"))])

    async def once(*_: object) -> ImageId | IngestedPhoto:
        return next(stored)

    async def image(*_: object) -> NoReturn:
        raise NotFoundError("image")

    services: Any = SimpleNamespace(
        ingest=SimpleNamespace(once=once), people=SimpleNamespace(image=image)
    )
    call: Any = SimpleNamespace(tenant_id="tenant", record=lambda *_, **__: None)
    photo: Any = SimpleNamespace(read=None)
    condition = InsertCondition(OnDuplicate.RETURN)
    answer = await insert_once(services, call, photo, StageClock(), free_ticket(), condition)
    assert answer.status_code == 201
    assert json.loads(bytes(answer.body))["image_id"] == "new"


def test_nobody_is_without_faces_and_without_a_name(house: Tenant, couple: tuple[str, str]) -> None:
    for body in ({}, {"metadata": {"a": 1}}, {"label": None, "hidden": True}):
        answer = house.call("POST", "/people", json=body)
        assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")
    empty = house.ask("POST", "/people", 201, json={"label": "A"})["id"]
    answer = house.call("PATCH", f"/people/{empty}", json={"label": None})
    assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")
    house.ask("PATCH", f"/people/{empty}", json={"label": None, "external_id": "a"})


def test_all_metadata_that_the_rule_allows_is_stored(house: Tenant) -> None:
    house.client.post("/v1/tenants", json={"id": house.name}).raise_for_status()
    for metadata in ({"a": [1] * 2040}, {"a": [1e300] * 500}, {"a": "x" * 4085}, {"a": "é" * 2000}):
        person = house.ask("POST", "/people", 201, json={"label": "M", "metadata": metadata})
        assert person["metadata"] == metadata
