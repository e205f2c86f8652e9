"""POST /update-face-cluster: a person corrects the machine."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx
import pytest

from tests.support.calls import (
    Photos,
    assert_error,
    call,
    change,
    insert,
    is_gone,
    only_cluster,
    only_face,
    read,
    reviews,
    state_of,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def test_a_face_moves_to_another_cluster(client: httpx.Client, tenant: str, photos: Photos) -> None:
    face = only_face(insert(client, tenant, photos.astronaut))
    target = only_cluster(insert(client, tenant, photos.hopper))
    assert move(client, tenant, face, target)["status"] == "success"
    assert read(client, "/face", tenant_id=tenant, face_id=face)["cluster_id"] == target
    size = read(client, "/cluster", tenant_id=tenant, cluster_id=target)
    assert size == {"number_of_faces": 2, "number_of_images": 2}


def test_a_cluster_left_empty_disappears_with_its_review(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    moved = insert(client, tenant, photos.astronaut)
    target = only_cluster(insert(client, tenant, photos.hopper))
    move(client, tenant, only_face(moved), target)
    assert is_gone(client, "/cluster", tenant_id=tenant, cluster_id=only_cluster(moved))
    assert [review["cluster_id"] for review in reviews(client, tenant)] == [target]


def test_a_cluster_with_faces_left_stays(client: httpx.Client, tenant: str, photos: Photos) -> None:
    first, second = (insert(client, tenant, photos.astronaut) for _ in range(2))
    move(client, tenant, only_face(second), "new")
    size = read(client, "/cluster", tenant_id=tenant, cluster_id=only_cluster(first))
    assert size == {"number_of_faces": 1, "number_of_images": 1}


def test_new_opens_a_cluster_of_its_own(client: httpx.Client, tenant: str, photos: Photos) -> None:
    first, second = (insert(client, tenant, photos.astronaut) for _ in range(2))
    move(client, tenant, only_face(second), "new")
    opened = read(client, "/face", tenant_id=tenant, face_id=only_face(second))["cluster_id"]
    assert opened != only_cluster(first)
    size = read(client, "/cluster", tenant_id=tenant, cluster_id=opened)
    assert size == {"number_of_faces": 1, "number_of_images": 1}


def test_a_move_to_its_own_cluster_changes_nothing(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    before = state_of(client, tenant, answer["image_id"])
    move(client, tenant, only_face(answer), only_cluster(answer))
    assert state_of(client, tenant, answer["image_id"]) == before


@pytest.mark.parametrize("target", [UNKNOWN, "nonsense", "NEW", "../new"])
def test_a_move_to_an_unknown_cluster_changes_nothing(
    client: httpx.Client, tenant: str, photos: Photos, target: str
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    before = state_of(client, tenant, answer["image_id"])
    given = {"tenant_id": tenant, "face_id": only_face(answer), "to_cluster_id": target}
    assert_error(call(client, "POST", "/update-face-cluster", **given), 404, "not_found")
    assert state_of(client, tenant, answer["image_id"]) == before


def test_an_unknown_face_opens_no_cluster(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    before = state_of(client, tenant, answer["image_id"])
    given = {"tenant_id": tenant, "face_id": UNKNOWN, "to_cluster_id": "new"}
    assert_error(call(client, "POST", "/update-face-cluster", **given), 404, "not_found")
    assert state_of(client, tenant, answer["image_id"]) == before


def test_later_photos_follow_a_correction(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    face = only_face(insert(client, tenant, photos.astronaut))
    target = only_cluster(insert(client, tenant, photos.hopper))
    move(client, tenant, face, target)
    assert only_cluster(insert(client, tenant, photos.astronaut)) == target


def move(client: httpx.Client, tenant: str, face: str, target: str) -> Any:
    return change(
        client,
        "POST",
        "/update-face-cluster",
        tenant_id=tenant,
        face_id=face,
        to_cluster_id=target,
    )
