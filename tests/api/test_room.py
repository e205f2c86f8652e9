"""How requests share the room there is: bytes, tenants, and connections that stay or are closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

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
from tests.support.live import adjusted
from tests.support.service import TOKEN, ServiceProcess

MIB = 1 << 20
MAX_BODY = 4 * MIB
MAX_BYTES = 6 * MIB
MAX_REQUESTS = 8
MAX_OF_ONE_TENANT = 6
FORM = {"Content-Type": "multipart/form-data; boundary=limit"}
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def roomy(service: ServiceProcess) -> Iterator[ServiceProcess]:
    """A service with room for eight requests, and for one and a half of the largest bodies."""
    limits = (
        f"[server]\nmax_requests_in_flight = {MAX_REQUESTS}\n"
        f"max_bytes_in_flight = {MAX_BYTES}\nmax_body_bytes = {MAX_BODY}\n"
    )
    with adjusted(service, limits):
        yield service


@pytest.fixture
def client(roomy: ServiceProcess) -> Iterator[httpx.Client]:
    """A client of that service, once it has nothing to do."""
    with roomy.client() as found:
        wait_until(lambda: in_flight(found) == (0, 0))
        yield found


def test_bodies_are_taken_while_their_bytes_have_room(
    client: httpx.Client, roomy: ServiceProcess, photos: Photos
) -> None:
    with uploads_held(client, roomy, [4 * MIB], "other"):
        before = refused(client, "bytes")
        answer = send_raw(client, "/v1/detect", photos.nobody + bytes(3 * MIB))
        assert_error(answer, 429, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert refused(client, "bytes") == before + 1
        assert send_raw(client, "/v1/detect", photos.nobody + bytes(MIB)).status_code == 200


@pytest.mark.parametrize(
    "how", [{"Content-Length": str(MAX_BODY)}, {"Transfer-Encoding": "chunked"}]
)
def test_what_has_not_arrived_takes_no_room(
    client: httpx.Client, roomy: ServiceProcess, photos: Photos, how: dict[str, str]
) -> None:
    with ExitStack() as held:
        for _ in range(MAX_OF_ONE_TENANT):
            held.enter_context(started_request(roomy, "POST", "/v1/detect", {**JPEG, **how}))
        wait_until(lambda: in_flight(client) == (MAX_OF_ONE_TENANT, 0))
        answer = send_raw(client, "/v1/detect", photos.nobody + bytes(3 * MIB), tenant_id="other")
        assert answer.status_code == 200


def test_upload_that_holds_the_most_makes_room(
    client: httpx.Client, roomy: ServiceProcess, tenant: str, photos: Photos
) -> None:
    before = refused(client, "address")
    path, unknown = f"/v1/detect?tenant_id={tenant}", {**JPEG, "Transfer-Encoding": "chunked"}
    with started_request(roomy, "POST", path, unknown) as connection:
        size = 4 * MIB - 100
        connection.sendall(b"%x\r\n" % size + bytes(size))
        wait_until(lambda: in_flight(client) == (1, size))
        with started_request(roomy, "POST", "/v1/detect", unknown) as other:
            data = photos.nobody + bytes(3 * MIB)
            other.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
            assert read_answer(other)[0] == 200
        status, headers, body = read_answer(connection)
    assert (status, headers["connection"]) == (429, "close")
    assert int(headers["retry-after"]) >= 1
    assert_error_body(body, "overloaded")
    assert refused(client, "address") == before + 1


def test_a_request_without_a_body_has_room_when_no_byte_has(
    client: httpx.Client, roomy: ServiceProcess, tenant: str
) -> None:
    with uploads_held(client, roomy, [4 * MIB], "a"), uploads_held(client, roomy, [MIB], "b", 2):
        assert_error(send_raw(client, "/v1/detect", bytes(MIB)), 429, "overloaded")
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


def test_callers_without_a_tenant_share_the_room_of_their_address(
    client: httpx.Client, roomy: ServiceProcess, tenant: str, photos: Photos
) -> None:
    with uploads_held(client, roomy, [1000] * MAX_OF_ONE_TENANT):
        assert_error(send_raw(client, "/v1/detect", photos.nobody), 429, "overloaded")
        answer = send_raw(client, "/v1/detect", photos.nobody, tenant_id=tenant)
        assert answer.status_code == 200
        with uploads_held(client, roomy, [1000], tenant, MAX_OF_ONE_TENANT + 1):
            before = refused(client, "address")
            answer = send_raw(client, "/v1/detect", photos.nobody, tenant_id=f"{tenant}-other")
            assert_error(answer, 429, "overloaded")
            assert refused(client, "address") == before + 1
            with another_address(roomy) as elsewhere:
                assert send_raw(elsewhere, "/v1/detect", photos.nobody).status_code == 200


@pytest.mark.parametrize("size", [1, 20_000, MIB])
@pytest.mark.parametrize("kind", [FORM, JPEG], ids=["form", "raw"])
def test_a_small_refused_body_is_answered_at_once_and_its_connection_stays(
    client: httpx.Client, roomy: ServiceProcess, size: int, kind: dict[str, str]
) -> None:
    head = {**kind, "Content-Length": str(size)}
    with (
        uploads_held(client, roomy, [1000] * MAX_OF_ONE_TENANT),
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
        uploads_held(client, roomy, [1000] * MAX_OF_ONE_TENANT),
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
        uploads_held(client, roomy, [1000] * MAX_OF_ONE_TENANT),
        started_request(roomy, "POST", "/v1/detect", head) as connection,
    ):
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (429, "close")


def test_a_refused_request_holds_no_room(client: httpx.Client, roomy: ServiceProcess) -> None:
    with uploads_held(client, roomy, [4 * MIB]):
        for _ in range(20):
            assert_error(send_raw(client, "/v1/detect", bytes(MIB)), 429, "overloaded")
        assert in_flight(client) == (1, 4 * MIB - 1)


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
        wait_until(lambda: in_flight(client) == (1, len("--limit")))
    wait_until(lambda: in_flight(client) == (0, 0))
    wait_until(lambda: unanswered() == before + 1)
    assert gone() == gone_before + 1


@contextmanager
def uploads_held(
    client: httpx.Client,
    roomy: ServiceProcess,
    sizes: Sequence[int],
    tenant: str | None = None,
    requests: int = 0,
) -> Iterator[None]:
    """Hold room with uploads that lack their last byte; hang up at the end.

    Args:
        requests: how many are held afterwards, with those of before.
    """
    path = "/v1/detect" if tenant is None else f"/v1/detect?tenant_id={tenant}"
    with ExitStack() as held:
        before = in_flight(client)[1]
        for size in sizes:
            head = {**JPEG, "Content-Length": str(size)}
            held.enter_context(started_request(roomy, "POST", path, head)).sendall(bytes(size - 1))
        wanted = (requests or len(sizes), before + sum(sizes) - len(sizes))
        wait_until(lambda: in_flight(client) == wanted)
        yield


def another_address(roomy: ServiceProcess) -> httpx.Client:
    """A client of another address."""
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    return httpx.Client(base_url=roomy.url, headers={"token": TOKEN}, transport=transport)


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
