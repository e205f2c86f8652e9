"""Routes that store nothing: every way in and out gives the same faces and vectors."""

from __future__ import annotations

import asyncio
import base64
import io
import math
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bench.common.server import ServiceProcess
from tests.support.calls import Photos, assert_error, decode, encode, insert, metric, stored

JPEG = {"content-type": "image/jpeg"}


def embed(client: httpx.Client, image: bytes, **options: str) -> Any:
    answer = client.post("/v1/embed", params=options, content=image, headers=JPEG)
    assert answer.status_code == 200, answer.text
    return answer.json()


def vectors(found: Any) -> NDArray[np.float32]:
    return np.array([face["embedding"] for face in found["faces"]], dtype=np.float32)


@pytest.fixture(scope="module")
def crop(photos: Photos) -> bytes:
    return encode(decode(photos.astronaut).crop((60, 40, 140, 140)).resize((160, 160)))


def test_detect_finds_what_insert_finds(client: httpx.Client, photos: Photos, tenant: str) -> None:
    answer = client.post("/v1/detect", content=photos.both, headers=JPEG)
    assert answer.status_code == 200, answer.text
    kept = insert(client, tenant, photos.both)["faces"]
    found = answer.json()
    assert (found["width"], found["height"]) == decode(photos.both).size
    assert len(found["faces"]) == 2
    for ours, theirs in zip(found["faces"], kept, strict=True):
        assert set(ours) == {"box", "landmarks", "confidence", "quality"}
        assert ours == {key: theirs[key] for key in ours}


def test_a_face_comes_with_its_quality(client: httpx.Client, photos: Photos) -> None:
    blurred = encode(decode(photos.both).filter(ImageFilter.GaussianBlur(5)))
    for path in ("/v1/detect", "/v1/embed"):
        good, bad = (
            client.post(path, content=image, headers=JPEG).json()["faces"][0]["quality"]
            for image in (photos.both, blurred)
        )
        assert set(good) == {
            "score",
            "reasons",
            "size",
            "sharpness",
            "brightness",
            "contrast",
            "yaw",
            "roll",
        }
        assert good["reasons"] == []
        assert "blurred" in bad["reasons"]
        assert 0 <= bad["score"] < 0.5 < good["score"] <= 1


@pytest.mark.parametrize("path", ["/v1/detect", "/v1/embed"])
@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_a_photo_that_lies_on_its_side_or_head_is_turned_for_its_faces(
    client: httpx.Client, photos: Photos, path: str, turned: int
) -> None:
    upright = decode(photos.hopper)
    sent = encode(upright.rotate(turned, expand=True), "PNG")
    answer = client.post(path, content=sent, headers={"content-type": "image/png"}).json()
    assert answer["turned"] == turned
    # Places are those in the photo as it was sent.
    assert (answer["width"], answer["height"]) == decode(sent).size
    (face,) = answer["faces"]
    eyes, mouth = np.mean(face["landmarks"][:2], axis=0), np.mean(face["landmarks"][3:], axis=0)
    down = {0: (0, 1), 90: (1, 0), 180: (0, -1), 270: (-1, 0)}[turned]
    assert (mouth - eyes) @ down > 0.9 * np.hypot(*(mouth - eyes))
    box = face["box"]
    assert box["x1"] < eyes[0] < box["x2"]
    assert box["y1"] < eyes[1] < box["y2"]


def test_a_turned_photo_gives_the_vector_of_the_upright_one(
    client: httpx.Client, photos: Photos
) -> None:
    upright = decode(photos.hopper)
    expected = vectors(embed(client, encode(upright, "PNG")))
    for degrees in (90, 180, 270):
        sent = encode(upright.rotate(degrees, expand=True), "PNG")
        assert vectors(embed(client, sent)) == pytest.approx(expected, abs=1e-4)


def test_a_photo_without_faces_is_not_turned(client: httpx.Client, photos: Photos) -> None:
    assert client.post("/v1/detect", content=photos.nobody, headers=JPEG).json()["turned"] == 0


def test_a_form_and_a_raw_body_give_the_same(client: httpx.Client, photos: Photos) -> None:
    raw = client.post("/v1/detect", content=photos.twins, headers=JPEG)
    octets = {"content-type": "application/octet-stream"}
    form = client.post("/v1/detect", files={"image": photos.twins})
    assert len(raw.json()["faces"]) == 2
    assert raw.json() == form.json()
    assert raw.json() == client.post("/v1/detect", content=photos.twins, headers=octets).json()


