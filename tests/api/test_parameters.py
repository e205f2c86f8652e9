"""Missing and malformed parameters: 422; ids that nothing has: 404."""

from __future__ import annotations

from uuid import uuid4

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from tests.support.calls import (
    BY_ID,
    GUARDED,
    OF_TENANTS,
    Photos,
    assert_error,
    call,
    insert,
    multipart,
    only_cluster,
    only_face,
    read,
    reviews,
    stored,
)

BAD_WORDS = {
    "nul": "a\x00b",
    "newline": "a\nb",
    "escape": "\x1b[2J",
    "second control block": "a\x9bb",
    "bidirectional": "a\u202eb",
    "zero width": "a\u200bb",
    "decomposed": "u\u0308ber",
    "blank": "   ",
    "long": "x" * 129,
    "very long": "x" * 20_000,
}
ID_PARAMETERS = [(method, path, name) for method, path, names in BY_ID for name in names]


@pytest.mark.parametrize(("method", "path", "_names"), OF_TENANTS)
def test_a_request_without_a_tenant_is_malformed(
    client: httpx.Client, method: str, path: str, _names: tuple[str, ...]
) -> None:
    assert_error(call(client, method, path), 422, "missing_parameter")


@pytest.mark.parametrize(("method", "path", "_names"), GUARDED)
@pytest.mark.parametrize("value", BAD_WORDS.values(), ids=BAD_WORDS)
def test_a_malformed_tenant_is_refused(
    client: httpx.Client, method: str, path: str, _names: tuple[str, ...], value: str
) -> None:
    assert_error(call(client, method, path, tenant_id=value), 422, "invalid_parameter")


@pytest.mark.parametrize("value", BAD_WORDS.values(), ids=BAD_WORDS)
def test_a_photo_of_a_malformed_tenant_is_not_stored(
    client: httpx.Client, photos: Photos, service: ServiceProcess, value: str
) -> None:
    before = stored(service)
    answer = client.post("/insert-image", data={"tenant_id": value}, files={"image": photos.nobody})
    assert_error(answer, 422)
    assert stored(service) == before


@pytest.mark.parametrize(
    ("charset", "value"), [("utf-7", b"+2AA-"), ("unicode_escape", rb"\ud800")]
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/insert-image"), ("GET", "/image"), ("DELETE", "/tenant")]
)
def test_a_tenant_that_is_no_text_is_refused(
    client: httpx.Client, photos: Photos, charset: str, value: bytes, method: str, path: str
) -> None:
    form = multipart(
        ('name="tenant_id"', value),
        ('name="image_id"', b"00000000-0000-4000-8000-000000000000"),
        ('name="image"; filename="a.jpg"', photos.nobody),
        charset=charset,
    )
    assert_error(client.request(method, path, **form), 422)


@pytest.mark.parametrize(("method", "path", "missing"), ID_PARAMETERS)
def test_a_missing_id_is_malformed(
    client: httpx.Client, tenant: str, photos: Photos, method: str, path: str, missing: str
) -> None:
    given = ids_of(client, tenant, insert(client, tenant, photos.astronaut))
    del given[missing]
    given.pop("to_cluster_id" if missing == "cluster_id" else "", None)
    assert_error(call(client, method, path, **given), 422, "missing_parameter")


@pytest.mark.parametrize(("method", "path", "bad"), ID_PARAMETERS)
def test_an_unknown_id_is_not_found(
    client: httpx.Client, tenant: str, photos: Photos, method: str, path: str, bad: str
) -> None:
    given = ids_of(client, tenant, insert(client, tenant, photos.astronaut))
    unknown = [2**40, 2**63 - 1, 0] if bad == "review_id" else [uuid4(), "x", "../../x", "%", "ß"]
    for value in unknown:
        answer = call(client, method, path, **{**given, bad: value})
        assert_error(answer, 404, "not_found")


@pytest.mark.parametrize(("method", "path", "names"), BY_ID)
def test_an_unknown_tenant_is_not_found(
    client: httpx.Client, tenant: str, method: str, path: str, names: tuple[str, ...]
) -> None:
    given = {name: 1 if name == "review_id" else uuid4() for name in names}
    assert_error(call(client, method, path, tenant_id=tenant, **given), 404, "not_found")


@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "1e3", "٣", 2**63, 10**30, "9" * 5000])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_review_id_that_is_no_number_is_malformed(
    client: httpx.Client, tenant: str, method: str, value: object
) -> None:
    answer = call(client, method, "/review-pending", tenant_id=tenant, review_id=value)
    assert_error(answer, 422, "invalid_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "-1"),
        ("limit", "1001"),
        ("limit", str(2**64)),
        ("limit", "ten"),
        ("skip", "-1"),
        ("skip", str(2**64)),
        ("skip", "1.0"),
        ("skip", "NaN"),
    ],
)
@pytest.mark.parametrize("path", ["/faces", "/review-pending-list"])
def test_a_page_outside_its_bounds_is_malformed(
    client: httpx.Client, tenant: str, photos: Photos, path: str, name: str, value: str
) -> None:
    image = insert(client, tenant, photos.nobody)["image_id"]
    answer = call(client, "GET", path, tenant_id=tenant, image_id=image, **{name: value})
    assert_error(answer, 422, "invalid_parameter")


@pytest.mark.parametrize("path", ["/faces", "/review-pending-list"])
def test_a_page_far_behind_the_end_is_empty(
    client: httpx.Client, tenant: str, photos: Photos, path: str
) -> None:
    image = insert(client, tenant, photos.nobody)["image_id"]
    assert read(client, path, tenant_id=tenant, image_id=image, skip=2**63 - 1) == []


def test_a_text_parameter_sent_as_a_file_is_malformed(client: httpx.Client, photos: Photos) -> None:
    answer = client.request("GET", "/review-pending-list", files={"tenant_id": photos.nobody})
    assert_error(answer, 422, "invalid_parameter")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary at all"),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"'),
        ("multipart/form-data; boundary=" + "x" * 300, b"--x\r\n"),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(100))),
        ("application/x-www-form-urlencoded", b"tenant_id=" + b"x" * 100_000),
        ("application/json", b'{"tenant_id": "x"}'),
        ("", b"\x00\xff"),
        ("text/plain; charset=\xff", b"x"),
    ],
)
def test_a_body_that_is_no_form_is_malformed(client: httpx.Client, kind: str, body: bytes) -> None:
    headers = {b"content-type": kind.encode("latin-1")}
    assert_error(client.post("/insert-image", content=body, headers=headers), 422)


def ids_of(client: httpx.Client, tenant: str, answer: dict) -> dict[str, object]:
    """Good values of every parameter that names something."""
    return {
        "tenant_id": tenant,
        "image_id": answer["image_id"],
        "face_id": only_face(answer),
        "cluster_id": only_cluster(answer),
        "to_cluster_id": "new",
        "from_cluster_id": only_cluster(answer),
        "into_cluster_id": only_cluster(answer),
        "review_id": reviews(client, tenant)[0]["id"],
    }


def test_a_form_without_files_may_not_be_as_large_as_a_photo(
    client: httpx.Client, tenant: str
) -> None:
    padding = {"tenant_id": tenant, "padding": "x" * (1 << 20)}
    answer = client.request("DELETE", "/tenant", data=padding)
    assert_error(answer, 413, "body_too_large")
