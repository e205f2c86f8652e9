"""POST /insert-image: photos come in, people come out."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx2 as httpx
import pytest
from PIL import ImageFilter

from bench.common.server import ServiceProcess
from tests.support.calls import (
    Photos,
    decode,
    encode,
    insert,
    multipart,
    only_cluster,
    read,
    reviews,
    send,
    stored,
    stored_file,
    uploads,
)


def test_second_photo_of_a_person_joins_the_cluster_of_the_first(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first = insert(client, tenant, photos.astronaut)
    stranger = insert(client, tenant, photos.hopper)
    again = insert(client, tenant, photos.astronaut)
    assert only_cluster(again) == only_cluster(first)
    assert only_cluster(stranger) != only_cluster(first)
    assert [face["is_auto_matched"] for face in (first["faces"][0], again["faces"][0])] == [
        False,
        True,
    ]
    assert again["faces"][0]["distance"] < 0.01


def test_a_new_person_opens_a_review_and_a_known_one_does_not(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first = insert(client, tenant, photos.astronaut)
    insert(client, tenant, photos.astronaut)
    assert [(review["cluster_id"], review["image_id"]) for review in reviews(client, tenant)] == [
        (only_cluster(first), first["image_id"])
    ]


def test_each_known_person_of_a_group_photo_is_recognised(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    known = {only_cluster(insert(client, tenant, p)) for p in (photos.astronaut, photos.hopper)}
    group = insert(client, tenant, photos.both)
    assert set(group["face_ids"].values()) == known
    assert all(face["is_auto_matched"] for face in group["faces"])


def test_two_faces_of_one_photo_never_share_a_cluster(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    twins = insert(client, tenant, photos.twins)
    assert len(set(twins["face_ids"].values())) == 2


def test_a_known_person_seen_twice_in_one_photo_is_matched_once(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    known = only_cluster(insert(client, tenant, photos.astronaut))
    twins = insert(client, tenant, photos.twins)
    assert list(twins["face_ids"].values()).count(known) == 1
    assert sorted(face["is_auto_matched"] for face in twins["faces"]) == [False, True]


def test_a_bad_picture_is_stored_and_nobody_joins_it(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    bad = encode(decode(photos.astronaut).filter(ImageFilter.GaussianBlur(5)))
    (first,) = insert(client, tenant, bad)["faces"]
    assert not first["is_matchable"]
    assert "blurred" in first["quality"]["reasons"]
    (again,) = insert(client, tenant, bad)["faces"]
    assert not again["is_auto_matched"]
    assert again["cluster_id"] != first["cluster_id"]
    kept = read(client, "/face", tenant_id=tenant, face_id=first["face_id"])
    assert not kept["is_matchable"]
    assert kept["quality"] == first["quality"]


def test_a_photo_on_its_head_shows_the_same_person(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    known = insert(client, tenant, photos.hopper)
    assert known["turned"] == 0
    upside_down = insert(client, tenant, encode(decode(photos.hopper).rotate(180)))
    assert upside_down["turned"] == 180
    assert only_cluster(upside_down) == only_cluster(known)
    area, photo = upside_down["faces"][0]["facial_area"], decode(photos.hopper)
    before = known["faces"][0]["facial_area"]
    assert area["x"] == pytest.approx(photo.width - before["x"] - before["w"], abs=2)
    assert area["y"] == pytest.approx(photo.height - before["y"] - before["h"], abs=2)


def test_a_photo_without_a_face_is_stored_without_faces(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = insert(client, tenant, photos.nobody)
    assert answer["face_ids"] == {}
    image = read(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert (image["face_ids"], image["cluster_ids"]) == ([], [])
    assert reviews(client, tenant) == []


def test_each_face_is_described(client: httpx.Client, tenant: str, photos: Photos) -> None:
    answer = insert(client, tenant, photos.both)
    width, height = decode(photos.both).size
    assert {face["face_id"]: face["cluster_id"] for face in answer["faces"]} == answer["face_ids"]
    for face in answer["faces"]:
        box = face["box"]
        assert box["x1"] < box["x2"]
        assert box["y1"] < box["y2"]
        assert len(face["landmarks"]) == 5
        assert all(0 < x < width and 0 < y < height for x, y in face["landmarks"])
        assert 0.9 <= face["confidence"] <= 1
        assert face["distance"] is None


@pytest.mark.parametrize("subject", ["both", "nobody"])
def test_every_insert_says_where_its_time_went(
    client: httpx.Client, tenant: str, photos: Photos, subject: str
) -> None:
    answer = send(client, tenant, getattr(photos, subject))
    stages = re.findall(r"(\w+);dur=\d+(?:\.\d+)?(?:, |$)", answer.headers["server-timing"])
    assert stages == ["queue", "decode", "detect", "embed", "store"]


def test_the_file_is_stored_as_it_was_sent(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    path = stored_file(service, insert(client, tenant, photos.astronaut)["image_id"])
    assert path is not None
    assert path.read_bytes() == photos.astronaut


@pytest.mark.parametrize(
    "filename", ["", "../../etc/passwd", "/etc/passwd", "a\\b", "ü.jpg", "x" * 3000, ".", "%00"]
)
def test_a_hostile_file_name_is_never_a_path(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess, filename: str
) -> None:
    before = stored(service)
    answer = client.post(
        "/insert-image",
        params={"tenant_id": tenant},
        **multipart((f'name="image"; filename="{filename}"', photos.nobody)),
    )
    assert answer.status_code == 200, answer.text
    (new,) = (path for path in stored(service) - before if path.is_file())
    assert new.parent.parent == uploads(service)
    assert new.stem == answer.json()["image_id"]


def test_the_tenant_may_stand_in_the_query_string(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = client.post(
        "/insert-image", params={"tenant_id": tenant}, files={"image": photos.nobody}
    )
    assert answer.status_code == 200, answer.text
    read(client, "/image", tenant_id=tenant, image_id=answer.json()["image_id"])


def ways_to_send(photo: bytes, tenant: str) -> dict[str, dict[str, Any]]:
    text = base64.b64encode(photo)
    names = {"tenant_id": tenant}
    form = "application/x-www-form-urlencoded"
    return {
        "body without a type": {"content": photo, "params": names},
        "body of another type": {
            "content": photo,
            "params": names,
            "headers": {"content-type": form},
        },
        "chunked body": {"content": iter([photo]), "params": names},
        "JSON": {"json": {**names, "image": text.decode()}},
        "part without a file name": {
            "files": {"image": (None, photo, "image/jpeg"), "tenant_id": (None, tenant)}
        },
        "data: URL in a form": {"data": {**names, "image": "data:;base64," + text.decode()}},
        "part in base64": multipart(
            ('name="image"\r\nContent-Transfer-Encoding: base64', text),
            ("name=tenant_id", tenant.encode()),
        ),
    }


@pytest.mark.parametrize("path", ["/insert-image", "/v1/embed"])
@pytest.mark.parametrize("way", ways_to_send(b"", ""))
def test_photo_is_taken_in_every_form_that_clients_send(
    client: httpx.Client,
    service: ServiceProcess,
    tenant: str,
    photos: Photos,
    way: str,
    path: str,
) -> None:
    answer = client.post(path, **ways_to_send(photos.astronaut, tenant)[way])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["faces"]) == 1
    if path == "/insert-image":
        found = stored_file(service, answer.json()["image_id"])
        assert found is not None
        assert found.read_bytes() == photos.astronaut
