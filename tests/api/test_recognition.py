"""Photos sent in every way: the vectors are those faces are matched by, whatever the file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.runtime.manifest import load_manifest
from service.runtime.matching import match_rule
from tests.support.calls import (
    Photos,
    assert_error,
    decode,
    encode,
    insert,
    multipart,
    send_raw,
)

DIMENSION = 512
# Vectors of one image may differ by rounding when they were computed in other company.
ROUNDING = 1e-4
SENT = ("multipart", "image/jpeg", "IMAGE/JPEG; x=y", "application/octet-stream")


@pytest.mark.parametrize("sent", SENT)
def test_a_photo_may_be_sent_in_every_way(client: httpx.Client, photos: Photos, sent: str) -> None:
    expected = embed(client, photos.both)
    answer = post(client, "/v1/embed", photos.both, sent)
    assert without_vectors(answer) == without_vectors(expected)
    for face, other in zip(answer["faces"], expected["faces"], strict=True):
        assert distance(vector(face), vector(other)) < ROUNDING


def test_a_raw_photo_is_stored_like_one_in_a_form(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first = insert(client, tenant, photos.astronaut)
    answer = send_raw(client, "/insert-image", photos.astronaut, tenant_id=tenant)
    assert answer.status_code == 200, answer.text
    (before,), (after,) = first["faces"], answer.json()["faces"]
    assert after["cluster_id"] == before["cluster_id"]
    assert after["distance"] < ROUNDING
    for field in ("box", "landmarks", "confidence", "facial_area"):
        assert after[field] == before[field]


def test_embeddings_are_those_that_faces_are_matched_by(
    client: httpx.Client, tenant: str, photos: Photos, models_dir: Path
) -> None:
    smaller = encode(decode(photos.astronaut).resize((160, 208)))
    insert(client, tenant, photos.astronaut)
    (matched,) = insert(client, tenant, smaller)["faces"]
    (one,), (other,) = (embed(client, photo)["faces"] for photo in (photos.astronaut, smaller))
    facts = load_manifest(models_dir).models["embedder"].embedding
    assert facts is not None
    others = vector(other)[np.newaxis].astype(np.float64)
    (expected,) = match_rule(facts).distances(vector(one), others, np.ones(1))
    assert expected == pytest.approx(matched["distance"], abs=ROUNDING)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_crop_is_the_face_of_the_person_it_shows(
    client: httpx.Client, photos: Photos, form: str
) -> None:
    astronaut, hopper = embed(client, photos.both)["faces"][:2]
    if decode(photos.both).width / 2 < astronaut["box"]["x1"]:
        astronaut, hopper = hopper, astronaut
    box = astronaut["box"]
    cut = decode(photos.both).crop(tuple(round(box[side]) for side in ("x1", "y1", "x2", "y2")))
    answer = embed(client, encode(cut, form), "application/octet-stream", input="crop")
    assert set(answer) == {"model", "faces"}
    (face,) = answer["faces"]
    assert set(face) == {"embedding"}
    assert distance(vector(face), vector(astronaut)) < distance(vector(face), vector(hopper)) / 2


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    "given", [{"path": "/v1/detect"}, {"path": "/v1/embed"}, {"path": "/v1/embed", "input": "crop"}]
)
def test_a_photo_that_ends_early_is_refused(
    client: httpx.Client, photos: Photos, form: str, given: dict[str, str]
) -> None:
    whole = encode(decode(photos.astronaut), form)
    answer = send_raw(client, image=whole[: len(whole) // 2], **given)
    assert_error(answer, 422, "corrupt_image")


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/detect"])
def test_a_request_without_an_image_is_malformed(client: httpx.Client, path: str) -> None:
    assert_error(client.post(path), 422, "missing_parameter")


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/detect"])
def test_an_image_sent_as_text_is_malformed(client: httpx.Client, path: str) -> None:
    assert_error(client.post(path, data={"image": "x"}), 422, "invalid_parameter")
    assert_error(client.post(path, params={"image": "x"}), 422, "invalid_parameter")


def test_a_form_that_does_not_parse_is_malformed(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/embed", content=b"no boundary at all", headers=headers)
    assert_error(answer, 422, "malformed_body")


def test_a_body_of_another_type_is_not_taken_for_an_image(
    client: httpx.Client, photos: Photos
) -> None:
    answer = send_raw(client, "/v1/embed", photos.astronaut, kind="application/json")
    assert_error(answer, 422, "malformed_body")


@pytest.mark.parametrize("name", ["input", "embedding_format"])
@pytest.mark.parametrize("value", ["Crop", "face", "float32", "base64 ", "0", "\x00"])
def test_a_word_that_is_no_choice_is_refused(
    client: httpx.Client, photos: Photos, name: str, value: str
) -> None:
    answer = send_raw(client, "/v1/embed", photos.nobody, **{name: value})
    assert_error(answer, 422, "invalid_parameter")
    assert name in answer.json()["detail"]


def test_choices_may_stand_in_the_form(client: httpx.Client, photos: Photos) -> None:
    form = multipart(
        ('name="input"', b"crop"),
        ('name="embedding_format"', b"base64_float16"),
        ('name="image"; filename="a.jpg"', photos.astronaut),
    )
    answer = client.post("/v1/embed", **form)
    assert answer.status_code == 200, answer.text
    (face,) = answer.json()["faces"]
    assert len(base64.b64decode(face["embedding"])) == 2 * DIMENSION


def post(
    client: httpx.Client, path: str, image: bytes, sent: str, **parameters: object
) -> dict[str, Any]:
    """A photo sent in one of the ways there are, which must succeed."""
    if sent == "multipart":
        answer = client.post(path, params=parameters, files={"image": image})
    else:
        answer = send_raw(client, path, image, sent, **parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.content)


def embed(
    client: httpx.Client, image: bytes, sent: str = "image/jpeg", **parameters: object
) -> dict[str, Any]:
    return post(client, "/v1/embed", image, sent, **parameters)


def vector(face: dict[str, Any]) -> NDArray[np.float32]:
    return np.asarray(face["embedding"], dtype=np.float32)


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(1 - one @ other)


def without_vectors(answer: dict[str, Any]) -> dict[str, Any]:
    faces = [{k: v for k, v in face.items() if k != "embedding"} for face in answer["faces"]]
    return {**answer, "faces": faces}
