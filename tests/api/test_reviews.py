"""Pending reviews: one for each cluster that the machine opened, oldest first."""

from __future__ import annotations

import httpx2 as httpx

from tests.support.calls import (
    Photos,
    assert_error,
    call,
    change,
    insert,
    only_cluster,
    read,
    receipt,
    reviews,
)


def test_reviews_are_listed_oldest_first(client: httpx.Client, tenant: str, photos: Photos) -> None:
    inserted = [insert(client, tenant, photo) for photo in (photos.hopper, photos.astronaut)]
    found = reviews(client, tenant)
    assert [review["image_id"] for review in found] == [each["image_id"] for each in inserted]
    assert [review["cluster_id"] for review in found] == [only_cluster(each) for each in inserted]


def test_pages_of_reviews_put_together_are_all_reviews(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    insert(client, tenant, photos.crowd)
    pages = [
        read(client, "/review-pending-list", tenant_id=tenant, skip=skip, limit=5)
        for skip in (0, 5, 10, 15)
    ]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [review for page in pages for review in page] == reviews(client, tenant)


def test_a_review_is_read_by_its_number(client: httpx.Client, tenant: str, photos: Photos) -> None:
    answer = insert(client, tenant, photos.astronaut)
    (review,) = reviews(client, tenant)
    assert type(review["id"]) is int
    found = read(client, "/review-pending", tenant_id=tenant, review_id=review["id"])
    assert found == {
        "id": review["id"],
        "cluster_id": only_cluster(answer),
        "image_id": answer["image_id"],
    }


def test_a_deleted_review_leaves_the_list_and_its_cluster_stays(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.both)
    gone, kept = reviews(client, tenant)
    done = change(client, "DELETE", "/review-pending", tenant_id=tenant, review_id=gone["id"])
    assert done == receipt(reviews=1)
    assert reviews(client, tenant) == [kept]
    assert gone["cluster_id"] in answer["face_ids"].values()
    read(client, "/cluster", tenant_id=tenant, cluster_id=gone["cluster_id"])


def test_a_deleted_review_is_not_found(client: httpx.Client, tenant: str, photos: Photos) -> None:
    insert(client, tenant, photos.astronaut)
    given = {"tenant_id": tenant, "review_id": reviews(client, tenant)[0]["id"]}
    change(client, "DELETE", "/review-pending", **given)
    for method in ("GET", "DELETE"):
        assert_error(call(client, method, "/review-pending", **given), 404, "not_found")


def test_a_reviewed_cluster_is_not_listed_again(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    insert(client, tenant, photos.astronaut)
    (review,) = reviews(client, tenant)
    change(client, "DELETE", "/review-pending", tenant_id=tenant, review_id=review["id"])
    insert(client, tenant, photos.astronaut)
    assert reviews(client, tenant) == []


def test_a_review_shows_an_image_that_exists(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first, second = (insert(client, tenant, photos.astronaut) for _ in range(2))
    change(client, "DELETE", "/image", tenant_id=tenant, image_id=first["image_id"])
    (review,) = reviews(client, tenant)
    assert review["image_id"] == second["image_id"]


def test_a_tenant_without_photos_has_no_reviews(client: httpx.Client, tenant: str) -> None:
    assert reviews(client, tenant) == []
