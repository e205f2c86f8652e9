"""Limits of tenants: exact, cheap where they are reached, and told as what they are."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import pytest

from tests.api.v1.conftest import Tenant, problem
from tests.support.batches import codes, ended_by, files, marked_copies, send_batch
from tests.support.calls import Photos, assert_error, metric, send, stored
from tests.support.live import adjusted
from tests.support.service import ServiceProcess

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture
def limited(house: Tenant) -> Tenant:
    """A tenant that was made, and has no limits yet."""
    answer = house.client.post("/v1/tenants", json={"id": house.name})
    assert answer.status_code == 201, answer.text
    return house


def limit(house: Tenant, **limits: int | None) -> None:
    house.ask("PATCH", "", json=limits)


def insert(house: Tenant, photo: bytes, **query: str) -> httpx.Response:
    return house.call("POST", "/images", content=photo, headers=JPEG, params=query)


def decoded(client: httpx.Client) -> float:
    """How many photos were decoded so far."""
    return metric(client, "facette_stage_seconds_count", stage="decode")


def assert_limit(answer: httpx.Response, name: str, maximum: int) -> None:
    assert answer.status_code == 409
    assert problem(answer) == "limit_reached"
    assert (answer.json()["limit"], answer.json()["maximum"]) == (name, maximum)


def counts(house: Tenant) -> tuple[int, int]:
    facts = house.ask("GET", "")
    return facts["image_count"], facts["face_count"]


def test_a_tenant_takes_as_many_images_as_it_may(limited: Tenant, photos: Photos) -> None:
    limit(limited, max_images=2)
    for _ in range(2):
        assert insert(limited, photos.nobody).status_code == 201
    assert_limit(insert(limited, photos.nobody), "max_images", 2)
    assert_error(send(limited.client, limited.name, photos.nobody), 409, "limit_reached")
    limit(limited, max_images=3)
    assert insert(limited, photos.nobody).status_code == 201
    limit(limited, max_images=None)
    assert insert(limited, photos.nobody).status_code == 201


def test_a_photo_of_more_faces_than_there_is_room_for_is_not_stored(
    limited: Tenant, service: ServiceProcess, photos: Photos
) -> None:
    limit(limited, max_faces=3)
    assert insert(limited, photos.both).status_code == 201
    before = stored(service)
    assert_limit(insert(limited, photos.both), "max_faces", 3)
    assert stored(service) == before
    assert counts(limited) == (1, 2)
    assert insert(limited, photos.astronaut).status_code == 201
    assert_limit(insert(limited, photos.astronaut), "max_faces", 3)


@pytest.mark.parametrize("limits", [{"max_images": 1}, {"max_faces": 1}])
def test_a_tenant_at_its_limit_is_refused_before_the_photo_is_looked_at(
    limited: Tenant, service: ServiceProcess, photos: Photos, limits: dict[str, int]
) -> None:
    assert insert(limited, photos.astronaut).status_code == 201
    limit(limited, **limits)
    before = decoded(limited.client), stored(service)
    assert before[0] > 0
    assert_limit(insert(limited, photos.astronaut), *next(iter(limits.items())))
    assert_error(send(limited.client, limited.name, photos.both), 409, "limit_reached")
    answer = send_batch(limited.client, limited.name, files(("a", photos.both), ("b", b"bad")))
    assert codes(answer) == ["limit_reached"] * 2
    assert ended_by(answer) is None
    assert (decoded(limited.client), stored(service)) == before


def test_many_inserts_at_the_limit_are_counted_exactly(
    limited: Tenant, service: ServiceProcess, photos: Photos
) -> None:
    limit(limited, max_images=4)
    before = stored(service)
    with ThreadPoolExecutor(12) as callers:
        answers = list(callers.map(lambda _: insert(limited, photos.nobody), range(12)))
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [409] * 8
    assert counts(limited) == (4, 0)
    assert len([path for path in stored(service) - before if path.is_file()]) == 4


def test_a_batch_fills_a_tenant_up_to_its_limit(limited: Tenant, photos: Photos) -> None:
    limit(limited, max_images=5)
    named = [(str(nth), copy) for nth, copy in enumerate(marked_copies(photos.nobody, 9))]
    answer = send_batch(limited.client, limited.name, files(*named))
    assert sorted(map(str, codes(answer))) == ["None"] * 5 + ["limit_reached"] * 4
    assert counts(limited) == (5, 0)


def test_what_is_there_is_still_returned_at_the_limit(limited: Tenant, photos: Photos) -> None:
    headers = {**JPEG, "Idempotency-Key": "once"}
    first = limited.call("POST", "/images", content=photos.nobody, headers=headers)
    limit(limited, max_images=1)
    again = limited.call("POST", "/images", content=photos.nobody, headers=headers)
    assert again.json() == first.json()
    returned = insert(limited, photos.nobody, on_duplicate="return")
    assert returned.status_code == 200
    assert returned.json()["image_id"] == first.json()["image_id"]


def test_a_deleted_image_makes_room_for_another(limited: Tenant, photos: Photos) -> None:
    limit(limited, max_images=1)
    image = limited.insert(photos.nobody)
    assert_limit(insert(limited, photos.nobody), "max_images", 1)
    limited.ask("DELETE", f"/images/{image['image_id']}")
    assert insert(limited, photos.nobody).status_code == 201


def test_a_tenant_sends_no_more_requests_than_it_may(limited: Tenant, photos: Photos) -> None:
    limit(limited, requests_per_minute=1)
    assert limited.call("GET", "").status_code == 200
    asked: list[Any] = [
        limited.call("GET", "/people"),
        insert(limited, photos.nobody),
        send_batch(limited.client, limited.name, files(("a", photos.nobody))),
        limited.client.post(f"/v1/detect?tenant_id={limited.name}", content=photos.nobody),
    ]
    for answer in asked:
        assert answer.status_code == 429
        assert problem(answer) == "rate_limited"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    legacy = (
        limited.client.get("/review-pending-list", params={"tenant_id": limited.name}),
        send(limited.client, limited.name, photos.nobody),
    )
    for answer in legacy:
        assert_error(answer, 429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1


def test_a_rate_is_no_other_tenants_business(limited: Tenant, photos: Photos) -> None:
    limit(limited, requests_per_minute=1)
    limited.call("GET", "")
    assert limited.call("GET", "").status_code == 429
    assert Tenant(limited.client, f"{limited.name}-other").call("GET", "").status_code == 404


def test_a_rate_that_a_tenant_is_made_with_holds_at_once(house: Tenant) -> None:
    assert house.call("GET", "").status_code == 404  # so it is known not to have one
    made = house.client.post("/v1/tenants", json={"id": house.name, "requests_per_minute": 1})
    assert made.status_code == 201
    assert house.call("GET", "").status_code == 200
    assert house.call("GET", "").status_code == 429


@pytest.fixture
def strict(service: ServiceProcess) -> Iterator[ServiceProcess]:
    """A service on which a photo makes no tenant."""
    with adjusted(service, "[tenants]\ncreate_on_first_photo = false\n"):
        yield service


def test_a_photo_makes_no_tenant_where_a_setting_forbids_it(
    strict: ServiceProcess, tenant: str, photos: Photos
) -> None:
    with strict.client() as client:
        house = Tenant(client, tenant)
        before = stored(strict), decoded(client)
        answer = insert(house, photos.astronaut)
        assert answer.status_code == 404
        assert problem(answer) == "not_found"
        assert_error(send(client, tenant, photos.astronaut), 404, "not_found")
        batch = send_batch(client, tenant, files(("a", photos.astronaut)))
        assert batch.status_code == 404
        assert problem(batch) == "not_found"
        assert (stored(strict), decoded(client)) == before
        assert client.post("/v1/tenants", json={"id": tenant}).status_code == 201
        assert insert(house, photos.astronaut).status_code == 201
        assert send(client, tenant, photos.astronaut).status_code == 200
        assert codes(send_batch(client, tenant, files(("a", photos.astronaut)))) == [None]
        house.ask("DELETE", "")
        assert insert(house, photos.astronaut).status_code == 404
