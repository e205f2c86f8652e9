"""Requests that two readers may read differently: text that is no UTF-8, two values of one name.

A gateway that authorises by what it reads must read what the service reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    is_gone,
    multipart,
    only_cluster,
    only_face,
    read_answer,
    reviews,
    started_request,
    stored,
)

# Latin-1, an overlong slash, half of a surrogate pair, a sequence that ends early.
NO_UTF_8 = ["caf%E9", "a%C0%AFb", "%ED%A0%80", "%E2%82"]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def urlencoded(body: bytes) -> dict[str, Any]:
    return {"content": body, "headers": FORM}


@pytest.mark.parametrize(("method", "path", "_names"), GUARDED)
@pytest.mark.parametrize("value", NO_UTF_8)
def test_a_query_that_is_no_utf_8_is_refused(
    client: httpx.Client, method: str, path: str, _names: tuple[str, ...], value: str
) -> None:
    answer = client.request(method, f"{path}?tenant_id={value}")
    assert_error(answer, 422, "invalid_parameter")


@pytest.mark.parametrize("query", ["tenant_id=a&caf%E9=1", "x=%FF&tenant_id=a"])
def test_no_part_of_a_query_may_be_other_than_utf_8(client: httpx.Client, query: str) -> None:
    assert_error(client.get(f"/review-pending-list?{query}"), 422, "invalid_parameter")


@pytest.mark.parametrize("ending", [b"\xe9", b"\xc3\xa9"], ids=["Latin-1", "UTF-8"])
def test_bytes_that_are_not_even_escaped_are_refused(
    service: ServiceProcess, tenant: str, ending: bytes
) -> None:
    path = f"/review-pending-list?tenant_id={tenant}" + ending.decode("latin-1")
    with started_request(service, "GET", path, {}, encoding="latin-1") as connection:
        assert read_answer(connection)[0] in (400, 422)


@pytest.mark.parametrize(("method", "path", "_names"), OF_TENANTS)
@pytest.mark.parametrize("value", NO_UTF_8)
def test_a_form_that_is_no_utf_8_is_refused(
    client: httpx.Client, method: str, path: str, _names: tuple[str, ...], value: str
) -> None:
    answer = client.request(method, path, **urlencoded(f"tenant_id={value}".encode()))
    assert_error(answer, 422, "malformed_body")


@pytest.mark.parametrize(
    "parts",
    [
        [('name="tenant_id"', b"caf\xe9")],
        [('name="tenant_id"', b"a"), ('name="x"', b"\xff")],
        [('name="tenant_id"', b"a"), (b'name="caf\xe9"', b"x")],
    ],
    ids=["the tenant", "another value", "a name"],
)
def test_a_multipart_form_that_is_no_utf_8_is_refused(
    client: httpx.Client, photos: Photos, service: ServiceProcess, parts: list[Any]
) -> None:
    before = stored(service)
    form = multipart(*parts, ('name="image"; filename="a.jpg"', photos.nobody))
    assert_error(client.post("/insert-image", **form), 422, "malformed_body")
    assert stored(service) == before


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", "utf-16", "utf-7", "nonsense"])
def test_a_form_in_another_encoding_is_refused(client: httpx.Client, charset: str) -> None:
    form = multipart(('name="tenant_id"', b"plain"), charset=charset)
    assert_error(client.request("GET", "/review-pending-list", **form), 422, "malformed_body")


@pytest.mark.parametrize("charset", ["", "utf-8", "UTF-8", '"utf8"'])
def test_text_of_a_form_is_utf_8(
    client: httpx.Client, tenant: str, photos: Photos, charset: str
) -> None:
    name = f"{tenant} Zürich 東京 🙂"
    form = multipart(
        ('name="tenant_id"', name.encode()),
        ('name="image"; filename="a.jpg"', photos.nobody),
        charset=charset,
    )
    answer = client.post("/insert-image", **form)
    assert answer.status_code == 200, answer.text
    assert not is_gone(client, "/image", tenant_id=name, image_id=answer.json()["image_id"])


def test_two_names_that_are_no_utf_8_are_not_one_tenant(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    before = stored(service)
    for ending in ("%E9", "%E8"):
        for answer in (
            client.post(
                f"/insert-image?tenant_id={tenant}{ending}", files={"image": photos.astronaut}
            ),
            client.delete(f"/tenant?tenant_id={tenant}{ending}"),
        ):
            assert_error(answer, 422, "invalid_parameter")
    assert stored(service) == before
    assert is_gone(client, "/image", tenant_id=f"{tenant}\ufffd", image_id="any")


def test_a_path_that_is_no_utf_8_is_no_route(client: httpx.Client) -> None:
    assert_error(client.get("/image%E9"), 404, "route_not_found")


@pytest.mark.parametrize(("method", "path", "_names"), GUARDED)
@pytest.mark.parametrize("second", ["one", "two", ""])
def test_a_parameter_that_stands_twice_in_the_query_is_refused(
    client: httpx.Client, method: str, path: str, _names: tuple[str, ...], second: str
) -> None:
    answer = client.request(method, f"{path}?tenant_id=one&tenant_id={second}")
    assert_error(answer, 422, "invalid_parameter")


@pytest.mark.parametrize("query", ["limit=1&skip=0&limit=2", "x=1&x=2", "x&x"])
def test_any_parameter_that_stands_twice_is_refused(
    client: httpx.Client, tenant: str, query: str
) -> None:
    answer = client.get(f"/review-pending-list?tenant_id={tenant}&{query}")
    assert_error(answer, 422, "invalid_parameter")


@pytest.mark.parametrize(
    "form",
    [
        urlencoded(b"tenant_id=one&tenant_id=two"),
        urlencoded(b"tenant_id=one&tenant%5Fid=one"),
        multipart(('name="tenant_id"', b"one"), ('name="tenant_id"', b"two")),
        multipart(('name="tenant_id"', b"one"), ('name="tenant_id"; filename="a"', b"two")),
    ],
    ids=["urlencoded", "escaped name", "multipart", "as a file"],
)
@pytest.mark.parametrize(("method", "path", "_names"), OF_TENANTS)
def test_a_parameter_that_stands_twice_in_a_form_is_refused(
    client: httpx.Client, method: str, path: str, _names: tuple[str, ...], form: dict[str, Any]
) -> None:
    assert_error(client.request(method, path, **form), 422, "invalid_parameter")


@pytest.mark.parametrize(
    "form",
    [
        urlencoded(b"tenant_id=two"),
        urlencoded(b"tenant_id="),
        multipart(('name="tenant_id"', b"two")),
        multipart(('name="tenant_id"; filename="a"', b"one")),
    ],
    ids=["urlencoded", "empty", "multipart", "as a file"],
)
@pytest.mark.parametrize(("method", "path", "_names"), GUARDED)
def test_a_body_that_contradicts_the_query_is_refused(
    client: httpx.Client, method: str, path: str, _names: tuple[str, ...], form: dict[str, Any]
) -> None:
    answer = client.request(method, f"{path}?tenant_id=one", **form)
    assert_error(answer, 422, "invalid_parameter")


@pytest.mark.parametrize(
    "head",
    [
        'name="tenant_id"; name="x"',
        'name="x"; name="tenant_id"',
        'name="x"; NAME = tenant_id',
        "name=\"tenant_id\"; name*=utf-8''x",
        'name="tenant_id"; name*0="x"',
        'name="x"\r\nContent-Disposition: form-data; name="tenant_id"',
        'name="tenant_id"\r\nContent-Type: text/plain\r\nContent-Type: image/jpeg',
        'name="tenant_id"\r\nContent-Transfer-Encoding: base64',
        'name="tenant_id"\r\nContent-Type: text/plain; charset=utf-16',
        'name="tenant_id"\r\nContent-Type: text/plain; charset=utf-7',
        'name="tenant_id"\r\nContent-Type: text/plain; charset=utf-8; charset=utf-16',
    ],
)
def test_a_part_that_may_be_read_as_two_fields_is_refused(
    client: httpx.Client, photos: Photos, head: str
) -> None:
    form = multipart((head, b"YWJj"), ('name="image"; filename="a.jpg"', photos.nobody))
    assert_error(client.post("/insert-image", **form), 422, "malformed_body")


def test_a_part_that_is_no_field_of_a_form_is_refused(client: httpx.Client) -> None:
    form = multipart(('name="tenant_id"', b"abc"))
    form["content"] = form["content"].replace(b"form-data", b"attachment")
    assert_error(client.request("GET", "/review-pending-list", **form), 422, "malformed_body")


def test_text_in_another_encoding_is_refused_whichever_part_says_so(client: httpx.Client) -> None:
    named = multipart(("name=_charset_", b"iso-8859-1"), ("name=tenant_id", "é".encode()))
    latin = 'name="tenant_id"\r\nContent-Type: text/plain; charset=ISO-8859-1'
    for form in (named, multipart((latin, "é".encode()))):
        answer = client.request("GET", "/review-pending-list", **form)
        assert_error(answer, 422, "malformed_body")


def test_parts_as_clients_write_them_are_taken(client: httpx.Client, tenant: str) -> None:
    ascii_text = 'name="tenant_id"\r\nContent-Type: text/plain; charset=ISO-8859-1\r\n'
    for form in (
        multipart((f"{ascii_text}Content-Transfer-Encoding: 8bit", tenant.encode())),
        multipart(("name=_charset_", b"UTF-8"), ("name=tenant_id", tenant.encode())),
    ):
        answer = client.request("GET", "/review-pending-list", **form)
        assert (answer.status_code, answer.text) == (200, "[]")


@pytest.mark.parametrize(
    "kinds",
    [
        ["multipart/form-data; boundary=limit", "multipart/form-data; boundary=other"],
        ["multipart/form-data; boundary=other; boundary=limit"],
        ["multipart/form-data; charset=utf-16; boundary=limit; charset=utf-8"],
        ["multipart/form-data; boundary*=utf-8''other; boundary=limit"],
        ["multipart/form-data; boundary=limit", "image/jpeg"],
        ["image/jpeg", "multipart/form-data; boundary=limit"],
    ],
)
def test_a_body_that_may_be_read_as_two_forms_is_refused(
    client: httpx.Client, kinds: list[str]
) -> None:
    form = multipart(('name="tenant_id"', b"abc"))
    headers = [("content-type", kind) for kind in kinds]
    answer = client.request("GET", "/review-pending-list", content=form["content"], headers=headers)
    assert_error(answer, 422, "malformed_body")


def test_a_body_does_not_turn_a_deletion_to_another_tenant(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    victim = insert(client, f"{tenant}-victim", photos.astronaut)
    insert(client, tenant, photos.astronaut)
    for form in (
        urlencoded(f"tenant_id={tenant}-victim".encode()),
        multipart(('name="tenant_id"', f"{tenant}-victim".encode())),
    ):
        answer = client.request("DELETE", f"/tenant?tenant_id={tenant}", **form)
        assert_error(answer, 422, "invalid_parameter")
    for name in (f"{tenant}-victim", tenant):
        assert reviews(client, name)
    assert not is_gone(client, "/image", tenant_id=f"{tenant}-victim", image_id=victim["image_id"])


def test_one_value_in_both_places_is_taken(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    answer = client.post(
        "/insert-image",
        params={"tenant_id": tenant},
        data={"tenant_id": tenant},
        files={"image": photos.nobody},
    )
    assert answer.status_code == 200, answer.text
    again = client.request(
        "GET",
        f"/image?tenant_id={tenant}",
        data={"tenant_id": tenant, "image_id": answer.json()["image_id"]},
    )
    assert again.status_code == 200, again.text


def test_parameters_of_one_request_may_come_in_both_places(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    image = insert(client, tenant, photos.nobody)["image_id"]
    answer = client.request("GET", f"/image?tenant_id={tenant}", data={"image_id": image})
    assert answer.status_code == 200, answer.text


SPELLINGS: dict[str, Callable[[str], str]] = {
    "capitals": str.upper,
    "braces": lambda id_: f"{{{id_}}}",
    "a urn": lambda id_: f"urn:uuid:{id_}",
    "no hyphens": lambda id_: id_.replace("-", ""),
    "other hyphens": lambda id_: "-".join(id_.replace("-", "")),
    "other digits": lambda id_: id_.translate({ord("0") + n: 0xFF10 + n for n in range(10)}),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_id_has_one_spelling(
    client: httpx.Client, tenant: str, photos: Photos, spelling: str
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    respelled = SPELLINGS[spelling]
    face, cluster = only_face(answer), only_cluster(answer)
    ids = {"image_id": answer["image_id"], "face_id": face, "cluster_id": cluster}
    ids |= {"to_cluster_id": cluster, "from_cluster_id": cluster, "into_cluster_id": cluster}
    for method, path, names in BY_ID:
        if path == "/review-pending":
            continue
        sent = {**{name: ids[name] for name in names}, names[-1]: respelled(ids[names[-1]])}
        assert_error(call(client, method, path, tenant_id=tenant, **sent), 404, "not_found")
    assert not is_gone(client, "/face", tenant_id=tenant, face_id=face)


@pytest.mark.parametrize("prefix", ["+", "0", "-0", "%D9%A0"])
def test_a_number_has_one_spelling(
    client: httpx.Client, tenant: str, photos: Photos, prefix: str
) -> None:
    insert(client, tenant, photos.astronaut)
    (review,) = reviews(client, tenant)
    path = f"/review-pending?tenant_id={tenant}&review_id="
    assert client.get(f"{path}{review['id']}").status_code == 200
    assert_error(client.get(f"{path}{prefix}{review['id']}"), 422, "invalid_parameter")


def test_an_image_has_one_place(client: httpx.Client, tenant: str, photos: Photos) -> None:
    path = f"/insert-image?tenant_id={tenant}&image=another"
    raw = client.post(path, content=photos.nobody, headers={"Content-Type": "image/jpeg"})
    form = client.post(path, files={"image": photos.nobody})
    for answer in (raw, form):
        assert_error(answer, 422, "invalid_parameter")
