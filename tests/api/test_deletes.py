"""The deleting routes: what goes, what stays, and that files go with their rows."""

from __future__ import annotations

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
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
    receipt,
    reviews,
    stored,
    stored_file,
)


def test_deleting_an_image_takes_its_faces_and_its_file(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    answer = insert(client, tenant, photos.both)
    done = change(client, "DELETE", "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert done == receipt(images=1, faces=2, clusters=2, reviews=2, files=1)
    assert is_gone(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert all(is_gone(client, "/face", tenant_id=tenant, face_id=f) for f in answer["face_ids"])
    assert stored_file(service, answer["image_id"]) is None


def test_deleting_the_last_image_of_a_person_takes_cluster_and_review(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    change(client, "DELETE", "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert is_gone(client, "/cluster", tenant_id=tenant, cluster_id=only_cluster(answer))
    assert reviews(client, tenant) == []


def test_deleting_one_image_of_a_person_keeps_the_others(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    first, second = (insert(client, tenant, photos.astronaut) for _ in range(2))
    change(client, "DELETE", "/image", tenant_id=tenant, image_id=first["image_id"])
    size = read(client, "/cluster", tenant_id=tenant, cluster_id=only_cluster(first))
    assert size == {"number_of_faces": 1, "number_of_images": 1}
    assert stored_file(service, second["image_id"]) is not None


def test_an_image_without_faces_can_be_deleted(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    image = insert(client, tenant, photos.nobody)["image_id"]
    done = change(client, "DELETE", "/image", tenant_id=tenant, image_id=image)
    assert done == receipt(images=1, files=1)
    assert stored_file(service, image) is None


def test_deleting_a_face_keeps_its_image_and_its_neighbours(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    answer = insert(client, tenant, photos.both)
    gone, kept = answer["face_ids"]
    done = change(client, "DELETE", "/face", tenant_id=tenant, face_id=gone)
    assert done == receipt(faces=1, clusters=1, reviews=1)
    image = read(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert image["face_ids"] == [kept]
    assert is_gone(client, "/face", tenant_id=tenant, face_id=gone)
    assert stored_file(service, answer["image_id"]) is not None


def test_deleting_the_last_face_of_a_person_takes_cluster_and_review(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    change(client, "DELETE", "/face", tenant_id=tenant, face_id=only_face(answer))
    assert is_gone(client, "/cluster", tenant_id=tenant, cluster_id=only_cluster(answer))
    assert reviews(client, tenant) == []


def test_deleting_one_face_of_a_person_keeps_the_cluster(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first, _ = (insert(client, tenant, photos.astronaut) for _ in range(2))
    done = change(client, "DELETE", "/face", tenant_id=tenant, face_id=only_face(first))
    assert done == receipt(faces=1)
    size = read(client, "/cluster", tenant_id=tenant, cluster_id=only_cluster(first))
    assert size == {"number_of_faces": 1, "number_of_images": 1}


def test_a_deleted_person_comes_back_as_a_new_one(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first = insert(client, tenant, photos.astronaut)
    change(client, "DELETE", "/cluster", tenant_id=tenant, cluster_id=only_cluster(first))
    again = insert(client, tenant, photos.astronaut)
    assert only_cluster(again) != only_cluster(first)
    assert again["faces"][0]["is_auto_matched"] is False


def test_deleting_a_cluster_takes_the_images_that_show_nobody_else(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    alone = [insert(client, tenant, photos.astronaut) for _ in range(2)]
    cluster = only_cluster(alone[0])
    done = change(client, "DELETE", "/cluster", tenant_id=tenant, cluster_id=cluster)
    assert done == receipt(images=2, faces=2, clusters=1, reviews=1, files=2)
    assert is_gone(client, "/cluster", tenant_id=tenant, cluster_id=cluster)
    assert reviews(client, tenant) == []
    for answer in alone:
        assert is_gone(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
        assert is_gone(client, "/face", tenant_id=tenant, face_id=only_face(answer))
        assert stored_file(service, answer["image_id"]) is None


def test_deleting_a_cluster_keeps_an_image_that_shows_somebody_else_too(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    gone = only_cluster(insert(client, tenant, photos.astronaut))
    group = insert(client, tenant, photos.both)
    (kept,) = (face for face, cluster in group["face_ids"].items() if cluster != gone)
    done = change(client, "DELETE", "/cluster", tenant_id=tenant, cluster_id=gone)
    assert done == receipt(images=1, faces=2, clusters=1, reviews=1, files=1)
    image = read(client, "/image", tenant_id=tenant, image_id=group["image_id"])
    assert (image["face_ids"], image["cluster_ids"]) == ([kept], [group["face_ids"][kept]])
    assert stored_file(service, group["image_id"]) is not None


def test_deleting_a_cluster_keeps_the_images_of_other_people(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    other = insert(client, tenant, photos.hopper)
    nobody = insert(client, tenant, photos.nobody)
    gone = only_cluster(insert(client, tenant, photos.astronaut))
    change(client, "DELETE", "/cluster", tenant_id=tenant, cluster_id=gone)
    for answer in (other, nobody):
        read(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
        assert stored_file(service, answer["image_id"]) is not None


def test_deleting_a_tenant_takes_everything_of_it(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    before = stored(service)
    answer = insert(client, tenant, photos.both)
    insert(client, tenant, photos.nobody)
    done = change(client, "DELETE", "/tenant", tenant_id=tenant)
    assert done == receipt(images=2, faces=2, clusters=2, reviews=2, files=2)
    assert stored(service) == before
    assert reviews(client, tenant) == []
    assert is_gone(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    for face, cluster in answer["face_ids"].items():
        assert is_gone(client, "/face", tenant_id=tenant, face_id=face)
        assert is_gone(client, "/cluster", tenant_id=tenant, cluster_id=cluster)


def test_a_deleted_tenant_starts_afresh(client: httpx.Client, tenant: str, photos: Photos) -> None:
    first = insert(client, tenant, photos.astronaut)
    change(client, "DELETE", "/tenant", tenant_id=tenant)
    again = insert(client, tenant, photos.astronaut)
    assert only_cluster(again) != only_cluster(first)
    assert [review["image_id"] for review in reviews(client, tenant)] == [again["image_id"]]


@pytest.mark.parametrize("kind", ["image", "face", "cluster", "tenant"])
def test_what_was_deleted_cannot_be_deleted_again(
    client: httpx.Client, tenant: str, photos: Photos, kind: str
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    given = {
        "tenant_id": tenant,
        "image_id": answer["image_id"],
        "face_id": only_face(answer),
        "cluster_id": only_cluster(answer),
    }
    change(client, "DELETE", f"/{kind}", **given)
    assert_error(call(client, "DELETE", f"/{kind}", **given), 404, "not_found")
