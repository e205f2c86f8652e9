"""Limits of body, pixels and requests at once, on a service with small ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest
from PIL import Image

from tests.support.calls import (
    Photos,
    assert_error,
    assert_error_body,
    decode,
    encode,
    metric,
    read_answer,
    send,
    started_request,
    stored,
    wait_until,
)
from tests.support.folders import open_folder
from tests.support.service import ServiceProcess

MAX_BODY = 64 * 1024
MAX_PIXELS = 100_000
UPLOAD_TIMEOUT_S = 15
CHUNK = 4096
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def limited(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service that takes one request at a time, of few bytes and pixels."""
    settings = {
        "FACETTE_SERVER_MAX_REQUESTS_IN_FLIGHT": "1",
        "FACETTE_SERVER_MAX_BODY_BYTES": str(MAX_BODY),
        "FACETTE_SERVER_UPLOAD_TIMEOUT_S": str(UPLOAD_TIMEOUT_S),
        "FACETTE_IMAGES_MAX_PIXELS": str(MAX_PIXELS),
        "FACETTE_SERVER_CORS_ORIGINS": f"{PAGE}, http://localhost:5173",
    }
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, settings).start()
        yield process
        assert process.stop() == 0


@pytest.fixture
def client(limited: ServiceProcess) -> Iterator[httpx.Client]:
    """A client of that service, once it has nothing to do."""
    with limited.client() as found:
        wait_until_in_flight(found, 0)
        yield found


@pytest.mark.parametrize("announced", [MAX_BODY + 1, 10**12])
@pytest.mark.parametrize("path", ["/insert-image", "/update-face-cluster", "/nowhere"])
def test_a_body_announced_too_large_is_refused_before_it_comes(
    client: httpx.Client, limited: ServiceProcess, path: str, announced: int
) -> None:
    with started_request(limited, "POST", path, {"Content-Length": str(announced)}) as connection:
        status, headers, body = read_answer(connection)
    assert status == 413
    assert headers["connection"] == "close"
    assert_error_body(body, "body_too_large")


def test_a_client_that_asks_first_is_told_not_to_send(
    client: httpx.Client, limited: ServiceProcess
) -> None:
    asking = {"Content-Length": str(MAX_BODY + 1), "Expect": "100-continue"}
    with started_request(limited, "POST", "/insert-image", asking) as connection:
        first_line = connection.recv(12)
    assert first_line == b"HTTP/1.1 413"


def test_an_unannounced_body_is_refused_once_it_is_too_large(
    client: httpx.Client, limited: ServiceProcess
) -> None:
    head = {"Transfer-Encoding": "chunked", "Content-Type": "multipart/form-data; boundary=limit"}
    with started_request(limited, "POST", "/insert-image", head) as connection:
        part = b'--limit\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for data in (part, *[bytes(CHUNK)] * (MAX_BODY // CHUNK)):
            connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))
        status, headers, body = read_answer(connection)  # the last chunk is never sent
    assert status == 413
    assert headers["connection"] == "close"
    assert_error_body(body, "body_too_large")


