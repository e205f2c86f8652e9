"""Bad input for the API under /v1, made by code: what is sent, and the problem that it must get.

`CORPUS` lists the chapters. A new operation adds its requests to the chapters that they fit in, or
a chapter of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

from service.api.forms import MAX_PLAIN_BODY_BYTES
from service.api.parts import MAX_PARTS
from service.api.v1.cursors import encode_cursor
from service.domain.people import ImageFilter, PeopleFilter, PeopleOrder
from tests.support.batches import BOUNDARY, CONTENT_TYPE, END, part

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": CONTENT_TYPE}
DEPTH = 10_000
PARTS = 10_000
MEGABYTE = 1_000_000
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Ids:
    """A tenant with a photo of some people, and ids of what it has."""

    tenant: str
    image: str
    face: str
    person: str
    other_person: str

    @property
    def path(self) -> str:
        return f"/v1/tenants/{quote(self.tenant, safe='')}"


@dataclass(frozen=True, slots=True)
class World:
    """The tenant that asks, another one, and a photo of nobody.

    stale: an ETag of `own.person` that somebody else's change made old.
    """

    own: Ids
    foreign: Ids
    photo: bytes
    stale: str


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request, and the status and the code of its problem.

    path: as it is sent, percent-encoded or not. body: in pieces, which are made when they are sent.
    expected: pairs of a status and a code; the answer has one of them. With status 200, the code is
    that of the problem that ended a batch.
    """

    name: str
    method: str
    path: str
    expected: tuple[tuple[int, str], ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Iterable[bytes]] = tuple


Chapter = Callable[[World], Iterator[BadRequest]]

_MALFORMED = ((422, "malformed_body"),)
_INVALID = ((422, "invalid_parameter"),)
_MISSING = ((404, "not_found"),)
_CURSOR = ((422, "invalid_cursor"),)
_NOWHERE = ((404, "route_not_found"), (404, "not_found"), *_INVALID)


def forms(world: World) -> Iterator[BadRequest]:
    """Forms of too many parts, without an end, with heads that do not end."""
    single, batch = f"{world.own.path}/images", f"{world.own.path}/images/batch"

    def bad(
        name: str,
        path: str,
        pieces: Callable[[], Iterable[bytes]],
        expected: tuple[tuple[int, str], ...] = _MALFORMED,
        content_type: str = CONTENT_TYPE,
    ) -> BadRequest:
        return BadRequest(name, "POST", path, expected, {"Content-Type": content_type}, pieces)

    for path in (single, batch):
        ended = ((200, "malformed_body"),) if path == batch else _MALFORMED
        yield bad("ten thousand files", path, lambda: [*[part(b"x")] * PARTS, END], ended)
        yield bad(
            "ten thousand fields",
            path,
            lambda: [*[part(b"x", 'name="x"')] * PARTS, END],
            ended,
        )
        yield bad("a part without an end", path, lambda: [part(world.photo)[:-2]])
        yield bad("a part of nothing but its head", path, lambda: [part(b"")[:-4]])
        yield bad(
            "a head without an end",
            path,
            lambda: [part(b"", more="X: ")[:-4], *[b"x" * _CHUNK] * 64],
        )
        yield bad(
            "ten thousand heads of a part", path, lambda: [part(b"", more="X: x\r\n" * PARTS), END]
        )
        yield bad(
            "another boundary",
            path,
            lambda: [part(world.photo), END],
            content_type="multipart/form-data; boundary=other",
        )
        yield bad(
            "no boundary",
            path,
            lambda: [part(world.photo), END],
            content_type="multipart/form-data",
        )
        yield bad("a preamble without an end", path, lambda: [b"x" * _CHUNK] * 64)
        yield bad(
            "boundaries alone",
            path,
            lambda: [f"--{BOUNDARY}".encode() * MAX_PARTS],
            ((422, "invalid_parameter" if path == batch else "missing_parameter"),),
        )
    yield bad(
        "one photo, then no end",
        batch,
        lambda: [part(world.photo), part(world.photo)[:-2]],
        ((200, "malformed_body"),),
    )
    yield bad("an empty form", batch, lambda: [END], _INVALID)
    yield BadRequest(
        "JSON in the place of a form", "POST", batch, _MALFORMED, JSON, lambda: [b"{}"]
    )


