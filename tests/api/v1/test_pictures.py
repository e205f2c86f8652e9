"""Files, thumbnails, crops and near copies over HTTP."""

from __future__ import annotations

import hashlib

import pytest

from tests.api.v1.conftest import Tenant, problem
from tests.support.calls import Photos, decode, encode


@pytest.fixture
def stored(house: Tenant, photos: Photos) -> dict[str, object]:
    """The inserted photo of the astronaut."""
    return house.insert(photos.astronaut)


def test_a_file_comes_back_byte_for_byte_with_its_hash_as_etag(
    house: Tenant, photos: Photos, stored: dict[str, object]
) -> None:
    path = f"/images/{stored['image_id']}/file"
    answer = house.call("GET", path)
    assert answer.content == photos.astronaut
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["etag"] == f'"{hashlib.sha256(photos.astronaut).hexdigest()}"'
    assert "private" in answer.headers["cache-control"]
    known = house.call("GET", path, headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = house.call("HEAD", path)
    assert head.headers["content-length"] == str(len(photos.astronaut))
    assert head.content == b""


@pytest.mark.parametrize(
    ("given", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=5-999999", 5, None),
    ],
)
def test_a_range_of_a_file(
    house: Tenant, photos: Photos, stored: dict[str, object],
    given: str, start: int, stop: int | None,
) -> None:  # fmt: skip
    answer = house.call("GET", f"/images/{stored['image_id']}/file", headers={"Range": given})
    assert answer.status_code == 206
    assert answer.content == photos.astronaut[start:stop]
    first = start % len(photos.astronaut)
    last = first + len(answer.content) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(photos.astronaut)}"


@pytest.mark.parametrize(
    "given", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "bytes=-"]
)
def test_what_is_no_single_range_gets_the_whole_file(
    house: Tenant, photos: Photos, stored: dict[str, object], given: str
) -> None:
    answer = house.call("GET", f"/images/{stored['image_id']}/file", headers={"Range": given})
    assert (answer.status_code, answer.content) == (200, photos.astronaut)


@pytest.mark.parametrize("given", ["bytes=99999999-", "bytes=-0"])
def test_a_range_beyond_the_file_is_refused(
    house: Tenant, photos: Photos, stored: dict[str, object], given: str
) -> None:
    answer = house.call("GET", f"/images/{stored['image_id']}/file", headers={"Range": given})
    assert (answer.status_code, problem(answer)) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(photos.astronaut)}"


def test_a_thumbnail_is_a_small_upright_jpeg(house: Tenant, photos: Photos) -> None:
    exif = decode(photos.both).getexif()
    exif[0x0112] = 6
    turned = encode(decode(photos.both), exif=exif)
    image = house.insert(turned)["image_id"]
    for size in (128, 256):
        answer = house.call("GET", f"/images/{image}/thumbnail", params={"size": size})
        assert answer.status_code == 200, answer.text
        picture = decode(answer.content)
        assert (picture.format, max(picture.size)) == ("JPEG", size)
        assert picture.height > picture.width
        assert not picture.getexif()
        etag = {"If-None-Match": answer.headers["etag"]}
        again = house.call("GET", f"/images/{image}/thumbnail", params={"size": size}, headers=etag)
        assert again.status_code == 304
    wrong = house.call("GET", f"/images/{image}/thumbnail", params={"size": 100})
    assert (wrong.status_code, problem(wrong)) == (422, "invalid_parameter")


def test_a_crop_shows_the_face_with_its_margin(house: Tenant, stored: dict[str, object]) -> None:
    (face,) = stored["faces"]
    width = face["box"]["x2"] - face["box"]["x1"]
    sizes = []
    for margin in (1, 1.5):
        answer = house.call("GET", f"/faces/{face['id']}/crop", params={"margin": margin})
        sizes.append(decode(answer.content).width)
    assert abs(sizes[0] - width) <= 2
    assert sizes[1] > sizes[0]
    small = house.call("GET", f"/faces/{face['id']}/crop", params={"size": 32})
    assert max(decode(small.content).size) == 32
    for wrong in ({"size": 5}, {"margin": 9}, {"margin": "nan"}, {"sizes": 1}):
        answer = house.call("GET", f"/faces/{face['id']}/crop", params=wrong)
        assert (answer.status_code, problem(answer)) == (422, "invalid_parameter"), wrong


def test_near_copies_are_found_and_strangers_are_not(
    house: Tenant, photos: Photos, stored: dict[str, object]
) -> None:
    again = decode(photos.astronaut)
    copy = house.insert(encode(again.resize((again.width * 2, again.height * 2))))
    house.insert(photos.hopper)
    found = house.ask("GET", f"/images/{stored['image_id']}/duplicates")["items"]
    assert [each["image"]["id"] for each in found] == [copy["image_id"]]
    assert found[0]["hash_distance"] <= 8


def test_pictures_of_a_deleted_image_are_gone(house: Tenant, stored: dict[str, object]) -> None:
    image, (face,) = stored["image_id"], stored["faces"]
    house.call("GET", f"/images/{image}/thumbnail")
    house.ask("DELETE", f"/images/{image}")
    for path in (
        f"/images/{image}",
        f"/images/{image}/file",
        f"/images/{image}/thumbnail",
        f"/images/{image}/duplicates",
        f"/images/{image}/faces",
        f"/faces/{face['id']}",
        f"/faces/{face['id']}/crop",
    ):
        answer = house.call("GET", path)
        assert (answer.status_code, problem(answer)) == (404, "not_found"), path


def test_the_time_of_a_photo_is_kept_and_its_place_is_not(house: Tenant, photos: Photos) -> None:
    image = decode(photos.astronaut)
    exif = image.getexif()
    exif.get_ifd(0x8769)[0x9003] = "2021:05:06 07:08:09"
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 0.0, 0.0), 3: "E", 4: (16.0, 0.0, 0.0)})
    stored = house.insert(encode(image, exif=exif))
    facts = house.ask("GET", f"/images/{stored['image_id']}")
    assert facts["taken_at"] == "2021-05-06T05:08:09Z"
    assert facts["location"] is None
    taken = house.listed("/images", order="taken", before="2021-05-06T05:08:10Z")
    assert [each["id"] for each in taken] == [stored["image_id"]]
