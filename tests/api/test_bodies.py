"""Bodies in the forms in which clients send photos and parameters, without a service."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from itertools import count

import pytest
from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request
from starlette.types import Message

from service.api.bodies import Body, read_body
from service.api.forms import MAX_FIELD_BYTES, MAX_PLAIN_BODY_BYTES
from service.api.intake import Intake
from service.api.limiter import InFlightLimiter
from service.domain.errors import BodyTooLargeError, FacetteError
from service.domain.image_files import is_image
from service.telemetry import Metrics

MIB = 1 << 20
MAX_BODY = 4 * MIB
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20
LARGE = JPEG + bytes(2 * MIB)
URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"


async def read(
    data: bytes,
    content_type: str | None,
    query: dict[str, str] | None = None,
    piece: int = 1000,
    **others: str,
) -> Body:
    """What a body is read as that arrives in pieces, chunked."""
    sent = [data[start : start + piece] for start in range(0, len(data), piece)]
    head = {"transfer-encoding": "chunked", **others}
    headers = Headers(head if content_type is None else {**head, "content-type": content_type})
    scope = {"type": "http", "method": "POST", "headers": headers.raw}

    async def messages() -> AsyncIterator[Message]:
        for each in sent:
            yield {"type": "http.request", "body": each, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    coming = messages()
    request = Request(scope, lambda: anext(coming))  # type: ignore[arg-type]
    limiter = InFlightLimiter(
        max_requests=1, max_bytes=MAX_BODY, max_body_bytes=MAX_BODY, metrics=Metrics()
    )
    with limiter.acquire(None, None) as permit:
        intake = Intake(request, permit, timeout_s=60, max_bytes=MAX_BODY)
        async with intake.open():
            body = await read_body(intake, headers, query or {})
        assert permit.bytes == len(data)
        return body


async def image_of(body: Body) -> bytes:
    """The bytes of the image, which must be a file."""
    image = body.image or body.fields["image"]
    assert isinstance(image, UploadFile)
    await image.seek(0)
    found = await image.read()
    assert image.size == len(found)
    await body.close()
    return found


def in_json(image: object, **others: object) -> bytes:
    return json.dumps({"image": image, **others}).encode()


def text(image: bytes, *, url: bool = False) -> str:
    return (base64.urlsafe_b64encode if url else base64.b64encode)(image).decode()


def form(head: str, data: bytes, end: str = "--b--\r\n") -> bytes:
    part = f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
    return part + data + b"\r\n" + end.encode()


MULTIPART = "multipart/form-data; boundary=b"
BASE64_PART = 'name="image"; filename="a"\r\nContent-Transfer-Encoding: BASE64'
WRAPPED = base64.encodebytes(LARGE)


@pytest.mark.parametrize("photo", [JPEG, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "kind", [None, "", "text/plain", URLENCODED, "binary/octet-stream", "image/jpg; x=y", "odd"]
)
async def test_photo_as_the_body_is_known_by_its_first_bytes(
    photo: bytes, kind: str | None
) -> None:
    assert await image_of(await read(photo, kind, piece=7 if photo is JPEG else 65536)) == photo


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (form('name="image"', LARGE), MULTIPART),
        (form('name=image; filename=""', LARGE), 'Multipart/Form-Data; Boundary="b"'),
        (form("name=image; filename*=utf-8''a.jpg", LARGE), MULTIPART),
        (b"This is a MIME message.\r\n" + form('name="image"', LARGE), MULTIPART),
        (form(BASE64_PART, WRAPPED), MULTIPART),
        (form('name="image"', text(LARGE).encode()), MULTIPART),
        (form('name="image"', text(LARGE, url=True).rstrip("=").encode()), MULTIPART),
        (form('name="image"', b"data:image/jpeg;base64," + WRAPPED), MULTIPART),
        (in_json(text(LARGE)), JSON),
        (in_json(text(LARGE, url=True).rstrip("=")), JSON + "; charset=UTF-8"),
        (in_json("data:image/jpeg;base64," + text(LARGE)), JSON),
        (in_json(WRAPPED.decode()), JSON),  # line ends, as escapes
        (in_json(text(LARGE)).replace(b"/", rb"\/"), JSON),
        (in_json(text(LARGE)).replace(b"+", rb"\u002B"), JSON),
    ],
    ids=map(str, count()),
)
async def test_large_photo_is_taken_as_clients_write_it(data: bytes, kind: str) -> None:
    assert await image_of(await read(data, kind, piece=65536)) == LARGE


@pytest.mark.parametrize("length", range(8))
@pytest.mark.parametrize("url", [False, True])
@pytest.mark.parametrize("padded", [False, True])
async def test_base64_of_any_length_is_decoded(length: int, url: bool, padded: bool) -> None:
    photo = JPEG[:4] + b"\xfb\xff\xbf\xfe\xfd\xfa\xff\xfe"[:length]
    sent = text(photo, url=url) if padded else text(photo, url=url).rstrip("=")
    assert await image_of(await read(in_json(sent), JSON)) == photo
    encoded = sent.replace("+", "%2B").encode()
    assert await image_of(await read(b"image=" + encoded, URLENCODED)) == photo


@pytest.mark.parametrize(
    "sent",
    ["", "?", "/9j/4", "/9j/4AA=A", "/9j/4A===", "/9j/4AAA=", "/9j/4AA_", "/9j/4AAÄ", "=", "====",
     "data:image/jpeg,/9j/4AAA", "data:image/jpeg;base64", "data:;base64,/9j/4", "words",
     "file:///etc/passwd", "https://example.com/a.jpg", "\ud800"],
)  # fmt: skip
async def test_text_that_is_no_image_in_base64_is_refused(sent: str) -> None:
    await refused(in_json(sent), JSON, ("invalid_parameter", "malformed_body"))


async def test_blank_for_a_plus_is_refused() -> None:
    await refused(b"image=/9j/4AA+", URLENCODED, ("invalid_parameter",))


async def test_parameters_of_a_json_body_are_those_of_a_form() -> None:
    sent = b'\n{"tenant_id": "Z\\u00fcrich \xe6\x9d\xb1", "limit": 10, "skip": -0, "x": ""}\r\n'
    body = await read(sent, JSON)
    assert body.fields == {"tenant_id": "Zürich 東", "limit": "10", "skip": "-0", "x": ""}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"", "malformed_body"),
        (b"[]", "malformed_body"),
        (b'"text"', "malformed_body"),
        (b"{'a': 1}", "malformed_body"),
        (b'{"a": 1} {}', "malformed_body"),
        (b'{"a": "\xff"}', "malformed_body"),
        (b'{"a": "\\ud800"}', "malformed_body"),
        (b'{"\\ud800": "a"}', "malformed_body"),
        (b'\xef\xbb\xbf{"a": "1"}', "malformed_body"),
        ('{"a": "1"}'.encode("utf-16"), "malformed_body"),
        (b'{"a": "b\nc"}', "malformed_body"),
        (b"[" * 500_000, "malformed_body"),
        (b'{"a":' * 100_000, "malformed_body"),
        (b'{"a": "1", "a": "1"}', "invalid_parameter"),
        (b'{"a": "1", "\\u0061": "2"}', "invalid_parameter"),
        (b'{"a": 1.0}', "invalid_parameter"),
        (b'{"a": NaN}', "invalid_parameter"),
        (b'{"a": null}', "invalid_parameter"),
        (b'{"a": true}', "invalid_parameter"),
        (b'{"a": ["1"]}', "invalid_parameter"),
        (b'{"a": {"b": "1"}}', "invalid_parameter"),
        (b'{"image": 5}', "invalid_parameter"),
        (json.dumps({f"n{number}": "" for number in range(33)}).encode(), "malformed_body"),
        (json.dumps({"a": "x" * (MAX_FIELD_BYTES + 1)}).encode(), "malformed_body"),
        (in_json(text(JPEG), a="x" * 70_000), "malformed_body"),
        (in_json(text(LARGE), a="x" * 70_000), "malformed_body"),
        (in_json(text(LARGE)).replace(b"A", b'\\"', 1), "invalid_parameter"),
        (in_json(text(LARGE)).replace(b"A", b"\\\\", 1), "invalid_parameter"),
        (in_json(text(LARGE)).replace(b"A", b"\n", 1), "invalid_parameter"),
        (in_json(text(LARGE))[:-2], "malformed_body"),
        (b'{"a": "' + b'\\"' * MIB, "malformed_body"),
        (b'{"a": "' + b"\\" * MIB, "malformed_body"),
        (b"[" + b"[]," * (MIB // 2), "body_too_large"),
        (b'{"a": ' + b'"",' * MIB, "body_too_large"),
    ],
    ids=map(str, count()),
)
async def test_json_that_is_not_plain_is_refused(sent: bytes, code: str) -> None:
    await refused(sent, JSON, (code,), piece=65536)


async def test_json_in_another_encoding_is_refused() -> None:
    await refused(b'{"a": "1"}', JSON + "; charset=latin-1", ("malformed_body",))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (form('name="image"', JPEG).replace(b"\r\n", b"\n"), "CR and LF"),
        (form('name="image"', JPEG, end=""), "final boundary"),
        (form('name="image"', JPEG)[:-8], "final boundary"),
        (b"This is MIME. " + form('name="image"', JPEG), "text before"),
        (b"This is --b.\r\n" + form('name="image"', JPEG), "text before"),
        (b"x" * 2000 + b"\r\n" + form('name="image"', JPEG), "text before"),
        (form('name="image"', JPEG).replace(b"--b", b"--c"), "boundary that its Content-Type"),
        (b"", "final boundary"),
        (form('name="image"', JPEG, end="") + form('name="b"; filename="c"', b""), "one file"),
        (form('name="text"', bytes(MAX_FIELD_BYTES + 1)), "longer than"),
        (form('name="text"\r\nContent-Transfer-Encoding: base64', b"AAAA"), "base64"),
        (form('name="image"\r\nContent-Transfer-Encoding: quoted-printable', b"A"), "base64"),
    ],
    ids=map(str, count()),
)
async def test_form_that_does_not_parse_says_why(data: bytes, says: str) -> None:
    message = await refused(data, MULTIPART, ("malformed_body",), piece=65536)
    assert says in message
    assert "Send a photo as" in message


@pytest.mark.parametrize("piece", [1, 7, 100])
async def test_preamble_is_skipped_however_the_form_arrives(piece: int) -> None:
    data = b"This is a MIME message.\r\n\r\n" + form('name="image"', JPEG)
    assert await image_of(await read(data, MULTIPART, piece=piece)) == JPEG


@pytest.mark.parametrize("kind", ["multipart/mixed; boundary=b", "multipart/related; boundary=b"])
async def test_other_kinds_of_multipart_are_refused(kind: str) -> None:
    message = await refused(form('name="image"', JPEG), kind, ("malformed_body",))
    assert "multipart/form-data" in message


@pytest.mark.parametrize(
    "inserted",
    [
        b"&tenant_id=b",
        b";tenant_id=b",
        b"&tenant%5Fid=b",
        b"&tenant%5fi%64=b&",
        b"&image=b",
        b"&q=2",
    ],
)
@pytest.mark.parametrize("place", [100, 990, 999, len(JPEG)])
async def test_photo_that_is_also_a_form_with_parameters_is_refused(
    inserted: bytes, place: int
) -> None:
    data = JPEG[:place] + inserted + JPEG[place:]
    await refused(data, URLENCODED, ("malformed_body",), query={"q": "1"})
    assert await image_of(await read(data, "text/plain", {"q": "1"})) == data
    assert await image_of(await read(JPEG + b"&other=b", URLENCODED, {"q": "1"}))


@pytest.mark.parametrize("kind", [None, "text/plain", "application/xml", URLENCODED])
async def test_body_without_a_photo_has_a_lower_limit(kind: str | None) -> None:
    with pytest.raises(BodyTooLargeError, match="without a photo"):
        await read(b"a" * (MAX_PLAIN_BODY_BYTES + 1), kind, piece=65536)


async def test_base64_counts_with_its_own_length() -> None:
    with pytest.raises(BodyTooLargeError):
        await read(in_json(text(bytes(MAX_BODY * 3 // 4))), JSON, piece=65536)


@pytest.mark.parametrize("kind", ["image/jpeg", JSON, MULTIPART, None])
async def test_compressed_body_says_so(kind: str | None) -> None:
    with pytest.raises(FacetteError, match="compressed"):
        await read(JPEG, kind, **{"content-encoding": "GZip"})


async def test_body_of_another_kind_says_what_it_is() -> None:
    assert "is of type text/html" in (await read(b"<html>", "text/html")).unread
    assert "has no Content-Type" in (await read(b"<html>", None)).unread


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n", True),
        (b"GIF89a\x01\0", True),
        (b"RIFF\x24\0\0\0WEBPVP8 ", True),
        (b"RIFF\x24\0\0\0WAVEfmt ", False),
        (b"BM\x36\0\0\0\0\0\0\0\x36\0", True),
        (b"BM=1&tenant_id=a", False),
        (b"II*\0\x08\0\0\0", True),
        (b"MM\0*\0\0\0\x08", True),
        (b"\0\0\0\x18ftypheic\0\0\0\0", True),
        (b"\0\0\0\x1cftypavif\0\0\0\0", True),
        (b"\0\0\0\x18ftypcrx \0\0\0\0", True),
        (b"\0\0\0\x18ftypisom\0\0\0\0", False),
        (b"\xff\x0a\xfa\x1f", True),
        (b"\0\0\0\x0cJXL \r\n\x87\n", True),
        (b"FUJIFILMCCD-RAW 0201", True),
        (b"tenant_id=a", False),
        (b"", False),
    ],
)
def test_image_is_known_by_its_first_bytes(head: bytes, expected: bool) -> None:
    assert is_image(head) is expected


async def refused(
    data: bytes,
    kind: str,
    codes: tuple[str, ...],
    *,
    query: dict[str, str] | None = None,
    piece: int = 1000,
) -> str:
    """Read a body that must be refused; returns the message."""
    with pytest.raises(FacetteError) as error:
        await read(data, kind, query, piece)
    assert error.value.code in codes
    return error.value.message