def documents(world: World) -> Iterator[BadRequest]:
    """JSON that is nested too deeply, is none, or is too long."""

    def nested(opening: str, closing: str) -> bytes:
        return f'{{"metadata": {opening * DEPTH}1{closing * DEPTH}}}'.encode()

    def split(data: bytes) -> Callable[[], Iterable[bytes]]:
        return lambda: [data]

    people, person = f"{world.own.path}/people", f"{world.own.path}/people/{world.own.person}"
    broken = {
        "nested objects": nested('{"a":', "}"),
        "nested lists": nested("[", "]"),
        "opening brackets": b"[" * DEPTH,
        "a lone surrogate as an escape": b'{"label": "\\ud800"}',
        "a lone surrogate as bytes": b'{"label": "\xed\xa0\x80"}',
        "bytes that are not UTF-8": b'{"label": "\xff"}',
        "UTF-16": '{"label": "x"}'.encode("utf-16"),
        "no object": b'["label"]',
        "a number that is none": b'{"metadata": {"a": NaN}}',
        "half of it": b'{"label": "x"',
        "two of them": b"{}{}",
    }
    for method, path in (("POST", people), ("PATCH", person)):
        for name, data in broken.items():
            yield BadRequest(name, method, path, _MALFORMED, JSON, split(data))
        yield BadRequest(
            "JSON by another name",
            method,
            path,
            _MALFORMED,
            {"Content-Type": "text/plain"},
            lambda: [b'{"label": "x"}'],
        )
        too_long = ((413, "body_too_large"),)
        yield BadRequest(
            "a document longer than any",
            method,
            path,
            too_long,
            JSON,
            lambda: [b'{"label": "', b"x" * MAX_PLAIN_BODY_BYTES, b'"}'],
        )
        for key, value in {
            "metadata of 1 MB": {"metadata": {"a": "x" * MEGABYTE}},
            "ten thousand keys": {"metadata": {str(n): n for n in range(PARTS)}},
            "metadata with NUL": {"metadata": {"a\0": "b"}},
            "an unknown field": {"name": "x"},
            "ten thousand unknown fields": {f"field-{n}": n for n in range(PARTS)},
            "a hundred thousand values": {"metadata": {"a": [0] * 10 * PARTS}},
            "fifty thousand objects": {"metadata": {"a": [{}] * 5 * PARTS}},
            "a field of another kind": {"label": ["x"]},
        }.items():
            data = json.dumps(value).encode()
            yield BadRequest(key, method, path, _INVALID, JSON, split(data))
    ids = {"face_ids": [world.own.face] * PARTS}
    yield BadRequest(
        "ten thousand ids", "POST", people, _INVALID, JSON, split(json.dumps(ids).encode())
    )


