"""How requests share the room there is: bytes, tenants, and connections that stay or are closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.support.calls import (
    Photos,
    assert_error,
    assert_error_body,
    metric,
    read_answer,
    send,
    send_raw,
    started_request,
    wait_until,
)
from tests.support.folders import open_folder
from tests.support.service import ServiceProcess

MIB = 1 << 20
MAX_BODY = 4 * MIB
MAX_BYTES = 6 * MIB
MAX_REQUESTS = 8
MAX_OF_ONE_TENANT = 6
FORM = {"Content-Type": "multipart/form-data; boundary=limit"}
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def roomy(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service with room for eight requests, and for one and a half of the largest bodies."""
    settings = {
        "FACETTE_SERVER_MAX_REQUESTS_IN_FLIGHT": str(MAX_REQUESTS),
        "FACETTE_SERVER_MAX_BYTES_IN_FLIGHT": str(MAX_BYTES),
        "FACETTE_SERVER_MAX_BODY_BYTES": str(MAX_BODY),
    }
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, settings).start()
        yield process
        assert process.stop() == 0


@pytest.fixture
def client(roomy: ServiceProcess) -> Iterator[httpx.Client]:
    """A client of that service, once it has nothing to do."""
    with roomy.client() as found:
        wait_until(lambda: in_flight(found) == (0, 0))
        yield found


