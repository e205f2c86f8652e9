"""The corpus of bad input: a clear problem each, in bounded memory, and nothing half done."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.api.v1.conftest import Tenant
from tests.support.bad_input import CORPUS, PARTS, BadRequest, Chapter, Ids, World
from tests.support.batches import CONTENT_TYPE, END, part
from tests.support.calls import Photos, metric, read_answer, started_request, wait_until
from tests.support.folders import open_folder
from tests.support.memory import peak_mb, reset_peak, resident_mb
from tests.support.service import ServiceProcess

MOST_MB = 200
UNREADING = 4


@pytest.fixture(scope="module")
def service(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service of these tests alone, whose memory is looked at."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir).start()
        yield process
        assert process.stop() == 0
        assert "Traceback" not in process.log


@pytest.fixture(scope="module")
def world(service: ServiceProcess, photos: Photos) -> World:
    with service.client() as client:
        own, foreign = (_filled(Tenant(client, name), photos) for name in ("own", "foreign"))
        person = f"/v1/tenants/own/people/{own.person}"
        stale = client.get(person).headers["etag"]
        assert client.patch(person, json={"label": "Ada"}).status_code == 200
    return World(own, foreign, photos.nobody, stale)


@pytest.fixture(scope="module")
def idle_mb(service: ServiceProcess, world: World) -> float:
    """The memory of the service once it has done each kind of work."""
    reset_peak(service.pid)
    return resident_mb(service.pid)


def _filled(house: Tenant, photos: Photos) -> Ids:
    stored = house.insert(photos.both)
    first, second = stored["faces"]
    return Ids(house.name, stored["image_id"], first["id"], first["person_id"], second["person_id"])


def state_of(service: ServiceProcess) -> Any:
    """All people, faces and tenants; images without faces aside, which batches may have stored."""
    with service.client() as client:
        houses = [Tenant(client, name) for name in ("own", "foreign")]
        people = {house.name: house.people(hidden="any") for house in houses}
        faces = [
            house.listed(f"/people/{person['id']}/faces")
            for house in houses
            for person in people[house.name]
        ]
        tenants = [tenant["id"] for tenant in client.get("/v1/tenants").json()["items"]]
    return people, faces, tenants


def send_raw(service: ServiceProcess, bad: BadRequest) -> tuple[int, Mapping[str, str], Any]:
    """Send a request as it is, and read its answer, which may come before the request's end."""
    headers = dict(bad.headers)
    if bad.method in ("POST", "PATCH"):
        headers["Transfer-Encoding"] = "chunked"
    with started_request(service, bad.method, bad.path, headers) as connection:
        if bad.method in ("POST", "PATCH"):
            with suppress(BrokenPipeError, ConnectionResetError):
                for piece in bad.body():
                    if piece:
                        connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                connection.sendall(b"0\r\n\r\n")
        status, answered, body = read_answer(connection)
    return status, answered, json.loads(body)


@pytest.mark.parametrize("chapter", CORPUS, ids=lambda chapter: chapter.__name__)
def test_each_bad_request_has_a_clear_problem_and_changes_nothing(
    service: ServiceProcess, world: World, idle_mb: float, chapter: Chapter
) -> None:
    before = state_of(service)
    wrong = []
    for bad in chapter(world):
        status, headers, body = send_raw(service, bad)
        problem = body.get("problem") if status == 200 else body
        kind = "application/json" if status == 200 else "application/problem+json"
        found = (status, problem and problem.get("code"))
        if found not in bad.expected or headers["content-type"] != kind:
            wrong.append(f"{bad.method} {bad.path[:100]} ({bad.name}): {found}")
        elif not problem["detail"] or len(json.dumps(problem)) > 8192:
            wrong.append(f"{bad.name}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert state_of(service) == before
    assert peak_mb(service.pid) - idle_mb < MOST_MB


def test_clients_that_stop_reading_keep_nobody_out(
    service: ServiceProcess, world: World, idle_mb: float
) -> None:
    body = b"".join([*[part(b"x")] * PARTS, END])
    head = {"Content-Type": CONTENT_TYPE, "Content-Length": str(len(body))}
    with ExitStack() as stack, service.client() as client:
        for _ in range(UNREADING):
            link = stack.enter_context(
                started_request(service, "POST", f"{world.own.path}/images/batch", head)
            )
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with suppress(BrokenPipeError, ConnectionResetError):
                link.sendall(body)
        house = Tenant(client, world.own.tenant)
        assert len(house.people()) == 2
        house.insert(world.photo)
        wait_until(lambda: metric(client, "facette_bytes_in_flight") == 0)
    assert peak_mb(service.pid) - idle_mb < MOST_MB
