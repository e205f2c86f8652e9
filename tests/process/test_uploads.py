"""Uploads by the hundred that are silent or slow, and large ones: the service goes on."""

from __future__ import annotations

import json
import resource
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from service.machine.descriptors import raise_descriptor_limit
from tests.support.calls import assert_error, metric
from tests.support.live import running, wait_until
from tests.support.service import TOKEN, ServiceProcess

MIB = 1 << 20
MAX_REQUESTS = 256
OF_ONE_TENANT = 192
OF_EACH_KIND = 100
LARGEST = 64 * MIB
# The pace of the slow ones.
DRIP_S = 0.25
EIGHT_MB = 8 * LARGEST / 1e6


@pytest.fixture(scope="module")
def usual(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service with the default limits."""
    raise_descriptor_limit()
    with running(ServiceProcess, models_dir, {}) as service:
        yield service


class Uploads:
    """Uploads of a tenant whose bodies do not end."""

    def __init__(self, service: ServiceProcess, stack: ExitStack, tenant: str) -> None:
        self._url = httpx.URL(service.url)
        self._stack = stack
        self._path = f"/v1/detect?tenant_id={tenant}"
        self._slow: list[socket.socket] = []
        self._waiting = selectors.DefaultSelector()
        stack.callback(self._waiting.close)
        self.answers: Counter[str] = Counter()

    def open(self, length: str, first: bytes = b"", *, slow: bool = False) -> None:
        """Begin one; a slow one sends a byte with every drip."""
        assert self._url.port is not None
        link = self._stack.enter_context(
            socket.create_connection((self._url.host, self._url.port), 60)
        )
        link.sendall(
            f"POST {self._path} HTTP/1.1\r\nHost: x\r\nToken: {TOKEN}\r\nConnection: close\r\n"
            f"Content-Type: image/jpeg\r\n{length}\r\n\r\n".encode()
            + first
        )
        self._waiting.register(link, selectors.EVENT_READ)
        if slow:
            self._slow.append(link)

    def drip(self) -> None:
        """Send a byte on each slow one, and read the answers that come within a drip."""
        for link in self._slow:
            link.sendall(b"x")
        wait_s = DRIP_S
        while ready := self._waiting.select(wait_s):
            wait_s = 0.0
            for key, _ in ready:
                link = key.fileobj
                assert isinstance(link, socket.socket)
                self._waiting.unregister(link)
                if link in self._slow:
                    self._slow.remove(link)
                answer = link.recv(1 << 16)
                while not answer.endswith(b"}") and (more := link.recv(1 << 16)):
                    answer += more  # head and body may come one after the other
                head, _, body = answer.partition(b"\r\n\r\n")
                code = json.loads(body)["code"]
                self.answers[f"{head[9:12].decode()} {code}"] += 1


@pytest.mark.long
def test_hundreds_of_uploads_that_do_not_end_keep_no_other_tenant_out(
    usual: ServiceProcess, photo: bytes
) -> None:
    with ExitStack() as stack, usual.client() as client:
        uploads = Uploads(usual, stack, "many")
        for _ in range(OF_EACH_KIND):
            uploads.open(f"Content-Length: {LARGEST}")
            uploads.open("Transfer-Encoding: chunked", b"5\r\n\xff\xd8\xff\xe0\0\r\n")
            uploads.open(f"Content-Length: {LARGEST}", slow=True)
        refused = 3 * OF_EACH_KIND - OF_ONE_TENANT
        wait_until(lambda: metric(client, "facette_requests_in_flight") == OF_ONE_TENANT)
        served = 0
        while uploads.answers.total() < 3 * OF_EACH_KIND:
            uploads.drip()
            form = {"data": {"tenant_id": "other"}, "files": {"image": photo}}
            for answer in (
                client.post("/v1/detect?tenant_id=other", content=photo),
                client.post("/v1/detect", **form),
            ):
                assert answer.status_code == 200, answer.text
                served += 1
        assert served > 0
        assert uploads.answers == {"429 overloaded": refused, "408 upload_timeout": OF_ONE_TENANT}
        wait_until(lambda: metric(client, "facette_requests_in_flight") == 0)
        assert metric(client, "facette_bytes_in_flight") == 0
        assert client.post("/v1/detect?tenant_id=many", content=photo).status_code == 200


@pytest.mark.long
def test_eight_of_the_largest_bodies_do_not_stay_in_memory(
    usual: ServiceProcess, photo: bytes
) -> None:
    def upload() -> None:
        with usual.client() as client:
            answer = client.post("/v1/detect?tenant_id=a", content=photo + bytes(rest))
            statuses.append(answer.status_code)

    rest, statuses = LARGEST - len(photo), list[int]()
    upload()
    process = psutil.Process(usual.pid)
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    before_mb = peak_mb(process.pid)
    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 9
    assert peak_mb(process.pid) - before_mb < EIGHT_MB


def peak_mb(pid: int) -> float:
    """The most memory that a process had since its peak was cleared."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1e3


def test_full_temporary_folder_is_an_error_and_loses_nothing(
    usual: ServiceProcess, photo: bytes
) -> None:
    before = resource.prlimit(usual.pid, resource.RLIMIT_FSIZE)
    large = photo + bytes(3 * MIB)
    ways = (
        {"content": large},
        {"files": {"image": large}},
        {"json": {"image": "A" * (3 * MIB)}},
    )
    with usual.client() as client:
        resource.prlimit(usual.pid, resource.RLIMIT_FSIZE, (2 * MIB, before[1]))
        try:
            for sent in ways:
                answer = client.post("/v1/detect?tenant_id=a", **sent)
                assert_error(answer, 503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
            assert client.post("/v1/detect?tenant_id=a", content=photo).status_code == 200
        finally:
            resource.prlimit(usual.pid, resource.RLIMIT_FSIZE, before)
        for sent in ways[:2]:
            assert client.post("/v1/detect?tenant_id=a", **sent).status_code == 200
        assert metric(client, "facette_bytes_in_flight") == 0
