"""A full disk, and connections that are cut: refused meanwhile, served again, nothing lost."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import asyncpg
import httpx2 as httpx
import pytest

from bench.common import database
from tests.support.live import busy, end, insert, wait_until
from tests.support.service import ServiceProcess

SETTINGS = {
    "FACETTE_INFERENCE_PRECISION": "fp32",
    "FACETTE_DATABASE_POOL_RETRY_S": "0",
    "FACETTE_EMBEDDED_DATABASE_SHARED_BUFFERS_MB": "128",
}


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """A file system of its own on a folder, where this user may mount one."""
    folder.mkdir()
    options = f"size={size_mb}m,mode=755"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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


@contextmanager
def serving(
    folder: Path, models_dir: Path, settings: dict[str, str] | None = None
) -> Iterator[tuple[ServiceProcess, httpx.Client]]:
    service = ServiceProcess(folder, models_dir, SETTINGS | (settings or {}))
    try:
        with service.start().client() as client:
            yield service, client
        assert service.stop() == 0
    finally:
        end(service)


def assert_to_be_repeated(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def assert_there(client: httpx.Client, answers: list[httpx.Response]) -> None:
    for each in answers:
        ids = {"tenant_id": "t", "image_id": each.json()["image_id"]}
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
    service_folder: Path, models_dir: Path, portraits: list[Path]
) -> None:
    photo, uploads = portraits[1].read_bytes(), service_folder / "uploads"
    with (
        small_disk(uploads, size_mb=8),
        serving(service_folder, models_dir, {"FACETTE_PATHS_UPLOAD_DIR": str(uploads)}) as (
            service,
            client,
        ),
    ):
        first = insert(client, photo)
        filler = fill(uploads)
        before = {path for path in uploads.rglob("*") if path.is_file()}
        refused = [insert(client, photo), insert(client, photo, tenant="another")]
        for each in refused:
            assert_to_be_repeated(each)
        assert {path for path in uploads.rglob("*") if path.is_file()} == before
        # Nothing of the disk is needed to read.
        assert_there(client, [first])
        filler.unlink()
        second = insert(client, photo)
        assert second.status_code == 200
        assert_there(client, [first, second])
        stored = asyncio.run(database.stored(service))
        assert sum(map(len, stored.rows.values())) == 2


def test_a_full_disk_of_the_database_is_to_be_repeated_later_and_loses_nothing(
    service_folder: Path, models_dir: Path, portraits: list[Path]
) -> None:
    photo, uploads = portraits[1].read_bytes(), service_folder / "uploads"
    with (
        small_disk(service_folder / "data", size_mb=160),
        serving(service_folder, models_dir, {"FACETTE_PATHS_UPLOAD_DIR": str(uploads)}) as (
            service,
            client,
        ),
    ):
        stored = [insert(client, photo)]
        filler = fill(service.data_dir)
        # Tables grow by pages; whatever still fits is stored, and counts.
        while (answer := insert(client, photo)).status_code == 200:
            stored.append(answer)
        assert_to_be_repeated(answer)
        filler.unlink()
        wait_until(lambda: insert(client, photo).status_code == 200)
        assert_there(client, stored)

        # Without room for its log PostgreSQL ends all connections, or gives up for good.
        filler = fill(service.data_dir)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            use_up_log(service)
        assert_to_be_repeated(insert(client, photo))
        filler.unlink()
        wait_until(lambda: insert(client, photo).status_code == 200)
        assert_there(client, stored)


def test_connections_that_are_cut_under_load_are_made_anew(
    service_folder: Path, models_dir: Path, portraits: list[Path]
) -> None:
    photo = portraits[1].read_bytes()
    answers: list[httpx.Response] = []

    def ask(client: httpx.Client) -> httpx.Response:
        answers.append(insert(client, photo))
        return answers[-1]

    with serving(service_folder, models_dir) as (service, client):
        with busy(service, ask, callers=6) as callers:
            for _ in range(5):
                execute(
                    service,
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
        assert insert(client, photo).status_code == 200
        assert_there(client, [each for each in answers if each.status_code == 200])