def test_bodies_are_taken_while_their_bytes_have_room(
    client: httpx.Client, roomy: ServiceProcess, photos: Photos
) -> None:
    with uploads_held(client, roomy, [4 * MIB]):
        before = refused(client, "bytes")
        answer = send_raw(client, "/v1/detect", photos.nobody + bytes(3 * MIB))
        assert_error(answer, 429, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert refused(client, "bytes") == before + 1
        assert send_raw(client, "/v1/detect", photos.nobody + bytes(MIB)).status_code == 200


def test_a_body_of_unknown_length_takes_the_room_of_the_largest(
    client: httpx.Client, roomy: ServiceProcess
) -> None:
    unknown = {**JPEG, "Transfer-Encoding": "chunked"}
    with started_request(roomy, "POST", "/v1/detect", unknown):
        wait_until(lambda: in_flight(client) == (1, MAX_BODY))
        with started_request(roomy, "POST", "/v1/detect", unknown) as connection:
            status, headers, body = read_answer(connection)
    assert (status, headers["connection"]) == (429, "close")
    assert_error_body(body, "overloaded")


def test_a_request_without_a_body_has_room_when_no_byte_has(
    client: httpx.Client, roomy: ServiceProcess, tenant: str
) -> None:
    with uploads_held(client, roomy, [4 * MIB, 2 * MIB]):
        answer = client.get("/review-pending-list", params={"tenant_id": tenant})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("way", ["query", "form"])
def test_one_tenant_leaves_a_quarter_of_the_room_to_others(
    client: httpx.Client, roomy: ServiceProcess, tenant: str, photos: Photos, way: str
) -> None:
    with uploads_held(client, roomy, [1000] * MAX_OF_ONE_TENANT, tenant):
        before = refused(client, "tenant")
        if way == "form":
            answer = send(client, tenant, photos.nobody)
        else:
            answer = send_raw(client, "/v1/embed", photos.nobody, tenant_id=tenant)
        assert_error(answer, 429, "overloaded")
        assert refused(client, "tenant") == before + 1
        assert in_flight(client)[0] == MAX_OF_ONE_TENANT
        assert send(client, f"{tenant}-other", photos.nobody).status_code == 200
    wait_until(lambda: in_flight(client) == (0, 0))
    assert send(client, tenant, photos.nobody).status_code == 200


def test_callers_without_a_tenant_may_fill_all_the_room(
    client: httpx.Client, roomy: ServiceProcess, photos: Photos
) -> None:
    with uploads_held(client, roomy, [1000] * (MAX_REQUESTS - 1)):
        assert send_raw(client, "/v1/detect", photos.nobody).status_code == 200
    with uploads_held(client, roomy, [1000] * MAX_REQUESTS):
        before = refused(client, "requests")
        assert_error(send_raw(client, "/v1/detect", photos.nobody), 429, "overloaded")
        assert refused(client, "requests") == before + 1


@pytest.mark.parametrize("size", [1, 20_000, MIB])
@pytest.mark.parametrize("kind", [FORM, JPEG], ids=["form", "raw"])
def test_a_small_refused_body_is_answered_at_once_and_its_connection_stays(
    client: httpx.Client, roomy: ServiceProcess, size: int, kind: dict[str, str]
) -> None:
    head = {**kind, "Content-Length": str(size)}
    with (
        uploads_held(client, roomy, [1000] * MAX_REQUESTS),
        started_request(roomy, "POST", "/v1/detect", head) as connection,
    ):
        status, headers, body = answer_on(connection)
        assert status == 429
        assert headers.get("connection") != "close"
        assert_error_body(body, "overloaded")
        connection.sendall(bytes(size))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, body = answer_on(connection)
    assert (status, body) == (200, '{"status":"alive"}')


def test_a_large_refused_body_is_answered_at_once_and_its_connection_closed(
    client: httpx.Client, roomy: ServiceProcess
) -> None:
    head = {**JPEG, "Content-Length": str(MIB + 1)}
    with (
        uploads_held(client, roomy, [1000] * MAX_REQUESTS),
        started_request(roomy, "POST", "/v1/detect", head) as connection,
    ):
        status, headers, body = read_answer(connection)
        assert (status, headers["connection"]) == (429, "close")
        assert_error_body(body, "overloaded")
        connection.sendall(bytes(MIB + 1))
        assert connection.recv(1) == b""


def test_a_refused_caller_who_waited_for_leave_to_send_is_closed(
    client: httpx.Client, roomy: ServiceProcess
) -> None:
    head = {**JPEG, "Content-Length": "1000", "Expect": "100-continue"}
    with (
        uploads_held(client, roomy, [1000] * MAX_REQUESTS),
        started_request(roomy, "POST", "/v1/detect", head) as connection,
    ):
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (429, "close")


def test_a_refused_request_holds_no_room(client: httpx.Client, roomy: ServiceProcess) -> None:
    with uploads_held(client, roomy, [4 * MIB, 2 * MIB]):
        for _ in range(20):
            assert_error(send_raw(client, "/v1/detect", b"x"), 429, "overloaded")
        assert in_flight(client) == (2, MAX_BYTES)


@pytest.mark.parametrize("path", ["/insert-image", "/v1/embed", "/v1/detect"])
@pytest.mark.parametrize("kind", [FORM, JPEG], ids=["form", "raw"])
def test_an_upload_that_breaks_off_gives_its_room_back(
    client: httpx.Client, roomy: ServiceProcess, path: str, kind: dict[str, str]
) -> None:
    def unanswered() -> float:
        return metric(client, "facette_http_requests_total", route=path, status=499)

    def gone() -> float:
        return metric(client, "facette_clients_gone_total")

    before, gone_before = unanswered(), gone()
    with started_request(roomy, "POST", path, {**kind, "Content-Length": "1000"}) as connection:
        connection.sendall(b"--limit")
        wait_until(lambda: in_flight(client) == (1, 1000))
    wait_until(lambda: in_flight(client) == (0, 0))
    wait_until(lambda: unanswered() == before + 1)
    assert gone() == gone_before + 1


@contextmanager
def uploads_held(
    client: httpx.Client, roomy: ServiceProcess, sizes: Sequence[int], tenant: str | None = None
) -> Iterator[None]:
    """Hold room with uploads whose bodies do not come; hang up at the end."""
    path = "/v1/detect" if tenant is None else f"/v1/detect?tenant_id={tenant}"
    with ExitStack() as held:
        for size in sizes:
            head = {**JPEG, "Content-Length": str(size)}
            held.enter_context(started_request(roomy, "POST", path, head))
        wait_until(lambda: in_flight(client) == (len(sizes), sum(sizes)))
        yield


def in_flight(client: httpx.Client) -> tuple[float, float]:
    """Requests and bytes inside; asking for metrics takes no room."""
    return (
        metric(client, "facette_requests_in_flight"),
        metric(client, "facette_bytes_in_flight"),
    )


def refused(client: httpx.Client, reason: str) -> float:
    return metric(client, "facette_refusals_total", reason=reason)


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], str]:
    """An answer on a connection that further ones may come on."""
    answer = HTTPResponse(connection)
    answer.begin()
    head = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, head, answer.read().decode()
