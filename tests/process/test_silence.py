"""Connections that say nothing, half of it, or too much: the service goes on, and stays small."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from bench.common.server import NO_AUTHORITIES
from service.machine.descriptors import raise_descriptor_limit
from tests.support.calls import assert_error_body, metric
from tests.support.live import end, insert, running, wait_until
from tests.support.service import TOKEN, ServiceProcess

HEAD_TIMEOUT_S = 1
KEEP_ALIVE_S = 2
FEW_DESCRIPTORS = 256
MORE_THAN_FIT = 300
# What one service may grow by while it is attacked.
GROWTH_MB = 150
LINE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
ASK = LINE + b"\r\n"


class WithFewDescriptors(ServiceProcess):
    """A service that can have few files open, and cannot raise that."""

    limit = f"ulimit -n {FEW_DESCRIPTORS}"

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        limited = f'{self.limit}; exec "$@"'
        serve = [sys.executable, "-m", "service.cli", "serve", "--port", "0", *arguments]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", limited, "sh", *serve],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process


class BegunWithFewDescriptors(WithFewDescriptors):
    """A service that begins with few, and can have more."""

    limit = f"ulimit -S -n {FEW_DESCRIPTORS}"


@pytest.fixture(scope="module", autouse=True)
def _many_descriptors() -> None:
    """The tests open more connections than most limits allow at first."""
    raise_descriptor_limit()


@pytest.fixture(scope="module")
def impatient(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service that waits for nobody long."""
    settings = {"head_timeout_s": HEAD_TIMEOUT_S, "keep_alive_s": KEEP_ALIVE_S}
    with running(ServiceProcess, models_dir, settings) as service:
        yield service


