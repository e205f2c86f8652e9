"""Image formats: what is accepted, and in which pixels a face is reported."""

from __future__ import annotations

from dataclasses import dataclass

import httpx2 as httpx
import imagehash
import numpy as np
import pytest
from PIL import Image

from tests.support.calls import Photos, decode, encode, insert, only_face, read
from tests.support.odd_photos import EXACT, odd_photos, rgb

# EXIF orientation: how the stored picture has to be turned to lie as that orientation says.
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTATION = 0x0112


@pytest.mark.parametrize("name", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_face_is_found_in_every_supported_format(
    client: httpx.Client, tenant: str, photos: Photos, name: str
) -> None:
    answer = insert(client, tenant, encode(decode(photos.astronaut), name))
    assert len(answer["face_ids"]) == 1


def test_a_photo_shows_the_same_face_in_every_kind_of_file(
    client: httpx.Client, photos: Photos
) -> None:
    portrait = decode(photos.astronaut).convert("RGB")
    plain = _embedded(client, encode(portrait, "PNG"))
    wrong = {}
    for photo in odd_photos(portrait):
        if photo.shows_faces:
            face = _embedded(client, photo.data)
            box = float(np.abs(face.box - plain.box).max())
            distance = 1 - float(face.vector @ plain.vector)
            same = photo.tolerance == EXACT and np.array_equal(photo.expected, rgb(portrait))
            if box > (0 if same else 4) or distance > (1e-6 if same else 0.08):
                wrong[photo.name] = box, distance
    assert wrong == {}


@dataclass(frozen=True)
class _Face:
    box: np.ndarray
    vector: np.ndarray


def _embedded(client: httpx.Client, photo: bytes) -> _Face:
    answer = client.post("/v1/embed", files={"image": photo})
    assert answer.status_code == 200, answer.text
    (face,) = answer.json()["faces"]
    return _Face(np.array(list(face["box"].values())), np.array(face["embedding"]))


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "1"])
def test_a_png_of_any_colour_mode_is_accepted(
    client: httpx.Client, tenant: str, photos: Photos, mode: str
) -> None:
    insert(client, tenant, encode(decode(photos.astronaut).convert(mode), "PNG"))


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 3), (1, 4000), (4000, 1), (12, 12), (20, 19), (21, 400)]
)
def test_a_photo_of_any_shape_is_accepted(
    client: httpx.Client, tenant: str, size: tuple[int, int]
) -> None:
    assert insert(client, tenant, encode(Image.new("RGB", size), "PNG"))["face_ids"] == {}


def test_a_photo_for_print_is_accepted(client: httpx.Client, tenant: str, photos: Photos) -> None:
    answer = insert(client, tenant, encode(decode(photos.astronaut).convert("CMYK")))
    assert len(answer["face_ids"]) == 1


def test_sixteen_bits_a_sample_are_accepted(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    deep = decode(photos.astronaut).convert("L").convert("I").point(lambda sample: sample * 257)
    answer = insert(client, tenant, encode(deep.convert("I;16"), "PNG"))
    assert len(answer["face_ids"]) == 1


def test_a_face_beside_transparent_pixels_is_the_same_person(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    known = insert(client, tenant, photos.astronaut)
    cut_out = decode(photos.astronaut).convert("RGBA")
    cut_out.paste((0, 0, 0, 0), (0, 0, cut_out.width, 10))
    answer = insert(client, tenant, encode(cut_out, "PNG"))
    assert list(answer["face_ids"].values()) == list(known["face_ids"].values())


def test_an_animation_counts_as_its_first_frame(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    first = decode(photos.astronaut)
    blank = Image.new("RGB", first.size, "white")
    answer = insert(client, tenant, encode(first, "GIF", save_all=True, append_images=[blank]))
    assert len(answer["face_ids"]) == 1


@pytest.mark.parametrize("orientation", STORED_AS)
def test_a_turned_jpeg_gives_its_facial_area_in_upright_pixels(
    client: httpx.Client, tenant: str, photos: Photos, orientation: int
) -> None:
    upright = decode(photos.astronaut)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turned = encode(upright.transpose(STORED_AS[orientation]), exif=exif)
    areas = []
    for photo in (photos.astronaut, turned):
        face = only_face(insert(client, tenant, photo))
        areas.append(read(client, "/face", tenant_id=tenant, face_id=face)["facial_area"])
    # The second file was compressed once more, which moves the box a little.
    assert areas[1] == pytest.approx(areas[0], abs=4)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF"])
def test_phash_is_that_of_imagehash(
    client: httpx.Client, tenant: str, photos: Photos, name: str
) -> None:
    photo = encode(decode(photos.hopper), name)
    answer = insert(client, tenant, photo)
    image = read(client, "/image", tenant_id=tenant, image_id=answer["image_id"])
    assert image["phash"] == str(imagehash.phash(decode(photo)))