def test_embeddings_are_unit_vectors_of_the_faces_detected(
    client: httpx.Client, photos: Photos
) -> None:
    found = embed(client, photos.both)
    assert found["model"]["dimension"] == 512
    assert found["model"]["space"]
    assert (found["width"], found["height"]) == decode(photos.both).size
    rows = vectors(found)
    assert rows.shape == (2, 512)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-5)
    detected = client.post("/v1/detect", content=photos.both, headers=JPEG).json()["faces"]
    assert [{k: v for k, v in face.items() if k != "embedding"} for face in found["faces"]] == (
        detected
    )
    twins = vectors(embed(client, photos.twins))
    assert twins[0] @ twins[1] > 0.9
    assert rows[0] @ rows[1] < 0.5


@pytest.mark.parametrize("mode", ["photo", "crop"])
def test_every_form_of_an_embedding_has_the_same_numbers(
    client: httpx.Client, photos: Photos, crop: bytes, mode: str
) -> None:
    image = crop if mode == "crop" else photos.both
    plain = vectors(embed(client, image, input=mode))
    for name, dtype, tolerance in (("base64", "<f4", 0.0), ("base64_float16", "<f2", 1e-3)):
        coded = embed(client, image, input=mode, embedding_format=name)["faces"]
        rows = [np.frombuffer(base64.b64decode(face["embedding"]), dtype) for face in coded]
        assert np.array(rows, np.float32) == pytest.approx(plain, abs=tolerance)
    answer = client.post(
        "/v1/embed",
        params={"input": mode},
        content=image,
        headers={**JPEG, "accept": "application/octet-stream"},
    )
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-embedding-shape"] == f"{len(plain)},512"
    assert answer.headers["x-model-space"]
    assert np.array_equal(np.frombuffer(answer.content, "<f4").reshape(-1, 512), plain)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (["text/html", "application/octet-stream"], "application/octet-stream"),
        (["application/octet-stream;q=0"], "application/json"),
        (['text/plain;note="application/octet-stream"'], "application/json"),
    ],
)
def test_embeddings_come_in_the_type_that_the_request_prefers(
    client: httpx.Client, crop: bytes, accept: list[str], expected: str
) -> None:
    request = client.build_request(
        "POST", "/v1/embed", params={"input": "crop"}, content=crop, headers=JPEG
    )
    del request.headers["accept"]
    raw = [*request.headers.raw, *((b"accept", each.encode()) for each in accept)]
    answer = client.send(httpx.Request(request.method, request.url, headers=raw, content=crop))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == expected


def test_a_photo_without_faces_is_an_answer(client: httpx.Client, photos: Photos) -> None:
    assert client.post("/v1/detect", content=photos.nobody, headers=JPEG).json()["faces"] == []
    assert embed(client, photos.nobody)["faces"] == []
    headers = {**JPEG, "accept": "application/octet-stream"}
    answer = client.post("/v1/embed", content=photos.nobody, headers=headers)
    assert answer.content == b""
    assert answer.headers["x-embedding-shape"] == "0,512"


def test_a_crop_of_any_size_and_format_is_embedded(client: httpx.Client, crop: bytes) -> None:
    """The small JPEG file is decoded with its batch, the others by the stage for photos."""
    small = vectors(embed(client, crop, input="crop"))
    picture = decode(crop)
    answer = embed(client, encode(picture, "PNG"), input="crop")
    assert set(answer) == {"model", "faces"}
    assert set(answer["faces"][0]) == {"embedding"}
    assert vectors(answer) == pytest.approx(small, abs=1e-6)
    large = vectors(embed(client, encode(picture.resize((640, 640))), input="crop"))
    assert (large @ small.T).item() > 0.95


