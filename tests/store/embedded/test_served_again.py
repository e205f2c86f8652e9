"""A full disk, connections that are cut, a killed server: served again, and nothing lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import asyncpg
import httpx2 as httpx
import pytest

from bench.common import database
from tests.support.folders import open_folder
from tests.support.live import busy, end, insert, postgres_of, wait_until
from tests.support.service import ServiceProcess

SETTINGS = {
    "FACETTE_INFERENCE_PRECISION": "fp32",
    "FACETTE_DATABASE_POOL_RETRY_S": "0",
    "FACETTE_EMBEDDED_DATABASE_SHARED_BUFFERS_MB": "128",
}


class SmallDisk:
    """A file system of its own on a folder, where this user may mount one."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.folder = folder
        folder.mkdir()
        options = f"size={size_mb}m,mode=755"
        self._mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )

    def require(self) -> None:
        """Skip the test where the folder is on a large disk."""
        if self._mounted.returncode:
            pytest.skip(f"no small disk can be mounted here: {self._mounted.stderr.strip()}")

    def unmount(self) -> None:
        if not self._mounted.returncode:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@dataclass(frozen=True, slots=True)
class Served:
    """A service whose photos and whose database have a small disk each."""

    service: ServiceProcess
    photos: SmallDisk
    database: SmallDisk


@pytest.fixture(scope="module")
def served(models_dir: Path) -> Iterator[Served]:
    """Each test leaves it as it was: serving, with room on its disks."""
    with open_folder() as folder, ExitStack() as stack:
        disks = [SmallDisk(folder / "uploads", 64), SmallDisk(folder / "data", 160)]
        for disk in disks:
            stack.callback(disk.unmount)
        settings = SETTINGS | {"FACETTE_PATHS_UPLOAD_DIR": str(folder / "uploads")}
        service = ServiceProcess(folder, models_dir, settings)
        try:
            yield Served(service.start(), *disks)
            assert service.stop() == 0
            assert postgres_of(service) == []
        finally:
            end(service)


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.service.client() as found:
        yield found


@pytest.fixture(scope="module")
def photo(portraits: list[Path]) -> bytes:
    return portraits[1].read_bytes()


def write_for_ever(stream: FileIO, block: bytes) -> None:
    while True:
        stream.write(block)


def fill(folder: Path) -> Path:
    """A file that takes all room of its disk."""
    path = folder / "filler"
    with FileIO(path, "w") as stream:
        for block in (1 << 20, 4096):
            with pytest.raises(OSError, match="No space left"):
                write_for_ever(stream, bytes(block))
    return path


def assert_to_be_repeated(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def assert_there(client: httpx.Client, tenant: str, answers: list[httpx.Response]) -> None:
    for each in answers:
        ids = {"tenant_id": tenant, "image_id": each.json()["image_id"]}
        found = client.get("/image", params=ids)
        assert set(found.json()["face_ids"]) == set(each.json()["face_ids"])


def execute(service: ServiceProcess, statement: str) -> None:
    """Past the API."""

    async def run() -> None:
        connection = await database.connect(service)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def use_up_log(service: ServiceProcess) -> None:
    while True:
        execute(service, "CREATE TABLE more (); DROP TABLE more; SELECT pg_switch_wal()")


def test_a_full_disk_of_photos_is_to_be_repeated_later_and_leaves_nothing(
    served: Served, client: httpx.Client, photo: bytes, tenant: str
) -> None:
    served.photos.require()
    uploads = served.photos.folder

    def files() -> set[Path]:
        return {path for path in uploads.rglob("*") if path.is_file()}

    def rows() -> int:
        return sum(map(len, asyncio.run(database.stored(served.service)).rows.values()))

    rows_before = rows()
    first = insert(client, photo, tenant)
    filler = fill(uploads)
    before = files()
    refused = [insert(client, photo, tenant), insert(client, photo, f"{tenant}-another")]
    for each in refused:
        assert_to_be_repeated(each)
    assert files() == before
    # Nothing of the disk is needed to read.
    assert_there(client, tenant, [first])
    filler.unlink()
    second = insert(client, photo, tenant)
    assert second.status_code == 200
    assert_there(client, tenant, [first, second])
    assert rows() == rows_before + 2


def test_a_full_disk_of_the_database_is_to_be_repeated_later_and_loses_nothing(
    served: Served, client: httpx.Client, photo: bytes, tenant: str
) -> None:
    served.database.require()
    stored = [insert(client, photo, tenant)]
    filler = fill(served.database.folder)
    # Tables grow by pages; whatever still fits is stored, and counts.
    while (answer := insert(client, photo, tenant)).status_code == 200:
        stored.append(answer)
    assert_to_be_repeated(answer)
    filler.unlink()
    wait_until(lambda: insert(client, photo, tenant).status_code == 200)
    assert_there(client, tenant, stored)

    # Without room for its log PostgreSQL ends all connections, or gives up for good.
    filler = fill(served.database.folder)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        use_up_log(served.service)
    assert_to_be_repeated(insert(client, photo, tenant))
    filler.unlink()
    wait_until(lambda: insert(client, photo, tenant).status_code == 200)
    assert_there(client, tenant, stored)


def test_connections_that_are_cut_under_load_are_made_anew(
    served: Served, client: httpx.Client, photo: bytes, tenant: str
) -> None:
    answers: list[httpx.Response] = []

    def ask(client: httpx.Client) -> httpx.Response:
        answers.append(insert(client, photo, tenant))
        return answers[-1]

    with busy(served.service, ask, callers=6) as callers:
        for _ in range(5):
            execute(
                served.service,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
            )
            answered = callers.answered
            wait_until(lambda seen=answered: callers.answered >= seen + 6)
    assert not callers.failures
    for each in answers:
        if each.status_code != 200:
            assert_to_be_repeated(each)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    assert insert(client, photo, tenant).status_code == 200
    assert_there(client, tenant, [each for each in answers if each.status_code == 200])


def test_a_service_whose_database_was_killed_serves_again(
    served: Served, client: httpx.Client, photo: bytes, tenant: str
) -> None:
    """One whose processes are several is among the tests of processes."""
    service = served.service
    before = len(service.log)
    stored = [insert(client, photo, tenant)]
    (server,) = postgres_of(service)
    server.send_signal(signal.SIGKILL)
    wait_until(lambda: insert(client, photo, tenant).status_code == 200)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    assert service.log[before:].count("the embedded database crashed and is restarted") == 1
    assert_there(client, tenant, stored)