@pytest.fixture(scope="module")
def patient(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service whose time for a head does not end before a test does."""
    with running(BegunWithFewDescriptors, models_dir, {"head_timeout_s": 600}) as service:
        yield service


@pytest.fixture(scope="module")
def poor(models_dir: Path) -> Iterator[ServiceProcess]:
    """The same with few file descriptors: most connections are more than it can have."""
    with running(WithFewDescriptors, models_dir, {"head_timeout_s": 600}) as service:
        yield service


@pytest.fixture
def own(service_folder: Path) -> Iterator[list[ServiceProcess]]:
    """Services that a test starts for itself, gone however it ends."""
    found: list[ServiceProcess] = []
    yield found
    for service in found:
        end(service)


def connect(service: ServiceProcess, source: str = "127.0.0.1") -> socket.socket:
    url = httpx.URL(service.url)
    assert url.port is not None
    return socket.create_connection((url.host, url.port), 60, source_address=(source, 0))


def read_to_end(connection: socket.socket) -> bytes:
    found = bytearray()
    with suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            found += data
    return bytes(found)


def push(connection: socket.socket, data: bytes) -> None:
    """Send as much as is taken at once."""
    connection.setblocking(False)
    rest = memoryview(data)
    with suppress(BlockingIOError, ConnectionError):
        while rest:
            rest = rest[connection.send(rest) :]


class Peak:
    """The most memory that a service had since this was made."""

    def __init__(self, service: ServiceProcess) -> None:
        self._folder = Path(f"/proc/{service.pid}")
        (self._folder / "clear_refs").write_text("5")  # begins anew with what it has
        self._before = self._read()

    def _read(self) -> float:
        (line,) = (
            line
            for line in (self._folder / "status").read_text().splitlines()
            if line.startswith("VmHWM:")
        )
        return int(line.split()[1]) / 1e3

    @property
    def growth_mb(self) -> float:
        return self._read() - self._before


def refusals(service: ServiceProcess, reason: str) -> float:
    with httpx.Client(base_url=service.url, verify=NO_AUTHORITIES) as client:
        return metric(client, "facette_connection_refusals_total", reason=reason)


def open_connections(service: ServiceProcess) -> float:
    with httpx.Client(base_url=service.url, verify=NO_AUTHORITIES) as client:
        return metric(client, "facette_connections")


def is_served(service: ServiceProcess, photo: bytes) -> bool:
    """Whether operators and callers are answered, on connections of their own."""
    assert httpx.get(f"{service.url}/healthz").status_code == 200
    with service.client() as client:
        return insert(client, photo).status_code == 200


def test_half_a_head_is_answered_and_the_connection_closed(impatient: ServiceProcess) -> None:
    with connect(impatient) as connection:
        connection.sendall(LINE)
        found = read_to_end(connection)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in head
    assert_error_body(body.decode(), "head_timeout")


def test_a_head_that_trickles_gets_no_more_time(impatient: ServiceProcess) -> None:
    before = refusals(impatient, "head_timeout")
    with connect(impatient) as connection:
        connection.settimeout(0.1)
        connection.sendall(LINE + b"X: ")
        found = b""
        while not found:
            connection.sendall(b"y")
            with suppress(TimeoutError):
                found = connection.recv(1 << 16)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert refusals(impatient, "head_timeout") == before + 1


def test_a_silent_connection_is_closed_without_a_word(impatient: ServiceProcess) -> None:
    before = refusals(impatient, "silent")
    with connect(impatient) as connection:
        assert read_to_end(connection) == b""
    assert refusals(impatient, "silent") == before + 1
    wait_until(lambda: "connections were refused or given up silent=" in impatient.log)


def test_an_idle_connection_is_closed_without_a_word(impatient: ServiceProcess) -> None:
    with connect(impatient) as connection:
        connection.sendall(ASK)
        found = read_to_end(connection)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert found.count(b"HTTP/1.1") == 1


def test_half_a_head_behind_an_answer_has_its_time_too(impatient: ServiceProcess) -> None:
    with connect(impatient) as connection:
        connection.sendall(ASK + LINE)
        found = read_to_end(connection)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert found.count(b"HTTP/1.1 408 ") == 1


def test_a_body_has_more_time_than_a_head(impatient: ServiceProcess, photo: bytes) -> None:
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nToken: {TOKEN}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\nConnection: close\r\n\r\n"
    )
    before = refusals(impatient, "silent")
    with connect(impatient) as connection, connect(impatient) as silent:
        connection.sendall(head.encode() + photo[:-1])
        assert read_to_end(silent) == b""  # opened later, and given up already
        connection.sendall(photo[-1:])
        assert read_to_end(connection).startswith(b"HTTP/1.1 200 ")
    assert refusals(impatient, "silent") == before + 1


def test_unfinished_heads_take_bounded_memory(patient: ServiceProcess, photo: bytes) -> None:
    peak = Peak(patient)
    head = LINE + b"".join(b"X-%05d: y\r\n" % number for number in range(20_000))
    with ExitStack() as stack:
        for _ in range(1000):
            push(stack.enter_context(connect(patient)), head)
        assert is_served(patient, photo)
    assert refusals(patient, "head_too_large") > 0
    assert peak.growth_mb < GROWTH_MB


def test_the_largest_heads_that_may_be_unfinished_take_bounded_memory(
    patient: ServiceProcess, photo: bytes
) -> None:
    peak = Peak(patient)
    head = LINE + b"".join(b"X-%02d: %s\r\n" % (number, b"y" * 640) for number in range(98))
    with ExitStack() as stack:
        for _ in range(1000):
            push(stack.enter_context(connect(patient)), head)
        assert is_served(patient, photo)
        assert open_connections(patient) > 500
    assert peak.growth_mb < GROWTH_MB


def test_headers_of_thirty_megabytes_take_bounded_memory(
    patient: ServiceProcess, photo: bytes
) -> None:
    peak = Peak(patient)
    head = LINE + b"X: " + b"y" * (30 << 20)
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(patient)) for _ in range(8)]
        senders = [threading.Thread(target=send_all, args=(each, head)) for each in connections]
        for sender in senders:
            sender.start()
        assert is_served(patient, photo)
        for sender in senders:
            sender.join()
    assert peak.growth_mb < GROWTH_MB


def send_all(connection: socket.socket, data: bytes) -> None:
    with suppress(ConnectionError):
        connection.sendall(data)


@pytest.mark.parametrize("path", [b"/healthz", b"/metrics", b"/nowhere"])
def test_pipelined_requests_whose_answers_are_not_read_take_bounded_memory(
    patient: ServiceProcess, photo: bytes, path: bytes
) -> None:
    peak = Peak(patient)
    request = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(patient)) for _ in range(64)]
        for _ in range(4):
            for each in connections:
                push(each, request * 10_000)
        assert is_served(patient, photo)
    assert peak.growth_mb < GROWTH_MB


def test_requests_in_small_groups_whose_answers_are_not_read_take_bounded_memory(
    patient: ServiceProcess, photo: bytes
) -> None:
    peak = Peak(patient)
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(patient)) for _ in range(64)]
        for _ in range(50):
            for each in connections:
                push(each, request * 8)
        assert is_served(patient, photo)
    assert peak.growth_mb < GROWTH_MB


def test_silent_connections_beyond_the_descriptors_keep_nobody_out(
    poor: ServiceProcess, photo: bytes
) -> None:
    with ExitStack() as stack:
        for _ in range(MORE_THAN_FIT):
            stack.enter_context(connect(poor))
        assert is_served(poor, photo)
        assert httpx.get(f"{poor.url}/readyz").status_code == 200
        assert 16 < psutil.Process(poor.pid).num_fds() < FEW_DESCRIPTORS
    assert refusals(poor, "displaced") > 0
    wait_until(lambda: "connections were refused or given up displaced=" in poor.log)
    assert "too few file descriptors for server.max_connections" in poor.log


def test_silent_connections_of_many_addresses_keep_nobody_out(
    poor: ServiceProcess, photo: bytes
) -> None:
    with ExitStack() as stack:
        for number in range(MORE_THAN_FIT):
            stack.enter_context(connect(poor, f"127.0.1.{number % 5 + 1}"))
        assert is_served(poor, photo)


def test_a_request_under_way_keeps_its_place(poor: ServiceProcess, photo: bytes) -> None:
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nToken: {TOKEN}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\nConnection: close\r\n\r\n"
    )
    with ExitStack() as stack, connect(poor) as busy:
        busy.sendall(head.encode() + photo[:-1])
        with httpx.Client(base_url=poor.url) as client:
            wait_until(lambda: metric(client, "facette_requests_in_flight") == 1)
        for _ in range(MORE_THAN_FIT):
            stack.enter_context(connect(poor))
        assert httpx.get(f"{poor.url}/healthz").status_code == 200
        busy.sendall(photo[-1:])
        assert read_to_end(busy).startswith(b"HTTP/1.1 200 ")


def test_a_connection_beyond_all_that_are_served_is_told_to_come_back(
    poor: ServiceProcess,
) -> None:
    upload = (
        f"POST /v1/detect HTTP/1.1\r\nHost: x\r\nToken: {TOKEN}\r\n"
        "Content-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\n"
    )
    # An operator of another address, which has room.
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(base_url=poor.url, transport=transport) as client, ExitStack() as stack:
        before = metric(client, "facette_connection_refusals_total", reason="address")
        refused = b""
        for number in range(1, MORE_THAN_FIT):
            connection = stack.enter_context(connect(poor))
            with suppress(ConnectionError):
                connection.sendall(upload.encode())
            connection.settimeout(0.02)
            with suppress(TimeoutError):
                refused = connection.recv(1 << 16)
                break
            wait_until(lambda number=number: metric(client, "facette_requests_in_flight") >= number)
        head, _, body = refused.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in head
        assert_error_body(body.decode(), "overloaded")
        assert metric(client, "facette_connection_refusals_total", reason="address") > before


def test_half_a_head_does_not_hold_up_the_end(
    own: list[ServiceProcess], service_folder: Path, models_dir: Path
) -> None:
    settings = {
        "FACETTE_SERVER_SHUTDOWN_TIMEOUT_S": "600",
        "FACETTE_SERVER_HEAD_TIMEOUT_S": "600",
    }
    service = ServiceProcess(service_folder, models_dir, settings)
    own.append(service)
    service.start()
    with connect(service) as fresh, connect(service) as used, connect(service) as silent:
        fresh.sendall(LINE)
        used.sendall(ASK)
        answer = b""
        while not answer.endswith(b'{"status":"alive"}'):
            answer += used.recv(1 << 16)
        used.sendall(LINE)
        wait_until(lambda: open_connections(service) == 4)
        assert service.stop(signal.SIGTERM) == 0
        for connection in (fresh, used):
            found = read_to_end(connection)
            assert found.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"stopping"' in found
        assert read_to_end(silent) == b""
    assert "cut off" not in service.log


@pytest.mark.parametrize("processes", [1, 2])
def test_operations_can_have_a_port_of_their_own(
    own: list[ServiceProcess],
    service_folder: Path,
    models_dir: Path,
    photo: bytes,
    processes: int,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "FACETTE_SERVER_OPERATIONS_PORT": str(port),
        "FACETTE_SERVER_PROCESSES": str(processes),
        "FACETTE_SERVER_MAX_CONNECTIONS": str(16 * processes),
        "FACETTE_SERVER_HEAD_TIMEOUT_S": "600",
    }
    service = ServiceProcess(service_folder, models_dir, settings)
    own.append(service)
    service.start()
    operations = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(service))
        for path in ("/healthz", "/readyz", "/metrics"):
            assert httpx.get(operations + path).status_code == 200
            refused = httpx.get(service.url + path)
            assert refused.status_code == 404
            assert_error_body(refused.text, "route_not_found")
        with service.client() as client:
            assert insert(client, photo).status_code == 200
    assert httpx.post(f"{operations}/insert-image").status_code == 404
    assert "facette_faces_total" in httpx.get(f"{operations}/metrics").text
    assert service.stop() == 0
    assert "Traceback" not in service.log


def test_the_limit_of_descriptors_is_raised(patient: ServiceProcess) -> None:
    limit, highest = psutil.Process(patient.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert limit == highest > FEW_DESCRIPTORS
