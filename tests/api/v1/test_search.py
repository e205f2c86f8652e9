"""Search over HTTP: by a photo, by a face, by a person."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.api.v1.conftest import Tenant, problem
from tests.support.calls import Photos

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def couple(house: Tenant, photos: Photos) -> tuple[str, str]:
    """The astronaut and Grace Hopper."""
    return tuple(
        house.insert(photo)["faces"][0]["person_id"] for photo in (photos.astronaut, photos.hopper)
    )


def test_a_photo_finds_its_people_and_stores_nothing(
    house: Tenant, photos: Photos, couple: tuple[str, str]
) -> None:
    before = house.ask("GET", "")
    found = house.ask("POST", "/search", content=photos.both, headers=JPEG)
    assert len(found["faces"]) == 2
    first = [face["matches"][0] for face in found["faces"]]
    assert {match["person_id"] for match in first} == set(couple)
    for match in first:
        assert match["is_match"]
        assert match["similarity"] > 0.5
        assert match["margin"] > 0
    assert house.ask("GET", "") == before


def test_a_search_is_restricted(house: Tenant, photos: Photos, couple: tuple[str, str]) -> None:
    def people(**query: object) -> list[str]:
        found = house.ask("POST", "/search", content=photos.hopper, headers=JPEG, params=query)
        (face,) = found["faces"]
        return [match["person_id"] for match in face["matches"]]

    assert people() == [couple[1], couple[0]]
    assert people(limit=1) == [couple[1]]
    assert people(labelled="true") == []
    house.ask("PATCH", f"/people/{couple[0]}", json={"label": "A"})
    assert people(labelled="true") == [couple[0]]
    assert people(among=couple[0]) == [couple[0]]
    assert people(max_distance=0.1) == [couple[1]]
    assert people(box="0,0,213,250") == people()
    outside = house.call(
        "POST", "/search", content=photos.hopper, headers=JPEG, params={"box": "0,0,5,5"}
    )
    assert outside.status_code == 422
    assert problem(outside) == "no_face_in_box"


def test_a_face_and_a_person_find_who_looks_alike(
    house: Tenant, photos: Photos, couple: tuple[str, str]
) -> None:
    face = house.insert(photos.astronaut)["faces"][0]
    found = house.ask("POST", "/search", json={"face_id": face["id"]})
    assert found["matches"][0]["person_id"] == couple[0]
    only = house.ask("POST", "/search", json={"face_id": face["id"], "person_ids": [couple[1]]})
    assert [match["person_id"] for match in only["matches"]] == [couple[1]]
    similar = house.ask("GET", f"/people/{couple[0]}/similar")["items"]
    assert [match["person_id"] for match in similar] == [couple[1]]
    assert not similar[0]["is_match"]


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 101}, {"max_distance": 3}, {"box": "1,2,3"}, {"box": "3,3,1,1"}],
)
def test_a_malformed_search_is_refused(
    house: Tenant, photos: Photos, couple: tuple[str, str], query: dict[str, object]
) -> None:
    answer = house.call("POST", "/search", content=photos.hopper, headers=JPEG, params=query)
    assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [({"max_distance": "near"}, "/query/max_distance"), ({"colour": "red"}, "/query/colour")],
)
def test_the_query_is_checked_beside_json_too(
    house: Tenant, query: dict[str, str], pointer: str
) -> None:
    face = {"face_id": str(uuid4())}
    answer = house.call("POST", "/search", json=face, params=query)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_search_in_a_tenant_that_does_not_exist(house: Tenant, photos: Photos) -> None:
    answer = house.call("POST", "/search", content=photos.hopper, headers=JPEG)
    assert (answer.status_code, problem(answer)) == (404, "not_found")
