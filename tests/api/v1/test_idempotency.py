"""Requests that are sent again after a crash, an outage or a stop: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from bench.common import database
from tests.api.v1.conftest import Tenant, problem
from tests.support.batches import (
    CONTENT_TYPE,
    codes,
    ended_by,
    files,
    marked_copies,
    send_batch,
    statuses,
)
from tests.support.calls import Photos, read_answer, started_request
from tests.support.folders import open_folder
from tests.support.live import end, wait_until
from tests.support.service import ServiceProcess

KEY = {"Idempotency-Key": "again"}
JPEG = {"Content-Type": "image/jpeg"}
SETTINGS = {"FACETTE_DATABASE_POOL_RETRY_S": "0.2", "FACETTE_BLOBS_SWEEP_INTERVAL_S": "0"}


@pytest.fixture(scope="module")
def mortal(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service that tests kill; each leaves it running."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, SETTINGS)
        try:
            yield process.start()
            assert process.stop() == 0
        finally:
            end(process)


def insert(client: httpx.Client, tenant: str, photo: bytes, **headers: str) -> httpx.Response:
    path = f"/v1/tenants/{tenant}/images"
    return client.post(path, content=photo, headers={**JPEG, **KEY, **headers})


def sent_photos(photo: bytes, count: int) -> tuple[list[bytes], list[bytes]]:
    """Files of different bytes, and the form of all of them."""
    sent = list(marked_copies(photo, count))
    return sent, files(*((str(nth), each) for nth, each in enumerate(sent)))


def images_of(service: ServiceProcess, tenant: str) -> list[dict[str, Any]]:
    with service.client() as client:
        house = Tenant(client, tenant)
        return house.listed("/images") if house.call("GET", "").status_code == 200 else []


def assert_each_is_stored_once(service: ServiceProcess, tenant: str, sent: Sequence[bytes]) -> None:
    """Each of the photos is one image with its file, and no row is half of one."""
    found = images_of(service, tenant)
    wanted = sorted(hashlib.sha256(photo).hexdigest() for photo in sent)
    assert sorted(image["sha256"] for image in found) == wanted
    stored = asyncio.run(database.stored(service))
    for sha256 in wanted:
        assert [row.file_sha256 for row in stored.rows[sha256]] == [sha256]
    assert set(stored.halves.values()) == {0}


def test_equal_requests_at_once_have_the_same_answer(house: Tenant, photos: Photos) -> None:
    with ThreadPoolExecutor(8) as callers:
        answers = list(
            callers.map(lambda _: insert(house.client, house.name, photos.both), range(8))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len([a for a in answers if "idempotency-replayed" not in a.headers]) == 1
    assert len(house.listed("/images")) == 1


def test_equal_batches_at_once_store_each_photo_once(house: Tenant, photos: Photos) -> None:
    _, form = sent_photos(photos.nobody, 6)
    with ThreadPoolExecutor(3) as callers:
        answers = list(
            callers.map(lambda _: send_batch(house.client, house.name, form, KEY), range(3))
        )
    assert {tuple(statuses(answer)) for answer in answers} == {(201,) * 6}
    assert len({answer.content for answer in answers}) == 1
    assert len(house.listed("/images")) == 6


def test_another_photo_or_another_wish_under_the_key_is_refused(
    house: Tenant, photos: Photos
) -> None:
    assert insert(house.client, house.name, photos.nobody).status_code == 201
    other = insert(house.client, house.name, photos.both)
    path = f"/v1/tenants/{house.name}/images?on_duplicate=return"
    wish = house.client.post(path, content=photos.nobody, headers={**JPEG, **KEY})
    for answer in (other, wish):
        assert answer.status_code == 409
        assert problem(answer) == "idempotency_key_reused"
    assert len(house.listed("/images")) == 1


def test_another_tenant_may_use_the_key(house: Tenant, photos: Photos) -> None:
    first = insert(house.client, house.name, photos.nobody)
    second = insert(house.client, f"{house.name}-other", photos.nobody)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["image_id"] != second.json()["image_id"]
    assert "idempotency-replayed" not in second.headers


def test_an_erased_tenant_has_no_answers_left(house: Tenant, photos: Photos) -> None:
    first = insert(house.client, house.name, photos.nobody)
    house.ask("DELETE", "")
    again = insert(house.client, house.name, photos.nobody)
    assert again.status_code == 201
    assert "idempotency-replayed" not in again.headers
    assert again.json()["image_id"] != first.json()["image_id"]


def test_a_photo_that_failed_may_be_sent_again_under_its_key(house: Tenant, photos: Photos) -> None:
    for _ in range(2):
        answer = insert(house.client, house.name, photos.both[:2000])
        assert answer.status_code == 422
        assert problem(answer) == "corrupt_image"


@pytest.mark.long
def test_a_killed_service_answers_again_with_what_it_committed_and_completes_a_batch(
    mortal: ServiceProcess, tenant: str, photos: Photos
) -> None:
    of_batch = f"{tenant}-batch"
    sent, form = sent_photos(photos.nobody, 40)
    slow_commits(mortal, tenant)
    head = {"Content-Length": str(len(photos.both)), **JPEG, **KEY}
    path = f"/v1/tenants/{tenant}/images"
    with (
        mortal.client() as client,
        ThreadPoolExecutor(1) as caller,
        started_request(mortal, "POST", path, head) as connection,
    ):
        connection.sendall(photos.both)
        wait_until(lambda: is_committing(mortal))
        lost = caller.submit(send_batch, client, of_batch, form, KEY)
        wait_until(lambda: len(images_of(mortal, of_batch)) > 3)
        mortal.kill()
        with suppress(httpx.TransportError):
            lost.result()
    wait_until(lambda: not is_committing(mortal))
    mortal.start()
    (image,) = images_of(mortal, tenant)
    with mortal.client() as client:
        answer = insert(client, tenant, photos.both)
        assert answer.status_code == 201
        assert answer.headers["idempotency-replayed"] == "true"
        assert answer.json()["image_id"] == image["id"]
        assert len(answer.json()["faces"]) == 2
        assert statuses(send_batch(client, of_batch, form, KEY)) == [201] * 40
    assert_each_is_stored_once(mortal, tenant, [photos.both])
    assert_each_is_stored_once(mortal, of_batch, sent)


@pytest.mark.long
def test_a_batch_ends_with_the_database_and_is_completed_by_sending_it_again(
    mortal: ServiceProcess, tenant: str, photos: Photos
) -> None:
    sent, form = sent_photos(photos.nobody, 40)

    def pieces() -> Iterator[bytes]:
        yield from form[:10]
        wait_until(lambda: len(images_of(mortal, tenant)) > 3)
        options.append(database.stop(mortal, "fast"))
        yield from form[10:]

    options: list[str] = []
    with mortal.client() as client:
        broken = send_batch(client, tenant, pieces(), KEY)
        assert ended_by(broken) == "store_unavailable"
        assert set(codes(broken)) == {None, "store_unavailable"}
        assert len(codes(broken)) < 40
        database.start(mortal, *options)
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert statuses(send_batch(client, tenant, form, KEY)) == [201] * 40
    assert_each_is_stored_once(mortal, tenant, sent)


@pytest.mark.long
def test_a_batch_ends_with_the_service_and_says_what_was_stored(
    mortal: ServiceProcess, tenant: str, photos: Photos
) -> None:
    sent, form = sent_photos(photos.nobody, 8)
    head = {"Transfer-Encoding": "chunked", "Content-Type": CONTENT_TYPE, **KEY}
    path = f"/v1/tenants/{tenant}/images/batch"
    with started_request(mortal, "POST", path, head) as connection:
        for piece in form[:4]:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        wait_until(lambda: len(images_of(mortal, tenant)) == 3)
        psutil.Process(mortal.pid).send_signal(signal.SIGTERM)
        wait_until(lambda: not is_ready(mortal))
        connection.sendall(b"%x\r\n%s\r\n" % (len(form[4]), form[4]))
        status, headers, body = read_answer(connection)
    assert mortal.wait() == 0
    assert (status, headers["connection"]) == (200, "close")
    found = json.loads(body)
    assert found["problem"]["code"] == "stopping"
    assert [item["status"] for item in found["items"]] == [201] * 4
    mortal.start()
    assert {image["id"] for image in images_of(mortal, tenant)} == {
        item["image"]["image_id"] for item in found["items"]
    }
    with mortal.client() as client:
        assert statuses(send_batch(client, tenant, form, KEY)) == [201] * 8
    assert_each_is_stored_once(mortal, tenant, sent)


def is_ready(service: ServiceProcess) -> bool:
    with service.client() as client:
        try:
            return client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


def slow_commits(service: ServiceProcess, tenant: str) -> None:
    """Let every commit of an image of the tenant take seconds, from when it was asked for."""
    on_database(
        service,
        f"""
        CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_sleep(3) WHERE NEW.tenant_id = '{tenant}';
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER take_time AFTER INSERT ON image
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION take_time();
        """,
    )


def is_committing(service: ServiceProcess) -> bool:
    """Whether a commit is asleep."""
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    return bool(on_database(service, sleeping))


def on_database(service: ServiceProcess, statement: str) -> Any:
    """Run a statement as the owner of everything; the one value that it gives."""

    async def run() -> Any:
        connection = await database.connect(service)
        try:
            schema = await connection.fetchval(
                "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
                "WHERE relname = 'image'"
            )
            await connection.execute(f"SET search_path TO {schema}, public")
            if statement.lstrip().startswith("SELECT"):
                return await connection.fetchval(statement)
            return await connection.execute(statement)
        finally:
            await connection.close()

    return asyncio.run(run())