def labels(world: World) -> Iterator[BadRequest]:
    """Labels and ids of callers that are no text for people, or far too long."""
    person = f"{world.own.path}/people/{world.own.person}"
    for name, text in {
        "NUL": "a\0b",
        "a control character": "a\x1bb",
        "a line break": "a\u2028b",
        "blanks": "   ",
        "nothing": "",
        "1 MB": "x" * MEGABYTE,
        "1 MB of what becomes less by normalising": "e\u0301" * (MEGABYTE // 4),
        "one character too many": "x" * 257,
    }.items():
        for key in ("label", "external_id"):
            data = json.dumps({key: text}, ensure_ascii=False).encode()
            for method, path in (("PATCH", person), ("POST", f"{world.own.path}/people")):
                yield BadRequest(
                    f"{key}: {name}", method, path, _INVALID, JSON, lambda data=data: [data]
                )
    for name, text in _LOOK_ALIKES.items():
        data = json.dumps({"external_id": text}).encode()
        if name not in _OF_PATHS:
            yield BadRequest(
                f"external_id: {name}", "PATCH", person, _INVALID, JSON, lambda data=data: [data]
            )


_LOOK_ALIKES = {
    "not in normal form C": "cafe\u0301",
    "Angstrom": "\u212b",
    "without width": "a\u200bb",
    "joined": "a\u200db",
    "from right to left": "\u202eab",
    "a soft hyphen": "a\u00adb",
    "a variation": "a\ufe0f",
    "a mark of bytes": "\ufeffa",
    "NUL": "a\0",
    "a tabulator": "a\t",
    "a blank": " ",
    "too long": "x" * 129,
    "a point": ".",
    "two points": "..",
    "a slash": "a/b",
}
_OF_PATHS = ("a point", "two points", "a slash")
_NO_TEXT = {
    "a lone surrogate": "%ED%A0%80",
    "no UTF-8": "a%FF",
    "overlong": "%C0%AF",
    "a slash, encoded": "a%2Fb",
    "points, encoded": "%2e%2e",
    "half a code": "a%2",
}


def tenant_ids(world: World) -> Iterator[BadRequest]:
    """Tenant ids that look like others, or that are no ids."""
    for name, text in _LOOK_ALIKES.items():
        data = json.dumps({"id": text}).encode()
        yield BadRequest(
            f"id: {name}", "POST", "/v1/tenants", _INVALID, JSON, lambda data=data: [data]
        )
    in_paths = {**{name: quote(text, safe="") for name, text in _LOOK_ALIKES.items()}, **_NO_TEXT}
    for name, text in in_paths.items():
        path = f"/v1/tenants/{text}"
        yield BadRequest(f"path: {name}", "GET", path, _NOWHERE)
        yield BadRequest(f"path: {name}", "GET", f"{path}/people", _NOWHERE)
        for inserting in ("/images", "/images/batch"):
            kind = {"Content-Type": "image/jpeg"} if inserting == "/images" else FORM
            pieces = [world.photo] if inserting == "/images" else [part(world.photo), END]
            expected = tuple(each for each in _NOWHERE if each != _MISSING[0])
            yield BadRequest(
                f"path: {name}",
                "POST",
                path + inserting,
                expected,
                kind,
                lambda pieces=pieces: pieces,
            )
    yield BadRequest("nothing", "GET", "/v1/tenants//people", _NOWHERE)


def foreign_ids(world: World) -> Iterator[BadRequest]:
    """Ids of another tenant, ids of nothing, and what is no id, wherever an id can stand."""
    own, foreign = world.own, world.foreign
    image = {"another tenant's": foreign.image, "a person's": own.person}
    face = {"another tenant's": foreign.face, "an image's": own.image}
    person = {"another tenant's": foreign.person, "a face's": own.face}
    for of_kind in (image, face, person):
        of_kind |= {
            "nobody's": str(uuid4()),
            "no UUID": "x",
            "long": "1" * 128,
            "with blanks": quote(f" {own.face}"),
            "with a brace": quote("{" + own.face + "}"),
        }

    def asked(
        name: str, method: str, path: str, expected: tuple[tuple[int, str], ...], body: Any = None
    ) -> BadRequest:
        if body is None:
            return BadRequest(name, method, own.path + path, expected)
        data = json.dumps(body).encode()
        return BadRequest(name, method, own.path + path, expected, JSON, lambda: [data])

    for name, text in image.items():
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/faces")):
            yield asked(f"image: {name}", method, f"/images/{text}{path}", _MISSING)
    for name, text in face.items():
        for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"person_id": None})):
            yield asked(f"face: {name}", method, f"/faces/{text}", _MISSING, body)
        cover = {"cover_face_id": text}
        wrong_face = (*_MISSING, *_INVALID)
        yield asked(f"cover: {name}", "PATCH", f"/people/{own.person}", wrong_face, cover)
        faces = {"face_ids": [own.face, text]}
        yield asked(f"new person of {name}", "POST", "/people", wrong_face, faces)
        yield asked(f"split: {name}", "POST", f"/people/{own.person}/split", wrong_face, faces)
    for name, text in person.items():
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", {"label": "x"}),
            ("DELETE", "", None),
            ("GET", "/faces", None),
            ("GET", "/images", None),
            ("POST", "/merge", {"into": own.person}),
            ("POST", "/split", {"face_ids": [own.face]}),
        ):
            yield asked(f"person: {name}", method, f"/people/{text}{path}", _MISSING, body)
        into = {"into": text}
        yield asked(f"merge into {name}", "POST", f"/people/{own.person}/merge", _MISSING, into)
        move = {"person_id": text}
        yield asked(f"move to {name}", "PATCH", f"/faces/{own.face}", _MISSING, move)
        yield asked(f"images of {name}", "GET", f"/images?person_id={text}", _MISSING)
    yield asked("own", "POST", f"/people/{own.person}/merge", _INVALID, {"into": own.person})