def test_a_turned_crop_is_turned_upright(client: httpx.Client, crop: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rows run from the top right downwards
    turned = io.BytesIO()
    decode(crop).transpose(Image.Transpose.ROTATE_90).save(turned, "JPEG", quality=95, exif=exif)
    upright = vectors(embed(client, crop, input="crop"))
    assert (vectors(embed(client, turned.getvalue(), input="crop")) @ upright.T).item() > 0.98


def test_a_bad_crop_fails_alone_in_its_batch(service: ServiceProcess, crop: bytes) -> None:
    cut = crop[: len(crop) // 2]

    async def run() -> list[httpx.Response]:
        async with service.async_client() as client:
            return await asyncio.gather(
                *(
                    client.post("/v1/embed?input=crop", content=data, headers=JPEG)
                    for data in [crop, cut, crop, cut, crop, crop, crop, crop, crop]
                )
            )

    answers = asyncio.run(run())
    for answer in answers:
        assert answer.status_code in (200, 422)
    assert [answer.status_code for answer in answers].count(422) == 2
    for answer in answers:
        if answer.status_code == 422:
            assert_error(answer, 422, "corrupt_image")


@pytest.mark.parametrize("path", ["/v1/detect", "/v1/embed", "/v1/embed?input=crop"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_parameter"),
        (b"no image", 415, "unsupported_image"),
        (b"\xff\xd8\xff\xe0 broken", 422, "corrupt_image"),
    ],
)
def test_bad_images_are_refused(
    client: httpx.Client, path: str, body: bytes, status: int, code: str
) -> None:
    assert_error(client.post(path, content=body, headers=JPEG), status, code)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"input": "face"}, "invalid_parameter"),
        ({"embedding_format": "xml"}, "invalid_parameter"),
        ({"tenant_id": "a\x00b"}, "invalid_parameter"),
    ],
)
def test_bad_parameters_are_refused(
    client: httpx.Client, crop: bytes, options: dict[str, str], code: str
) -> None:
    answer = client.post("/v1/embed", params=options, content=crop, headers=JPEG)
    assert_error(answer, 422, code)


def test_a_form_without_an_image_is_refused(client: httpx.Client) -> None:
    assert_error(client.post("/v1/detect", data={"a": "b"}), 422, "missing_parameter")


def test_the_token_is_needed(service: ServiceProcess, crop: bytes) -> None:
    for path in ("/v1/detect", "/v1/embed"):
        answer = httpx.post(service.url + path, content=crop, headers=JPEG)
        assert_error(answer, 401, "missing_token")


def test_nothing_is_stored(client: httpx.Client, service: ServiceProcess, photos: Photos) -> None:
    before = stored(service)
    embed(client, photos.both, tenant_id="nobody-in-particular")
    client.post("/v1/detect", content=photos.both, headers=JPEG)
    assert stored(service) == before
    answer = client.get("/review-pending-list", params={"tenant_id": "nobody-in-particular"})
    assert answer.json() == []


def test_the_answer_says_how_long_each_stage_took(
    client: httpx.Client, photos: Photos, crop: bytes
) -> None:
    def stages(path: str, image: bytes) -> set[str]:
        answer = client.post(path, content=image, headers=JPEG)
        parts = [part.split(";dur=") for part in answer.headers["server-timing"].split(", ")]
        assert all(math.isfinite(float(value)) for _, value in parts)
        return {name for name, _ in parts}

    assert stages("/v1/detect", photos.both) == {"queue", "decode", "detect"}
    assert stages("/v1/embed", photos.both) == {"queue", "decode", "detect", "embed"}
    assert stages("/v1/embed?input=crop", crop) == {"embed"}


def test_insert_takes_a_raw_body(
    client: httpx.Client, service: ServiceProcess, photos: Photos, tenant: str
) -> None:
    answer = client.post(
        "/insert-image", params={"tenant_id": tenant}, content=photos.hopper, headers=JPEG
    )
    assert answer.status_code == 200, answer.text
    found = insert(client, tenant, photos.hopper)
    assert set(answer.json()["face_ids"].values()) == set(found["face_ids"].values())
    (path,) = Path(service.data_dir / "uploads").rglob(f"{answer.json()['image_id']}*")
    assert path.read_bytes() == photos.hopper


def test_a_raw_body_needs_its_tenant_in_the_query(client: httpx.Client, photos: Photos) -> None:
    answer = client.post("/insert-image", content=photos.hopper, headers=JPEG)
    assert_error(answer, 422, "missing_parameter")


def test_requests_are_counted_by_route(client: httpx.Client, crop: bytes) -> None:
    before = metric(client, "facette_http_requests_total", route="/v1/embed", status="200")
    embed(client, crop, input="crop")
    after = metric(client, "facette_http_requests_total", route="/v1/embed", status="200")
    assert after == before + 1
