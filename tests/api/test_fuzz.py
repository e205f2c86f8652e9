"""Random requests: whatever a client sends, the fault is never the service's."""

from __future__ import annotations

import json
from urllib.parse import quote

import httpx2 as httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.common.server import TOKEN, ServiceProcess
from tests.support.calls import GUARDED, Photos, assert_error_body, send, stored

# The service outlives the examples, and how long one takes is no property of it.
FRUGAL = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = [
    "tenant_id",
    "image_id",
    "face_id",
    "cluster_id",
    "to_cluster_id",
    "from_cluster_id",
    "into_cluster_id",
    "review_id",
]
NAMES += ["skip", "limit", "image", "", "x"]
VALUES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.uuids().map(str),
    st.sampled_from(["new", "", "\x00", "../..", "%00", "0", "1", "a" * 200, "fuzz"]),
)
PARAMETERS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)
PATHS = st.one_of(
    st.sampled_from([path for _, path, _ in GUARDED]),
    st.text(st.characters(codec="utf-8"), max_size=10).map(lambda text: "/" + quote(text)),
)
METHODS = st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS"])
TYPES = st.sampled_from(
    [
        b"multipart/form-data; boundary=x",
        b"multipart/form-data; boundary=x; charset=utf-16",
        b"multipart/form-data",
        b"application/x-www-form-urlencoded",
        b"application/json",
        b"application/json; charset=utf-8",
        b"text/plain",
        b"image/jpeg",
    ]
)
DISPOSITIONS = st.sampled_from(
    [
        b'name="tenant_id"',
        b'name="image"',
        b'name="image"; filename="a"',
        b'name="limit"',
        b'name=""',
    ]
)
PARTS = st.lists(st.tuples(DISPOSITIONS, st.binary(max_size=40)), max_size=4)
BODIES = st.one_of(
    st.binary(max_size=200),
    PARAMETERS.map(lambda parameters: json.dumps(parameters).encode()),
    PARTS.map(
        lambda parts: (
            b"".join(
                b"--x\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n"
                for head, data in parts
            )
            + b"--x--\r\n"
        )
    ),
)
# What HTTP allows in a header's value.
HEADER = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"))
HEADERS = st.fixed_dictionaries(
    {b"token": st.one_of(st.just(TOKEN.encode()), HEADER.map(lambda v: v.encode("latin-1")))},
    optional={
        b"content-type": st.one_of(TYPES, HEADER.map(lambda v: v.encode("latin-1"))),
        b"authorization": HEADER.map(lambda v: v.encode("latin-1")),
        b"x-anything": HEADER.map(lambda v: v.encode("latin-1")),
    },
)
TRUSTED = st.fixed_dictionaries({b"token": st.just(TOKEN.encode()), b"content-type": TYPES})


@settings(FRUGAL, max_examples=60)
@given(METHODS, PATHS, PARAMETERS, HEADERS, BODIES)
def test_no_request_is_answered_with_a_server_error(
    service: ServiceProcess,
    method: str,
    path: str,
    parameters: dict[str, str],
    headers: dict[bytes, bytes],
    body: bytes,
) -> None:
    with httpx.Client(base_url=service.url) as client:
        answer = client.request(method, path, params=parameters, headers=headers, content=body)
    assert answer.status_code < 500


@settings(FRUGAL, max_examples=80)
@given(st.sampled_from(GUARDED), PARAMETERS, TRUSTED, BODIES)
def test_no_parameters_are_answered_with_a_server_error(
    client: httpx.Client,
    route: tuple[str, str, tuple[str, ...]],
    parameters: dict[str, str],
    headers: dict[bytes, bytes],
    body: bytes,
) -> None:
    method, path, _ = route
    answer = client.request(method, path, params=parameters, headers=headers, content=body)
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert_error_body(answer.text)


@settings(FRUGAL, max_examples=40)
@given(
    st.sampled_from(["astronaut", "nobody"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6))),
    st.floats(0.2, 1),
)
def test_a_damaged_photo_is_stored_or_refused(
    client: httpx.Client,
    service: ServiceProcess,
    photos: Photos,
    subject: str,
    scratches: list[tuple[float, bytes]],
    kept: float,
) -> None:
    photo = bytearray(getattr(photos, subject))
    for place, scratch in scratches:
        start = int(place * len(photo))
        photo[start : start + len(scratch)] = scratch
    before = stored(service)
    answer = send(client, "fuzz", bytes(photo[: int(kept * len(photo))]))
    assert answer.status_code in (200, 415, 422)
    assert (stored(service) == before) == (answer.status_code != 200)