def cursors(world: World) -> Iterator[BadRequest]:
    """Cursors that were changed, made up, or given by another list."""
    own, foreign = world.own, world.foreign
    now = datetime.now(UTC)
    lists = {
        f"{own.path}/people": encode_cursor("other", 1, UUID(own.person)),
        f"{own.path}/people?order=label": encode_cursor("other", "x", UUID(own.person)),
        f"{own.path}/images": encode_cursor("other", now, UUID(own.image)),
        f"{own.path}/images/{own.image}/faces": encode_cursor(
            f"faces of image {foreign.tenant} {foreign.image}", 1
        ),
        f"{own.path}/people/{own.person}/faces": encode_cursor(
            f"faces {foreign.tenant} {foreign.person}", 1
        ),
        f"{own.path}/people/{own.person}/images": encode_cursor(
            f"faces {own.tenant} {own.person}", 1
        ),
        "/v1/tenants": encode_cursor("people", "x"),
    }
    for path, of_another_list in lists.items():
        for name, cursor in {
            "of another list": of_another_list,
            "no base64": "!%C3%BC%00",
            "short": "AAAA",
            "of nothing": "",
            "points": "../../..",
            "changed": f"{of_another_list[:-1]}{'B' if of_another_list[-1] != 'B' else 'C'}",
        }.items():
            sign = "&" if "?" in path else "?"
            yield BadRequest(f"cursor: {name}", "GET", f"{path}{sign}cursor={cursor}", _CURSOR)
        yield BadRequest(
            "cursor: long",
            "GET",
            f"{path}{'&' if '?' in path else '?'}cursor={'A' * 5000}",
            _INVALID,
        )
    # The checksum is no secret: whoever knows how it is made gets a position, of any value.
    of_faces = f"faces {own.tenant} {own.person}"
    for name, value in {
        "beyond 64 bits": 2**63,
        "of another kind": "1",
        "true": True,
        "a list": [1],
        "a fraction": 1.5,
    }.items():
        cursor = encode_cursor(of_faces, value)
        path = f"{own.path}/people/{own.person}/faces?cursor={cursor}"
        yield BadRequest(f"cursor: made, {name}", "GET", path, _CURSOR)
    of_people = f"people {own.tenant} {PeopleOrder.FACES} {PeopleFilter()}"
    for name, value in {"beyond 64 bits": 2**63, "beyond 32": 2**31, "text": "1"}.items():
        cursor = encode_cursor(of_people, value, UUID(own.person))
        yield BadRequest(
            f"cursor: made, {name}", "GET", f"{own.path}/people?cursor={cursor}", _CURSOR
        )
    of_images = f"images {own.tenant} {ImageFilter()}"
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "never"):
        cursor = encode_cursor(of_images, time, UUID(own.image))
        path = f"{own.path}/images?cursor={cursor}"
        yield BadRequest(f"cursor: made, {time}", "GET", path, _CURSOR)
    for name, text in {"NUL": "a\0b", "two": "a"}.items():
        values = (text, text) if name == "two" else (text,)
        path = f"/v1/tenants?cursor={encode_cursor('tenants', *values)}"
        yield BadRequest(f"cursor: made, {name}", "GET", path, _CURSOR)


def queries(world: World) -> Iterator[BadRequest]:
    """Query strings that the contract does not have."""
    for path, query in (
        ("/people", "limit=0"),
        ("/people", "limit=501"),
        ("/people", "limit=1e2"),
        ("/people", f"limit={'9' * 4000}"),
        ("/people", "limit=1&limit=2"),
        ("/people", "order=size"),
        ("/people", "hidden=perhaps"),
        ("/people", "unknown=1"),
        ("/people", f"prefix={'x' * 5000}"),
        ("/people", "prefix=%ED%A0%80"),
        ("/people", "prefix=a%00"),
        ("/people", "external_id=a%00"),
        ("/people", "external_id=cafe%CC%81"),
        ("/images", "after=yesterday"),
        ("/images", "after=2026-01-01T00:00:00"),
        ("/images", "after=0001-01-01T00:00:00%2B14:00"),
        ("/images", "before=9999-12-31T23:59:59-14:00"),
        ("/images", "before=99999-01-01T00:00:00Z"),
        ("/images", f"person_id={world.own.person}&order=taken"),
        (f"/images/{world.own.image}", "size=1"),
    ):
        yield BadRequest(f"{path}?{query[:20]}", "GET", f"{world.own.path}{path}?{query}", _INVALID)
    for method, path in (("PUT", "/people"), ("DELETE", "/people"), ("GET", "/images/batch/x")):
        expected = ((405, "method_not_allowed"), (404, "route_not_found"))
        yield BadRequest(f"{method} {path}", method, world.own.path + path, expected)


