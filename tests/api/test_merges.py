"""POST /v1/merge-clusters: a person says that two clusters are one person."""

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


def merge(client: httpx.Client, tenant: str, source: str, target: str) -> Any:
    given = {"tenant_id": tenant, "from_cluster_id": source, "into_cluster_id": target}
    return change(client, "POST", "/v1/merge-clusters", **given)


def test_a_merged_cluster_has_the_faces_of_both(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    leaving = [insert(client, tenant, photos.astronaut) for _ in range(2)]
    staying = insert(client, tenant, photos.hopper)
    source, target = only_cluster(leaving[0]), only_cluster(staying)
    answer = merge(client, tenant, source, target)
    assert answer == {"cluster_id": target, "number_of_faces": 3, "number_of_images": 3}
    for photo in [*leaving, staying]:
        face = read(client, "/face", tenant_id=tenant, face_id=only_face(photo))
        assert face["cluster_id"] == target


def test_the_merged_cluster_disappears_with_its_review(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    source = only_cluster(insert(client, tenant, photos.astronaut))
    target = only_cluster(insert(client, tenant, photos.hopper))
    merge(client, tenant, source, target)
    assert is_gone(client, "/cluster", tenant_id=tenant, cluster_id=source)
    assert [review["cluster_id"] for review in reviews(client, tenant)] == [target]


def test_faces_that_came_along_are_no_longer_matched_by_the_machine(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    coming = [insert(client, tenant, photos.astronaut) for _ in range(2)]
    there = [insert(client, tenant, photos.hopper) for _ in range(2)]
    merge(client, tenant, only_cluster(coming[0]), only_cluster(there[0]))
    faces = [
        read(client, "/face", tenant_id=tenant, face_id=only_face(photo))
        for photo in (coming[1], there[1])
    ]
    assert [face["is_auto_matched"] for face in faces] == [False, True]


def test_two_faces_of_one_photo_can_be_merged_by_a_person(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first, second = insert(client, tenant, photos.twins)["face_ids"].values()
    answer = merge(client, tenant, first, second)
    assert answer == {"cluster_id": second, "number_of_faces": 2, "number_of_images": 1}


def test_later_photos_of_either_join_the_merged_cluster(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    source = only_cluster(insert(client, tenant, photos.astronaut))
    target = only_cluster(insert(client, tenant, photos.hopper))
    merge(client, tenant, source, target)
    assert only_cluster(insert(client, tenant, photos.astronaut)) == target
    assert only_cluster(insert(client, tenant, photos.hopper)) == target


def test_a_cluster_cannot_be_merged_with_itself(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    photo = insert(client, tenant, photos.astronaut)
    cluster = only_cluster(photo)
    before = state_of(client, tenant, photo["image_id"])
    given = {"from_cluster_id": cluster, "into_cluster_id": cluster}
    answer = call(client, "POST", "/v1/merge-clusters", tenant_id=tenant, **given)
    assert_error(answer, 422, "invalid_parameter")
    assert state_of(client, tenant, photo["image_id"]) == before


@pytest.mark.parametrize("unknown", ["from_cluster_id", "into_cluster_id"])
@pytest.mark.parametrize("value", [UNKNOWN, "nonsense", "new"])
def test_a_merge_with_an_unknown_cluster_changes_nothing(
    client: httpx.Client, tenant: str, photos: Photos, unknown: str, value: str
) -> None:
    photo = insert(client, tenant, photos.astronaut)
    before = state_of(client, tenant, photo["image_id"])
    cluster = only_cluster(photo)
    given = {"from_cluster_id": cluster, "into_cluster_id": cluster, unknown: value}
    answer = call(client, "POST", "/v1/merge-clusters", tenant_id=tenant, **given)
    assert_error(answer, 404, "not_found")
    assert state_of(client, tenant, photo["image_id"]) == before


def test_a_form_is_taken_too(client: httpx.Client, tenant: str, photos: Photos) -> None:
    source = only_cluster(insert(client, tenant, photos.astronaut))
    target = only_cluster(insert(client, tenant, photos.hopper))
    given = {"tenant_id": tenant, "from_cluster_id": source, "into_cluster_id": target}
    form = {name: (None, value) for name, value in given.items()}
    answer = client.post("/v1/merge-clusters", files=form)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"cluster_id": target, "number_of_faces": 2, "number_of_images": 2}
