"""Two photos compared over HTTP."""

from __future__ import annotations

import httpx2 as httpx
import pytest

from tests.api.v1.conftest import problem
from tests.support.calls import Photos, decode, encode


def _send(client: httpx.Client, *photos: bytes) -> httpx.Response:
    files = [(f"photo-{n}", (f"{n}.jpg", data, "image/jpeg")) for n, data in enumerate(photos)]
    return client.post("/v1/compare", files=files)


def test_the_same_person_is_told_from_another_one(client: httpx.Client, photos: Photos) -> None:
    astronaut = decode(photos.astronaut)
    again = encode(astronaut.resize((astronaut.width * 5 // 4, astronaut.height * 5 // 4)))
    found = _send(client, photos.both, again).json()
    assert [len(photo["faces"]) for photo in found["photos"]] == [2, 1]
    verdicts = {tuple(pair["faces"]): pair for pair in found["pairs"]}
    assert set(verdicts) == {(0, 0), (1, 0)}
    same, other = sorted(found["pairs"], key=lambda pair: pair["distance"])
    assert (same["verdict"], other["verdict"]) == ("same", "different")
    assert same["similarity"] > 0.5 > other["similarity"]


def test_photos_without_faces_have_no_pairs(client: httpx.Client, photos: Photos) -> None:
    found = _send(client, photos.nobody, photos.hopper).json()
    assert [len(photo["faces"]) for photo in found["photos"]] == [0, 1]
    assert found["pairs"] == []


@pytest.mark.parametrize("count", [1, 3])
def test_other_numbers_of_photos_are_refused(
    client: httpx.Client, photos: Photos, count: int
) -> None:
    answer = _send(client, *[photos.hopper] * count)
    assert (answer.status_code, problem(answer)) == (422, "invalid_parameter")


def test_what_is_no_photo_is_refused(client: httpx.Client, photos: Photos) -> None:
    answer = _send(client, photos.hopper, b"no photo")
    assert (answer.status_code, problem(answer)) == (415, "unsupported_image")
    answer = client.post("/v1/compare", content=photos.hopper)
    assert (answer.status_code, problem(answer)) == (422, "malformed_body")