def editors(world: World) -> Iterator[BadRequest]:
    """Headers of editors who were late, and headers that are none."""
    person = f"{world.own.path}/people/{world.own.person}"
    lost = ((412, "precondition_failed"),)
    changes = (
        ("PATCH", "", {"label": "late"}),
        ("POST", "/merge", {"into": world.own.other_person}),
        ("POST", "/split", {"face_ids": [world.own.face]}),
        ("DELETE", "", None),
    )
    for method, path, body in changes:
        for name, etag, expected in (
            ("lost", world.stale, lost),
            ("of the future", '"999999"', lost),
            ("no ETag", "yesterday", _INVALID),
            ("without quotes", "1", _INVALID),
            ("two", '"1", "2"', _INVALID),
            ("weak", 'W/"1"', _INVALID),
            ("long", f'"{"1" * 4000}"', _INVALID),
        ):
            data = b"" if body is None else json.dumps(body).encode()
            headers = {"If-Match": etag, **({} if body is None else JSON)}
            yield BadRequest(
                f"If-Match: {name}",
                method,
                person + path,
                expected,
                headers,
                lambda data=data: [data] if data else [],
            )
    for name, key in {"a blank": "a b", "nothing": "", "long": "x" * 129}.items():
        for path, kind, pieces in (
            ("/images", {"Content-Type": "image/jpeg"}, [world.photo]),
            ("/images/batch", FORM, [part(world.photo), END]),
            ("/people", JSON, [b"{}"]),
        ):
            yield BadRequest(
                f"Idempotency-Key: {name}",
                "POST",
                world.own.path + path,
                _INVALID,
                {**kind, "Idempotency-Key": key},
                lambda pieces=pieces: pieces,
            )


def pictures(world: World) -> Iterator[BadRequest]:
    """Ranges beyond a file, sizes that nobody has, and places in the stream of events."""
    file = f"{world.own.path}/images/{world.own.image}/file"
    for given in ("bytes=999999999-", f"bytes={'9' * 18}-", "bytes=-0"):
        expected = ((416, "range_not_satisfiable"),)
        yield BadRequest(f"range {given[:20]}", "GET", file, expected, {"Range": given})
    image, face = f"/images/{world.own.image}", f"/faces/{world.own.face}"
    for path, query in (
        (f"{image}/thumbnail", "size=0"),
        (f"{image}/thumbnail", "size=257"),
        (f"{image}/thumbnail", f"size={'9' * 400}"),
        (f"{face}/crop", "size=1"),
        (f"{face}/crop", "size=100000"),
        (f"{face}/crop", "margin=nan"),
        (f"{face}/crop", "margin=1e308"),
        (f"{image}/duplicates", "max_distance=64"),
        (f"{image}/duplicates", "limit=0"),
        ("/events", "after=-1"),
        ("/events", f"after={'9' * 30}"),
    ):
        yield BadRequest(f"{path}?{query[:20]}", "GET", f"{world.own.path}{path}?{query}", _INVALID)
    for given in ("x", "-1", "\u0664", "9" * 100):
        head = {"Last-Event-ID": given.encode().decode("latin-1")}
        yield BadRequest("Last-Event-ID", "GET", f"{world.own.path}/events", _INVALID, head)


CORPUS: tuple[Chapter, ...] = (
    forms,
    documents,
    labels,
    tenant_ids,
    foreign_ids,
    cursors,
    queries,
    editors,
    pictures,
)
"""The chapters, in the order in which they are sent."""