def test_the_largest_body_is_accepted_and_one_byte_more_is_not(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    def padded(size: int) -> bytes:
        return photos.nobody + bytes(size - len(photos.nobody))

    empty = client.build_request(
        "POST", "/insert-image", data={"tenant_id": tenant}, files={"image": b""}
    )
    room = MAX_BODY - int(empty.headers["content-length"])
    assert send(client, tenant, padded(room)).status_code == 200
    wait_until_in_flight(client, 0)
    assert_error(send(client, tenant, padded(room + 1)), 413, "body_too_large")


def test_nothing_of_a_refused_body_stays_behind(
    client: httpx.Client, limited: ServiceProcess, tenant: str, photos: Photos
) -> None:
    before = stored(limited)
    send(client, tenant, photos.astronaut + bytes(MAX_BODY))
    wait_until_in_flight(client, 0)
    assert stored(limited) == before


def test_the_largest_photo_is_accepted_and_a_row_more_is_not(
    client: httpx.Client, tenant: str
) -> None:
    largest, larger = (Image.new("L", (250, 400 + more)) for more in (0, 1))
    assert send(client, tenant, encode(largest, "PNG")).status_code == 200
    wait_until_in_flight(client, 0)
    assert_error(send(client, tenant, encode(larger, "PNG")), 422, "image_too_large")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/insert-image"), ("GET", "/image"), ("DELETE", "/tenant")]
)
def test_a_request_over_the_limit_is_told_to_come_back(
    client: httpx.Client, limited: ServiceProcess, tenant: str, method: str, path: str
) -> None:
    with unfinished_upload(client, limited):
        answer = client.request(method, path, params={"tenant_id": tenant})
        assert_error(answer, 429, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1


def test_a_request_over_the_limit_is_refused_before_its_body_comes(
    client: httpx.Client, limited: ServiceProcess
) -> None:
    head = {"Content-Length": str(MAX_BODY)}
    with (
        unfinished_upload(client, limited),
        started_request(limited, "POST", "/insert-image", head) as connection,
    ):
        status, _, body = read_answer(connection)
    assert status == 429
    assert_error_body(body, "overloaded")


async def test_callers_who_send_too_much_unannounced_get_their_answers(
    client: httpx.Client, limited: ServiceProcess
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--limit\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for _ in range(MAX_BODY // CHUNK + 8):
            yield bytes(CHUNK)

    head = {"Content-Type": "multipart/form-data; boundary=limit"}
    async with limited.async_client() as caller:
        for _ in range(20):
            answer = await caller.post("/insert-image", content=endless(), headers=head)
            assert_error(answer, 413, "body_too_large")


async def test_callers_refused_while_still_sending_get_their_answers(
    client: httpx.Client, limited: ServiceProcess, tenant: str
) -> None:
    form = {"data": {"tenant_id": tenant}, "files": {"image": bytes(MAX_BODY - 1024)}}
    with unfinished_upload(client, limited):
        async with limited.async_client() as callers:
            answers = await asyncio.gather(
                *(callers.post("/insert-image", **form) for _ in range(100))
            )
    for answer in answers:
        assert_error(answer, 429, "overloaded")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_operators_are_answered_at_the_limit(
    client: httpx.Client, limited: ServiceProcess, path: str
) -> None:
    with unfinished_upload(client, limited):
        assert client.get(path).status_code == 200


def test_a_wrong_token_is_refused_at_the_limit(
    client: httpx.Client, limited: ServiceProcess
) -> None:
    with unfinished_upload(client, limited):
        assert_error(client.get("/image", headers={"token": "another-token"}), 403)


def test_a_page_can_read_the_refusal_of_its_request(
    client: httpx.Client, limited: ServiceProcess
) -> None:
    with unfinished_upload(client, limited):
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "token"}
        preflight = httpx.options(f"{limited.url}/v1/detect", headers={"Origin": PAGE, **asked})
        assert preflight.status_code == 200
        answer = client.post("/v1/detect", content=b"x", headers={"Origin": PAGE})
        assert_error(answer, 429, "overloaded")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Retry-After" in answer.headers["access-control-expose-headers"]


def test_a_client_that_hangs_up_gives_its_permit_back(
    client: httpx.Client, limited: ServiceProcess, tenant: str, photos: Photos
) -> None:
    with unfinished_upload(client, limited):
        pass
    wait_until_in_flight(client, 0)
    assert send(client, tenant, photos.nobody).status_code == 200


def test_a_client_that_hangs_up_during_the_work_gives_its_permit_back(
    client: httpx.Client, limited: ServiceProcess, tenant: str, photos: Photos
) -> None:
    def answered() -> float:
        return metric(client, "facette_http_requests_total", route="/insert-image")

    before = answered()
    large = encode(decode(photos.crowd).resize((300, 330)))
    request = client.build_request(
        "POST", "/insert-image", data={"tenant_id": tenant}, files={"image": large}
    )
    body = request.read()
    head = {name: request.headers[name] for name in ("content-type", "content-length")}
    with started_request(limited, "POST", "/insert-image", head) as connection:
        connection.sendall(body)
    wait_until(lambda: answered() > before)
    assert send(client, tenant, photos.nobody).status_code == 200


def test_a_body_that_does_not_come_is_given_up(
    client: httpx.Client, limited: ServiceProcess
) -> None:
    head = {"Content-Length": "1000", "Content-Type": "multipart/form-data; boundary=limit"}
    with started_request(limited, "POST", "/insert-image", head) as connection:
        status, headers, body = read_answer(connection)
    assert status == 408
    assert headers["connection"] == "close"
    assert_error_body(body, "upload_timeout")
    wait_until_in_flight(client, 0)


@pytest.mark.parametrize("file", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_failed_request_gives_its_permit_back(
    client: httpx.Client, tenant: str, photos: Photos, file: bytes
) -> None:
    assert send(client, tenant, file).status_code in (415, 422)
    wait_until_in_flight(client, 0)
    assert send(client, tenant, photos.nobody).status_code == 200


@contextmanager
def unfinished_upload(client: httpx.Client, limited: ServiceProcess) -> Iterator[None]:
    """Hold the one permit with an upload whose body does not come; hang up at the end."""
    head = {"Content-Length": "1000", "Content-Type": "multipart/form-data; boundary=limit"}
    with started_request(limited, "POST", "/insert-image", head):
        wait_until_in_flight(client, 1)
        yield


def wait_until_in_flight(client: httpx.Client, wanted: int) -> None:
    """Wait until so many requests hold a permit; asking for metrics takes none."""
    wait_until(lambda: metric(client, "facette_requests_in_flight") == wanted)
