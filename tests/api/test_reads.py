"""The reading routes: faces, images, clusters, page by page."""

from __future__ import annotations

import httpx2 as httpx
import pytest

from tests.support.calls import (
    BY_ID,
    Photos,
    call,
    change,
    decode,
    insert,
    only_cluster,
    only_face,
    read,
    reviews,
)


def test_a_face_is_read_with_its_cluster_image_and_area(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    insert(client, tenant, photos.astronaut)
    answer = insert(client, tenant, photos.astronaut)
    face = read(client, "/face", tenant_id=tenant, face_id=only_face(answer))
    assert face == {
        "cluster_id": only_cluster(answer),
        "image_id": answer["image_id"],
        "facial_area": answer["faces"][0]["facial_area"],
        "is_auto_matched": True,
        "is_matchable": True,
        "quality": answer["faces"][0]["quality"],
    }
    (listed,) = read(client, "/faces", tenant_id=tenant, image_id=answer["image_id"])
    assert listed == {"id": only_face(answer), **face}


def test_a_facial_area_is_whole_pixels_inside_the_photo(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    photo = decode(photos.crowd)
    answer = insert(client, tenant, photos.crowd)
    faces = read(client, "/faces", tenant_id=tenant, image_id=answer["image_id"], limit=100)
    for face in faces:
        area = face["facial_area"]
        assert set(area) == {"x", "y", "w", "h"}
        assert all(type(value) is int for value in area.values())
        assert 0 <= area["x"] < area["x"] + area["w"] <= photo.width
        assert 0 <= area["y"] < area["y"] + area["h"] <= photo.height


def test_an_image_lists_its_faces_and_their_clusters(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.both)
    image = read(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert sorted(image["face_ids"]) == sorted(answer["face_ids"])
    assert sorted(image["cluster_ids"]) == sorted(answer["face_ids"].values())


def test_an_image_lists_a_cluster_once(client: httpx.Client, tenant: str, photos: Photos) -> None:
    answer = insert(client, tenant, photos.twins)
    (face, _), (_, cluster) = answer["face_ids"].items()
    change(
        client,
        "POST",
        "/update-face-cluster",
        tenant_id=tenant,
        face_id=face,
        to_cluster_id=cluster,
    )
    image = read(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert image["cluster_ids"] == [cluster]
    assert len(image["face_ids"]) == 2


def test_a_cluster_counts_faces_and_images_apart(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    cluster = only_cluster(insert(client, tenant, photos.astronaut))
    twins = insert(client, tenant, photos.twins)
    for face in twins["face_ids"]:
        change(
            client,
            "POST",
            "/update-face-cluster",
            tenant_id=tenant,
            face_id=face,
            to_cluster_id=cluster,
        )
    size = read(client, "/cluster", tenant_id=tenant, cluster_id=cluster)
    assert size == {"number_of_faces": 3, "number_of_images": 2}


def test_faces_are_listed_with_what_a_single_face_tells(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.both)
    for face in read(client, "/faces", tenant_id=tenant, image_id=answer["image_id"]):
        number = face.pop("id")
        assert face == read(client, "/face", tenant_id=tenant, face_id=number)


def test_pages_of_faces_put_together_are_all_faces_in_one_order(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.crowd)
    where = {"tenant_id": tenant, "image_id": answer["image_id"]}
    everything = read(client, "/faces", **where, limit=1000)
    pages = [read(client, "/faces", **where, skip=skip, limit=5) for skip in (0, 5, 10, 15)]
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert [face for page in pages for face in page] == everything
    assert {face["id"] for face in everything} == set(answer["face_ids"])


def test_faces_keep_their_order_when_one_is_moved(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.crowd)
    where = {"tenant_id": tenant, "image_id": answer["image_id"], "limit": 1000}
    before = [face["id"] for face in read(client, "/faces", **where)]
    change(
        client,
        "POST",
        "/update-face-cluster",
        tenant_id=tenant,
        face_id=before[3],
        to_cluster_id="new",
    )
    assert [face["id"] for face in read(client, "/faces", **where)] == before


@pytest.mark.parametrize("path", ["/faces", "/review-pending-list"])
def test_a_page_holds_ten_unless_told(
    client: httpx.Client, tenant: str, photos: Photos, path: str
) -> None:
    image = insert(client, tenant, photos.crowd)["image_id"]
    everything = read(client, path, tenant_id=tenant, image_id=image, limit=1000)
    assert len(everything) == 12
    assert read(client, path, tenant_id=tenant, image_id=image) == everything[:10]


@pytest.mark.parametrize("how", ["query", "urlencoded", "multipart"])
@pytest.mark.parametrize(("method", "path", "names"), BY_ID)
def test_parameters_may_stand_in_query_or_form_of_every_method(
    client: httpx.Client,
    tenant: str,
    photos: Photos,
    how: str,
    method: str,
    path: str,
    names: tuple[str, ...],
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    known = {
        "image_id": answer["image_id"],
        "face_id": only_face(answer),
        "cluster_id": only_cluster(answer),
        "review_id": str(reviews(client, tenant)[0]["id"]),
        "to_cluster_id": "new",
        "from_cluster_id": only_cluster(insert(client, tenant, photos.hopper)),
        "into_cluster_id": only_cluster(answer),
    }
    given = {"tenant_id": tenant, **{name: known[name] for name in names}}
    options = {
        "query": {"params": given},
        "urlencoded": {"data": given},
        "multipart": {"files": {name: (None, value) for name, value in given.items()}},
    }[how]
    result = client.request(method, path, **options)
    assert result.status_code == 200, result.text


def test_head_answers_like_get_without_a_body(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    image = insert(client, tenant, photos.nobody)["image_id"]
    found = call(client, "HEAD", "/image", tenant_id=tenant, image_id=image)
    missing = call(client, "HEAD", "/image", tenant_id=tenant, image_id=tenant)
    assert [found.status_code, missing.status_code] == [200, 404]
    assert found.content == missing.content == b""
