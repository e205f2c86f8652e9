"""Many photos in one request: each is stored or refused alone, and nothing is stored twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from service.api.intake import GRACE_S
from service.api.parts import MAX_PARTS
from tests.api.v1.conftest import Tenant, problem
from tests.support.batches import (
    BOUNDARY,
    CONTENT_TYPE,
    END,
    codes,
    ended_by,
    files,
    marked_copies,
    part,
    send_batch,
    statuses,
)
from tests.support.calls import Photos, metric, read_answer, started_request, wait_until
from tests.support.live import adjusted
from tests.support.service import ServiceProcess

_OF_MATCHING = {"id", "image_id", "distance", "similarity", "margin", "is_auto_matched"}
KEY = {"Idempotency-Key": "a-batch"}


def images(house: Tenant) -> list[dict[str, Any]]:
    """All images of a tenant, which may not exist."""
    if house.call("GET", "").status_code == 404:
        return []
    return house.listed("/images")


@pytest.fixture
def narrow(service: ServiceProcess) -> Iterator[ServiceProcess]:
    """A service with a small limit of each photo, and of the bytes of all of them together."""
    limits = (
        "[server]\nmax_body_bytes = 65536\nmax_bytes_in_flight = 65536\n"
        "max_requests_in_flight = 1\n"
    )
    with adjusted(service, limits):
        yield service


def test_each_photo_has_its_result_in_the_order_of_the_parts(house: Tenant, photos: Photos) -> None:
    sent = [("a.jpg", photos.crowd), ("ü b.jpg", photos.nobody), ("c", photos.both)]
    answer = send_batch(house.client, house.name, files(*sent))
    found = answer.json()
    assert answer.headers["content-length"] == str(len(answer.content))
    assert ended_by(answer) is None
    assert [(each["index"], each["filename"]) for each in found["items"]] == list(
        enumerate(name for name, _ in sent)
    )
    assert statuses(answer) == [201, 201, 201]
    assert [len(each["image"]["faces"]) for each in found["items"]] == [12, 0, 2]
    assert {each["image"]["image_id"] for each in found["items"]} == {
        image["id"] for image in images(house)
    }


def test_a_photo_of_a_batch_is_stored_as_it_would_be_alone(house: Tenant, photos: Photos) -> None:
    (item,) = send_batch(house.client, house.name, files(("x", photos.both))).json()["items"]
    alone = house.insert(photos.both)
    of_both = [
        [{k: v for k, v in face.items() if k not in _OF_MATCHING} for face in found["faces"]]
        for found in (item["image"], alone)
    ]
    assert of_both[0] == of_both[1]
    stored = {image["sha256"] for image in images(house)}
    assert stored == {hashlib.sha256(photos.both).hexdigest()}


def test_a_bad_photo_fails_alone(house: Tenant, photos: Photos) -> None:
    pieces = [
        part(photos.astronaut),
        part(b"this is no photo"),
        part(photos.astronaut[:2000]),
        part(b""),
        part(b"text", 'name="note"'),
        part(b"aGVsbG8=", more="Content-Transfer-Encoding: base64\r\n"),
        part(photos.nobody, 'filename="x.jpg"'),
        part(photos.nobody, more='Content-Disposition: form-data; name="y"; filename="y"\r\n'),
        part(photos.nobody),
        END,
    ]
    answer = send_batch(house.client, house.name, pieces)
    assert codes(answer) == [
        None,
        "unsupported_image",
        "corrupt_image",
        *["invalid_parameter"] * 5,
        None,
    ]
    assert ended_by(answer) is None
    request_id = answer.headers["x-request-id"]
    for item in answer.json()["items"]:
        if item["problem"] is not None:
            assert item["image"] is None
            assert item["problem"]["status"] == item["status"]
            assert item["problem"]["request_id"] == request_id
    pointers = [
        item["problem"]["errors"][0]["pointer"]
        for item in answer.json()["items"]
        if item["problem"] and item["problem"]["code"] == "invalid_parameter"
    ]
    assert pointers == [f"/body/{nth}" for nth in range(3, 8)]
    assert len(images(house)) == 2


def test_a_part_may_be_a_file_by_its_type_alone(house: Tenant, photos: Photos) -> None:
    pieces = [part(photos.nobody, 'name="x"', "Content-Type: image/jpeg\r\n"), END]
    answer = send_batch(house.client, house.name, pieces)
    assert statuses(answer) == [201]
    assert answer.json()["items"][0]["filename"] is None


def test_a_sentence_before_and_behind_the_form_says_nothing(house: Tenant, photos: Photos) -> None:
    pieces = [b"A form follows.\r\n", *files(("x", photos.nobody)), b"That was it.\r\n" * 100]
    answer = send_batch(house.client, house.name, pieces)
    assert statuses(answer) == [201]
    assert ended_by(answer) is None


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_form_may_arrive_in_pieces_of_any_size(house: Tenant, photos: Photos, size: int) -> None:
    nearly = b"\r\n--" + BOUNDARY.encode()
    sent = photos.nobody, photos.nobody + nearly[:-1] + b"\r\n", photos.nobody + nearly[:9]
    form = b"".join(files(*((str(nth), photo) for nth, photo in enumerate(sent))))
    pieces = (form[start : start + size] for start in range(0, len(form), size))
    assert statuses(send_batch(house.client, house.name, pieces)) == [201] * 3
    stored = {image["sha256"] for image in images(house)}
    assert stored == {hashlib.sha256(photo).hexdigest() for photo in sent}


_CUT_OFF = {
    "behind a photo": (b"", 1, "breaks off"),
    "behind a boundary": (b"--" + BOUNDARY.encode() + b"\r\n", 2, "breaks off"),
    "in a head": (b"--" + BOUNDARY.encode() + b"\r\nContent-Disp", 2, "breaks off"),
    "in a photo": (part(bytes(1000))[:-2], 2, "breaks off"),
    "with a head that is none": (
        b"--" + BOUNDARY.encode() + b"\r\nno header at all\r\n\r\n", 2, "malformed",
    ),
    "with a head too long": (part(b"", more=f"X: {'x' * 5000}\r\n"), 2, "malformed"),
    "with too many heads": (part(b"", more="X: x\r\n" * 100), 2, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("where", _CUT_OFF)
def test_a_form_that_breaks_off_ends_there(house: Tenant, photos: Photos, where: str) -> None:
    end, stored, says = _CUT_OFF[where]
    sent = [part(photos.nobody), part(photos.both), end]
    answer = send_batch(house.client, house.name, sent)
    assert statuses(answer) == [201] * stored
    assert ended_by(answer) == "malformed_body"
    assert says in answer.json()["problem"]["detail"]
    assert len(images(house)) == stored


_NO_FORMS = {
    "a photo": ("image/jpeg", [b"\xff\xd8\xff"]),
    "another kind of multipart": ("multipart/mixed; boundary=x", [b"--x--\r\n"]),
    "no boundary": ("multipart/form-data", [b"--x--\r\n"]),
    "two boundaries": ("multipart/form-data; boundary=x; boundary=y", [b"--x--\r\n"]),
    "a long boundary": (f"multipart/form-data; boundary={'x' * 300}", [b"--x--\r\n"]),
    "another charset": (f"{CONTENT_TYPE}; charset=utf-16", [END]),
    "a wrong boundary": ("multipart/form-data; boundary=y", files(("x", b"\xff\xd8\xff"))),
    "line ends": (CONTENT_TYPE, [b"\r\n" * 100_000]),
    "hyphens": (CONTENT_TYPE, [b"-" * 1_000_000]),
    "nothing": (CONTENT_TYPE, [b""]),
}


@pytest.mark.parametrize("what", _NO_FORMS)
def test_what_is_no_form_is_answered_as_an_error(house: Tenant, what: str) -> None:
    kind, pieces = _NO_FORMS[what]
    answer = send_batch(house.client, house.name, pieces, {"Content-Type": kind})
    assert answer.status_code == 422
    assert problem(answer) == "malformed_body"


def test_an_empty_form_is_answered_as_an_error(house: Tenant) -> None:
    answer = send_batch(house.client, house.name, [END])
    assert answer.status_code == 422
    assert problem(answer) == "invalid_parameter"
    assert images(house) == []


def test_more_parts_than_allowed_end_the_batch(house: Tenant) -> None:
    pieces = [*[part(b"x")] * 10_000, END]
    answer = send_batch(house.client, house.name, pieces)
    assert codes(answer) == ["unsupported_image"] * MAX_PARTS
    assert ended_by(answer) == "malformed_body"
    assert answer.headers["connection"] == "close"


def test_a_query_that_the_contract_does_not_have_is_refused(house: Tenant, photos: Photos) -> None:
    for query in ({"on_duplicate": "perhaps"}, {"tenant_id": "x"}):
        answer = send_batch(house.client, house.name, files(("x", photos.nobody)), **query)
        assert answer.status_code == 422
        assert problem(answer) == "invalid_parameter"
    assert images(house) == []


def test_a_photo_above_the_limit_fails_alone(narrow: ServiceProcess, photos: Photos) -> None:
    with narrow.client() as client:
        large = photos.nobody + bytes(65536)
        sent = ("a", photos.nobody), ("b", large), ("c", photos.nobody)
        answer = send_batch(client, "limit", files(*sent))
    assert codes(answer) == [None, "body_too_large", None]
    assert ended_by(answer) is None


def test_a_batch_may_be_larger_than_the_bytes_that_are_held_at_once(
    narrow: ServiceProcess, photos: Photos
) -> None:
    padded = photos.nobody + bytes(40_000)
    with narrow.client() as client:
        named = [(str(nth), photo) for nth, photo in enumerate(marked_copies(padded, 12))]
        body = b"".join(files(*named))
        answer = client.post(
            "/v1/tenants/larger/images/batch", content=body, headers={"Content-Type": CONTENT_TYPE}
        )
        assert statuses(answer) == [201] * 12
        assert metric(client, "facette_bytes_in_flight") == 0
        assert metric(client, "facette_requests_in_flight") == 0


def test_a_batch_longer_than_any_is_refused_before_it_comes(narrow: ServiceProcess) -> None:
    head = {"Content-Length": str(65536 * MAX_PARTS + 1), "Content-Type": CONTENT_TYPE}
    path = "/v1/tenants/x/images/batch"
    with started_request(narrow, "POST", path, head) as connection:
        status, _, body = read_answer(connection)
    assert status == 413
    assert json.loads(body)["code"] == "body_too_large"


def test_a_batch_that_does_not_go_on_is_answered_with_what_was_stored(
    house: Tenant, service: ServiceProcess, photos: Photos
) -> None:
    head = {"Transfer-Encoding": "chunked", "Content-Type": CONTENT_TYPE}
    path = f"/v1/tenants/{house.name}/images/batch"
    with started_request(service, "POST", path, head) as connection:
        connection.settimeout(6 * GRACE_S)
        sent = part(photos.nobody) + part(photos.both)[:-100]
        connection.sendall(b"%x\r\n%s\r\n" % (len(sent), sent))
        status, headers, body = read_answer(connection)
    assert status == 200
    assert headers["connection"] == "close"
    found = json.loads(body)
    assert [item["status"] for item in found["items"]] == [201]
    assert found["problem"]["code"] == "upload_timeout"
    assert len(images(house)) == 1


def test_a_client_that_leaves_ends_the_batch(
    house: Tenant, service: ServiceProcess, photos: Photos
) -> None:
    head = {"Transfer-Encoding": "chunked", "Content-Type": CONTENT_TYPE}
    path = f"/v1/tenants/{house.name}/images/batch"
    with started_request(service, "POST", path, head) as connection:
        for sent in (part(photos.nobody), part(photos.both)[:-100]):
            connection.sendall(b"%x\r\n%s\r\n" % (len(sent), sent))
        wait_until(lambda: len(images(house)) == 1)
    wait_until(lambda: metric(house.client, "facette_requests_in_flight") == 0)
    assert metric(house.client, "facette_bytes_in_flight") == 0
    assert len(images(house)) == 1


def test_each_photo_has_the_time_of_a_request(house: Tenant, photos: Photos) -> None:
    headers = {"X-Request-Timeout-Ms": "1"}
    answer = send_batch(house.client, house.name, files(("x", photos.crowd)), headers)
    assert codes(answer) == ["deadline_exceeded"]
    assert statuses(answer) == [504]


def test_duplicates_are_treated_as_the_query_says(house: Tenant, photos: Photos) -> None:
    twice = files(("a", photos.nobody), ("b", photos.nobody), ("c", photos.both))
    stored = send_batch(house.client, house.name, twice, on_duplicate="return")
    assert sorted(statuses(stored)) == [200, 201, 201]
    again = send_batch(house.client, house.name, twice, on_duplicate="reject")
    assert codes(again) == ["duplicate_image"] * 3
    assert {item["problem"]["image_id"] for item in again.json()["items"]} == {
        image["id"] for image in images(house)
    }
    assert len(images(house)) == 2


def test_a_batch_sent_again_with_its_key_stores_nothing_twice(
    house: Tenant, photos: Photos
) -> None:
    sent = files(("a", photos.nobody), ("b", photos.nobody), ("bad", b"x"), ("c", photos.both))
    first, second = (send_batch(house.client, house.name, sent, KEY) for _ in range(2))
    assert codes(first) == [None, None, "unsupported_image", None]
    stored = [item["image"] for item in first.json()["items"]]
    assert [item["image"] for item in second.json()["items"]] == stored
    assert len(images(house)) == 3


def test_a_batch_cut_off_and_sent_again_misses_nothing_and_stores_nothing_twice(
    house: Tenant, photos: Photos
) -> None:
    sent = files(*[(str(nth), photo) for nth, photo in enumerate(marked_copies(photos.nobody, 9))])
    cut = send_batch(house.client, house.name, [*sent[:4], sent[4][:100]], KEY)
    assert ended_by(cut) == "malformed_body"
    whole = send_batch(house.client, house.name, sent, KEY)
    assert statuses(whole) == [201] * 9
    kept = [item["image"]["image_id"] for item in cut.json()["items"]]
    assert [item["image"]["image_id"] for item in whole.json()["items"][:4]] == kept
    assert len(images(house)) == 9


def test_another_photo_at_the_same_place_is_refused_alone(house: Tenant, photos: Photos) -> None:
    send_batch(house.client, house.name, files(("a", photos.nobody), ("b", photos.both)), KEY)
    other = files(("a", photos.nobody), ("b", photos.hopper))
    answer = send_batch(house.client, house.name, other, KEY)
    assert codes(answer) == [None, "idempotency_key_reused"]
    assert len(images(house)) == 2


def test_a_key_that_is_none_is_refused_before_anything_is_stored(
    house: Tenant, photos: Photos
) -> None:
    headers = {"Idempotency-Key": "has a blank"}
    answer = send_batch(house.client, house.name, files(("a", photos.nobody)), headers)
    assert answer.status_code == 422
    assert problem(answer) == "invalid_parameter"
    assert images(house) == []


def test_a_key_of_one_photo_is_none_of_a_batch(house: Tenant, photos: Photos) -> None:
    house.ask(
        "POST",
        "/images",
        201,
        content=photos.nobody,
        headers={"Content-Type": "image/jpeg", **KEY},
    )
    answer = send_batch(house.client, house.name, files(("a", photos.nobody)), KEY)
    assert statuses(answer) == [201]
    assert len(images(house)) == 2
