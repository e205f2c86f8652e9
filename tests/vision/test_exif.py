"""The facts in EXIF data: time, orientation and place from every format; damaged data says none."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from PIL import Image

from service.domain.types import PhotoFacts
from service.vision.decode import decode
from service.vision.formats.base import DecodeLimits
from service.vision.formats.exif import EXIF_START, facts_of
from service.vision.formats.isobmff import read_container
from tests.support.heif_files import encode_heif
from tests.support.odd_photos import save, tiff_file

LIMITS = DecodeLimits(1_000_000, 1_000_000)
MAIN, TAKEN, DIGITIZED = 0x0132, 0x9003, 0x9004
OFFSET, OFFSET_TAKEN, FRACTION_TAKEN = 0x9010, 0x9011, 0x9291
SYDNEY = {1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.5, 0.0)}


def exif(
    main: dict[int, object] | None = None,
    inner: dict[int, object] | None = None,
    gps: dict[int, object] | None = None,
) -> Image.Exif:
    data = Image.Exif()
    data.update(main or {})
    data.get_ifd(0x8769).update(inner or {})
    data.get_ifd(0x8825).update(gps or {})
    return data


def facts(data: Image.Exif | bytes, *, located: bool = True) -> PhotoFacts:
    return facts_of(data if isinstance(data, bytes) else data.tobytes(), 1, located=located)


def taken(text: str, **inner: object) -> datetime | None:
    return facts(
        exif(inner={TAKEN: text, **{int(k[1:], 16): v for k, v in inner.items()}})
    ).taken_at


def with_texts(file: bytes) -> bytes:
    """A file of `tiff_file` whose times are texts, and not numbers."""
    for tag in (MAIN, TAKEN):
        file = file.replace(struct.pack("<HHL", tag, 4, 1), struct.pack("<HHL", tag, 2, 20))
    return file


def full() -> Image.Exif:
    """Data with all facts; made anew, since encoders take the orientation out."""
    return exif(
        {0x0112: 6, MAIN: "2024:01:01 00:00:00"},
        {TAKEN: "2021:05:06 07:08:09", OFFSET_TAKEN: "+02:00", FRACTION_TAKEN: "123"},
        SYDNEY,
    )


WANTED = PhotoFacts(
    datetime(2021, 5, 6, 5, 8, 9, 123000, UTC), 6, (-(33 + 51 / 60 + 36 / 3600), 151 + 12.5 / 60)
)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_every_format_hands_over_the_facts_of_its_photo(form: str) -> None:
    image = Image.new("RGB", (40, 30))
    data = save(image, form, exif=full())
    found = decode(data, LIMITS, located=True).facts
    assert found == WANTED


def test_tiff_hands_over_the_facts_of_its_own_directories() -> None:
    data = tiff_file(
        {
            256: [4],
            257: [4],
            258: [8],
            259: [1],
            262: [1],
            277: [1],
            278: [4],
            273: bytes(16),
            279: [16],
            274: [6],
            MAIN: b"2019:02:03 04:05:06\0",
        }
    )
    found = decode(with_texts(data), LIMITS).facts
    assert found == PhotoFacts(datetime(2019, 2, 3, 4, 5, 6, tzinfo=UTC), 6)


def test_heic_has_the_time_of_exif_and_the_orientation_of_its_boxes() -> None:
    data = encode_heif(Image.new("RGB", (64, 48)), "HEIC", exif=full().tobytes())
    found = decode(data, LIMITS, located=True)
    assert found.facts.taken_at == WANTED.taken_at
    assert found.facts.location == WANTED.location
    assert found.pixels.shape[:2] == ((64, 48) if found.facts.orientation == 6 else (48, 64))


def test_a_raw_file_hands_over_the_time_of_its_directories_and_not_of_its_preview() -> None:
    preview = save(Image.new("RGB", (200, 120)), "JPEG", exif=exif({MAIN: "1999:01:01 00:00:00"}))
    data = tiff_file(
        {
            256: [200],
            257: [120],
            274: [8],
            50706: [1],
            513: preview,
            514: [9999],
            34665: [{TAKEN: b"2015:06:07 08:09:10\0"}],
        }
    )
    found = decode(with_texts(data), LIMITS)
    assert found.format == "raw"
    assert found.facts == PhotoFacts(datetime(2015, 6, 7, 8, 9, 10, tzinfo=UTC), 8)


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "PNG"])
def test_a_file_that_says_nothing_has_no_facts(form: str) -> None:
    assert decode(save(Image.new("RGB", (8, 8)), form), LIMITS).facts == PhotoFacts()


def test_location_is_read_only_where_it_was_asked_for() -> None:
    assert facts(full()).location is not None
    assert facts(full(), located=False).location is None
    data = save(Image.new("RGB", (8, 8)), "JPEG", exif=full())
    assert decode(data, LIMITS).facts.location is None


def test_the_time_of_taking_comes_before_that_of_digitizing_and_of_the_file() -> None:
    times = {TAKEN: "2001:01:01 00:00:00", DIGITIZED: "2002:01:01 00:00:00"}
    file = {MAIN: "2003:01:01 00:00:00"}
    years = []
    for unknown in (None, TAKEN, DIGITIZED):
        if unknown:
            times[unknown] = "0000:00:00 00:00:00"
        found = facts(exif(file, times)).taken_at
        assert found is not None
        years.append(found.year)
    assert years == [2001, 2002, 2003]


@pytest.mark.parametrize(
    ("offset", "hour"),
    [
        ("+05:30", 6), ("-08:00", 20), ("+14:00", 22), ("Z", 12), ("", 12), ("+15:00", 12),
        ("+99:99", 12), ("   :  ", 12),
    ],
)  # fmt: skip
def test_a_time_without_a_possible_offset_is_taken_for_utc(offset: str, hour: int) -> None:
    found = taken("2020:06:15 12:00:00", x9011=offset)
    assert found is not None
    assert (found.hour, found.tzinfo) == (hour, UTC)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("5", 500_000), ("012", 12_000), ("123456789", 123_456), ("  ", 0), ("-1", 0)],
)
def test_fractions_of_a_second_are_digits_behind_the_point(text: str, microsecond: int) -> None:
    found = taken("2020:06:15 12:00:00", x9291=text)
    assert found is not None
    assert found.microsecond == microsecond


@pytest.mark.parametrize(
    "text",
    [
        "", "    :  :     :  :  ", "0000:00:00 00:00:00", "2020:02:30 00:00:00",
        "2020:01:01 24:00:00", "1899:12:31 23:59:59", "2101:01:01 00:00:00", "9999:99:99 99:99:99",
        "2020:01:01", "20200101 000000", "yesterday", "\u0662\u0660:01:01 00:00:00",
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_is_no_time(text: str) -> None:
    assert taken(text) is None


@pytest.mark.parametrize(
    "change",
    [
        {1: "X"}, {3: ""}, {2: (91.0, 0.0, 0.0)}, {4: (181.0, 0.0, 0.0)}, {2: (33.0, 51.0)},
        {9: "V"},
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_no_place(change: dict[int, object]) -> None:
    assert facts(exif(gps=SYDNEY)).location is not None
    assert facts(exif(gps={**SYDNEY, **change})).location is None


def test_fractions_over_nothing_are_no_place() -> None:
    data = exif(gps=SYDNEY).tobytes()
    thirty_three = struct.pack(">LL", 33, 1) if b"MM" in data[:8] else struct.pack("<LL", 33, 1)
    assert data.count(thirty_three) == 1
    assert facts(data.replace(thirty_three, thirty_three[:4] + bytes(4))).location is None


def test_damage_at_any_place_gives_facts_or_none() -> None:
    data = full().tobytes().removeprefix(EXIF_START)
    for end in range(len(data)):
        facts(data[:end])
    for place in range(len(data)):
        for value in (0x00, 0x7F, 0xFF):
            found = facts(data[:place] + bytes([value]) + data[place + 1 :])
            assert found.taken_at is None or 1900 <= found.taken_at.year <= 2100


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["tiff", "bigtiff"])
def test_directories_that_lead_to_themselves_end(order: str, *, big: bool) -> None:
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 16)
        entry = struct.pack(f"{order}HHQQ", 0x8769, 16, 1, 16)
        data = head + struct.pack(f"{order}Q", 1 << 60) + entry * 9
    else:
        head = mark + struct.pack(f"{order}HL", 42, 8)
        entry = struct.pack(f"{order}HHLL", 0x8769, 4, 1, 8)
        data = head + struct.pack(f"{order}H", 65535) + entry * 9
    assert facts(data) == PhotoFacts()


def test_bigtiff_directories_are_read_in_both_orders() -> None:
    for order, mark in (("<", b"II"), (">", b"MM")):
        text = b"2011:12:13 14:15:16\0"
        first = struct.pack(f"{order}QHHQQ", 1, 0x8769, 13, 1, 60 if order == "<" else 60 << 32)
        inner = struct.pack(f"{order}QHHQQ", 1, TAKEN, 2, len(text), 100)
        data = mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 16) + first
        data = data.ljust(60, b"\0") + inner
        data = data.ljust(100, b"\0") + text
        assert facts(data).taken_at == datetime(2011, 12, 13, 14, 15, 16, tzinfo=UTC)


def test_exif_of_a_heif_item_that_leads_nowhere_leaves_the_photo_as_it_is() -> None:
    data = encode_heif(Image.new("RGB", (64, 48)), "AVIF", exif=full())
    (item,) = (each for each in read_container(data).items.values() if each.kind == b"Exif")
    place = item.extents[0][0]
    # The first number says where the EXIF data begins: beyond the end.
    for broken in (b"\xff\xff\xff\xff", struct.pack(">L", len(data))):
        changed = data[:place] + broken + data[place + 4 :]
        found = decode(changed, LIMITS)
        assert found.facts.taken_at is None
        assert found.width * found.height == 64 * 48
