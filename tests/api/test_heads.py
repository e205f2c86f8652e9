"""What comes before a request is served: bounds of the head, and what is no HTTP at all."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from bench.common.server import ServiceProcess
from service.process.connection import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED
from tests.support.calls import assert_error_body, metric, wait_until

LINE = b"GET /healthz HTTP/1.1\r\n"
ASK = LINE + b"Host: x\r\n\r\n"
CHUNKED = b"POST /insert-image HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


@contextmanager
def connected(service: ServiceProcess) -> Iterator[socket.socket]:
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        yield connection


def exchange(service: ServiceProcess, data: bytes) -> bytes:
    """All that comes back until the service closes the connection."""
    with connected(service) as connection:
        sender = threading.Thread(target=send_what_is_taken, args=(connection, data))
        sender.start()
        try:
            return read_to_end(connection)
        finally:
            sender.join()


def send_what_is_taken(connection: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        connection.sendall(data)


def read_to_end(connection: socket.socket) -> bytes:
    found = bytearray()
    with suppress(ConnectionResetError):  # once the answer was given, and what followed not taken
        while data := connection.recv(1 << 16):
            found += data
    return bytes(found)


def answers(found: bytes) -> list[tuple[int, dict[str, str], str]]:
    """Status, head and body of each answer."""
    parsed = []
    while found:
        head, _, rest = found.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        length = int(headers["content-length"])
        parsed.append((int(first.split()[1]), headers, rest[:length].decode()))
        found = rest[length:]
    return parsed


def assert_refused(
    service: ServiceProcess, found: bytes, status: int, code: str, *, behind: int = 0
) -> None:
    """The last answer is an error in the one shape, with an id that stands in the log."""
    *before, (last, headers, body) = answers(found)
    assert [each[0] for each in before] == [200] * behind
    assert last == status, body
    assert_error_body(body, code)
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    name = f"request_id={headers['x-request-id']} "
    wait_until(lambda: name in service.log)
    (line,) = (line for line in service.log.splitlines() if name in line)
    assert f"status={status}" in line
    assert f"code={code}" in line


def head_of(size: int) -> bytes:
    """A whole request whose target and headers have so many bytes, as the service counts them."""
    target, host = b"/healthz", b"Host: x\r\n"
    filler = b"X: %s\r\n" % (b"y" * (size - len(target) - len(host) - len(b"X: \r\n")))
    return b"GET " + target + b" HTTP/1.1\r\n" + host + filler + b"\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz FTP/1.1\r\n\r\n",
        b"NO_SUCH /healthz HTTP/1.1\r\n\r\n",
        b"GET /health\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        LINE + b"Bad Header: x\r\n\r\n",
        LINE + b"Host: x\r\nX: a\x00b\r\n\r\n",
        LINE + b"Host: x\r\n X: folded\r\n\r\n",
        b"POST /insert-image HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /insert-image HTTP/1.1\r\nHost: x\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /insert-image HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST /insert-image HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_in_the_shape_of_all_errors(
    service: ServiceProcess, sent: bytes
) -> None:
    assert_refused(service, exchange(service, sent), 400, "malformed_request")


def test_a_head_may_have_so_many_headers_and_not_one_more(service: ServiceProcess) -> None:
    lines = [b"X-%d: y\r\n" % number for number in range(MAX_HEADERS + 1)]
    close = [b"Connection: close\r\n"]
    most = LINE + b"".join(close + lines[: MAX_HEADERS - 1]) + b"\r\n"
    ((status, _, _),) = answers(exchange(service, most))
    assert status == 200
    found = exchange(service, LINE + b"".join(lines) + b"\r\n")
    assert_refused(service, found, 431, "head_too_large")


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_head_may_have_so_many_bytes_and_not_one_more(
    service: ServiceProcess, pieces: int
) -> None:
    most = head_of(MAX_HEAD_BYTES)
    size = -(-len(most) // pieces)
    with connected(service) as connection:
        for start in range(0, len(most), size):
            connection.sendall(most[start : start + size])
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert_refused(service, exchange(service, head_of(MAX_HEAD_BYTES + 1)), 431, "head_too_large")


def test_one_header_of_thirty_megabytes_is_refused(service: ServiceProcess) -> None:
    found = exchange(service, LINE + b"Host: x\r\nX: " + b"y" * (30 << 20) + b"\r\n\r\n")
    assert_refused(service, found, 431, "head_too_large")


@pytest.mark.parametrize("length", [MAX_HEAD_BYTES, 30 << 20])
def test_a_long_target_is_refused(service: ServiceProcess, length: int) -> None:
    found = exchange(service, b"GET /" + b"a" * length + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert_refused(service, found, 431, "head_too_large")


def test_empty_lines_before_a_request_end_some_time(service: ServiceProcess) -> None:
    found = exchange(service, b"\r\n" * (1 << 20))
    assert_refused(service, found, 431, "head_too_large")


def test_trailers_count_with_the_head(service: ServiceProcess) -> None:
    trailers = b"".join(b"X-%d: y\r\n" % number for number in range(MAX_HEADERS))
    with connected(service) as connection:
        # Without a token the answer is 401, and comes at once; it may be on its way already.
        connection.sendall(CHUNKED + b"\r\n1\r\na\r\n0\r\n" + trailers)
        (first, *_) = answers(read_to_end(connection))
    assert first[0] in (401, 431)
    assert_error_body(first[2])


def test_a_token_in_the_trailers_is_none(service: ServiceProcess) -> None:
    with connected(service) as connection:
        connection.sendall(CHUNKED + b"\r\n1\r\na\r\n0\r\ntoken: a-token-for-tests\r\n\r\n")
        status_line = connection.recv(1 << 16)
    assert status_line.startswith(b"HTTP/1.1 401 ")


def test_requests_sent_in_one_go_are_answered_in_their_order(service: ServiceProcess) -> None:
    last = LINE + b"Host: x\r\nConnection: close\r\n\r\n"
    lost = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
    found = answers(exchange(service, ASK + lost + ASK * (MAX_PIPELINED - 2) + last))
    assert [status for status, _, _ in found] == [200, 404] + [200] * (MAX_PIPELINED - 1)


def test_more_requests_than_may_wait_are_refused_after_those_before_them(
    service: ServiceProcess,
) -> None:
    found = exchange(service, ASK * 10_000)
    assert_refused(service, found, 400, "pipeline_too_long", behind=MAX_PIPELINED + 1)


def test_nothing_is_served_behind_a_refused_request(
    client: httpx.Client, service: ServiceProcess, tenant: str
) -> None:
    found = exchange(service, LINE + b"Bad Header: x\r\n\r\n" + ASK)
    assert_refused(service, found, 400, "malformed_request")
    assert json.loads(answers(found)[0][2])["error"]["code"] == "malformed_request"


@pytest.mark.parametrize(
    ("sent", "reason", "code"),
    [
        (b"hello\r\n\r\n", "malformed", "malformed_request"),
        (LINE + b"X: y\r\n" * 200 + b"\r\n", "head_too_large", "head_too_large"),
    ],
)
def test_refused_requests_are_counted_and_summed_up_in_the_log(
    client: httpx.Client, service: ServiceProcess, sent: bytes, reason: str, code: str
) -> None:
    def counted() -> tuple[float, ...]:
        return (
            metric(client, "facette_connection_refusals_total", reason=reason),
            metric(client, "facette_errors_total", code=code),
            metric(client, "facette_http_requests_total", route="(none)"),
        )

    before = counted()
    exchange(service, sent)
    assert all(after > earlier for after, earlier in zip(counted(), before, strict=True))
    said = rf"connections were refused or given up .*\b{reason}=\d+"
    wait_until(lambda: re.search(said, service.log) is not None)
