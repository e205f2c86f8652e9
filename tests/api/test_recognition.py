"""POST /v1/embed and /v1/detect: what they answer, in every form a photo and a vector may have."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.server import ServiceProcess
from tests.api.helpers import (
    Photos,
    assert_error,
    decode,
    encode,
    insert,
    metric,
    multipart,
    send_raw,
    stored,
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


@pytest.mark.parametrize("sent", SENT)
def test_faces_are_detected_in_a_photo_sent_in_every_way(
    client: httpx.Client, photos: Photos, sent: str
) -> None:
    answer = post(client, "/v1/detect", photos.both, sent)
    assert answer == post(client, "/v1/detect", photos.both, "image/jpeg")
    assert len(answer["faces"]) == 2


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


def test_the_faces_detected_are_those_that_are_stored(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    found = insert(client, tenant, photos.both)["faces"]
    seen = [{name: face[name] for name in ("box", "landmarks", "confidence")} for face in found]
    detected = post(client, "/v1/detect", photos.both, "image/jpeg")
    embedded = embed(client, photos.both)
    image = decode(photos.both)
    assert detected == {"width": image.width, "height": image.height, "faces": seen}
    assert without_vectors(embedded) == {**detected, "model": embedded["model"]}


def test_embeddings_are_those_that_faces_are_matched_by(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    smaller = encode(decode(photos.astronaut).resize((160, 208)))
    insert(client, tenant, photos.astronaut)
    (matched,) = insert(client, tenant, smaller)["faces"]
    (one,), (other,) = (embed(client, photo)["faces"] for photo in (photos.astronaut, smaller))
    assert distance(vector(one), vector(other)) == pytest.approx(matched["distance"], abs=ROUNDING)


def test_an_embedding_is_a_unit_vector_of_the_model_named(
    client: httpx.Client, photos: Photos
) -> None:
    answer = embed(client, photos.both)
    assert answer["model"]["dimension"] == DIMENSION
    assert answer["model"]["space"]
    for face in answer["faces"]:
        assert len(face["embedding"]) == DIMENSION
        assert np.linalg.norm(vector(face)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/detect"])
def test_a_photo_of_nobody_has_no_faces(client: httpx.Client, photos: Photos, path: str) -> None:
    answer = post(client, path, photos.nobody, "image/jpeg")
    assert (answer["width"], answer["height"], answer["faces"]) == (96, 64, [])


@pytest.mark.parametrize("given", [{"input": "crop"}, {"input": "photo"}])
def test_every_format_of_an_embedding_is_the_same_vector(
    client: httpx.Client, photos: Photos, given: dict[str, str]
) -> None:
    (face,) = embed(client, photos.astronaut, **given)["faces"]
    expected = vector(face)
    for name, dtype, rounding in (("base64", "<f4", ROUNDING), ("base64_float16", "<f2", 1e-3)):
        (encoded,) = embed(client, photos.astronaut, embedding_format=name, **given)["faces"]
        found = np.frombuffer(base64.b64decode(encoded["embedding"], validate=True), dtype)
        assert found.shape == (DIMENSION,)
        assert np.abs(found.astype(np.float32) - expected).max() < rounding
        assert without_vectors({"faces": [encoded]}) == without_vectors({"faces": [face]})


@pytest.mark.parametrize(
    ("given", "faces"), [({"input": "crop"}, 1), ({"input": "photo"}, 2), ({}, 2)]
)
def test_a_binary_answer_is_the_vectors_and_nothing_else(
    client: httpx.Client, photos: Photos, given: dict[str, str], faces: int
) -> None:
    expected = embed(client, photos.both, **given)
    answer = binary(client, photos.both, **given)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-embedding-shape"] == f"{faces},{DIMENSION}"
    assert answer.headers["x-model-space"] == expected["model"]["space"]
    rows = np.frombuffer(answer.content, "<f4").reshape(faces, DIMENSION)
    for row, face in zip(rows, expected["faces"], strict=True):
        assert distance(row, vector(face)) < ROUNDING


def test_a_binary_answer_without_faces_is_empty(client: httpx.Client, photos: Photos) -> None:
    answer = binary(client, photos.nobody)
    assert (answer.content, answer.headers["x-embedding-shape"]) == (b"", f"0,{DIMENSION}")


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


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/detect"])
def test_nothing_of_a_photo_is_kept(
    client: httpx.Client, service: ServiceProcess, tenant: str, photos: Photos, path: str
) -> None:
    before = stored(service)
    answer = send_raw(client, path, photos.astronaut, tenant_id=tenant)
    assert answer.status_code == 200, answer.text
    assert stored(service) == before


@pytest.mark.parametrize(
    ("path", "given", "stages"),
    [
        ("/v1/embed", {}, ["queue", "decode", "detect", "embed"]),
        ("/v1/embed", {"input": "crop"}, ["embed"]),
        ("/v1/detect", {}, ["queue", "decode", "detect"]),
    ],
)
def test_an_answer_tells_how_long_each_stage_took(
    client: httpx.Client, photos: Photos, path: str, given: dict[str, str], stages: list[str]
) -> None:
    answer = send_raw(client, path, photos.astronaut, **given)
    told = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(told) == stages
    assert all(float(value) >= 0 for value in told.values())
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/detect"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_parameter"),
        (b"no image", 415, "unsupported_image"),
    ],
)
def test_bytes_that_are_no_photo_are_refused(
    client: httpx.Client, path: str, body: bytes, status: int, code: str
) -> None:
    assert_error(send_raw(client, path, body), status, code)


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


def test_a_crop_that_is_no_image_is_refused(client: httpx.Client) -> None:
    answer = send_raw(client, "/v1/embed", b"no image", input="crop")
    assert_error(answer, 415, "unsupported_image")


@pytest.mark.parametrize("path", ["/v1/embed", "/v1/detect"])
def test_a_request_without_an_image_is_malformed(client: httpx.Client, path: str) -> None:
    assert_error(client.post(path), 422, "missing_parameter")
    assert_error(client.post(path, data={"tenant_id": "x"}), 422, "missing_parameter")


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
    assert_error(answer, 422, "missing_parameter")


@pytest.mark.parametrize("name", ["input", "embedding_format"])
@pytest.mark.parametrize("value", ["Crop", "face", "float32", "base64 ", "0", "\x00"])
def test_a_word_that_is_no_choice_is_refused(
    client: httpx.Client, photos: Photos, name: str, value: str
) -> None:
    answer = send_raw(client, "/v1/embed", photos.nobody, **{name: value})
    assert_error(answer, 422, "invalid_parameter")
    assert name in answer.json()["error"]["message"]


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


def test_the_routes_are_counted_by_name(client: httpx.Client, photos: Photos) -> None:
    def counted() -> list[float]:
        return [
            metric(client, "facette_http_requests_total", route=path, status=200)
            for path in ("/v1/embed", "/v1/detect")
        ]

    before = counted()
    for path in ("/v1/embed", "/v1/detect"):
        post(client, path, photos.nobody, "image/jpeg")
    assert counted() == [count + 1 for count in before]


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


def binary(client: httpx.Client, image: bytes, **parameters: object) -> httpx.Response:
    accepting = {"Accept": "application/octet-stream"}
    answer = send_raw(client, "/v1/embed", image, headers=accepting, **parameters)
    assert answer.status_code == 200, answer.text
    return answer


def vector(face: dict[str, Any]) -> NDArray[np.float32]:
    return np.asarray(face["embedding"], dtype=np.float32)


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(1 - one @ other)


def without_vectors(answer: dict[str, Any]) -> dict[str, Any]:
    faces = [{k: v for k, v in face.items() if k != "embedding"} for face in answer["faces"]]
    return {**answer, "faces": faces}
