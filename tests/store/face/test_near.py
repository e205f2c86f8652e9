"""Near copies are all found, nearest first, through an index, and never in another tenant."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from service.domain.errors import NotFoundError
from service.domain.people import ImageFilter
from service.domain.types import MAX_HASH_DISTANCE, ImageId, NearCopy, TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.near import hash_parts, near_parts
from service.store.face.reads import TenantReader
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from tests.support.databases import Databases

TENANT, OTHER = TenantId("tenant"), TenantId("other")
IMAGES = 10_000
# They share a database of many images.
pytestmark = pytest.mark.xdist_group("near copies")

COLUMNS = ["tenant_id", "image_id", "format", "width", "height", "size_bytes", "sha256", "phash"]


def flipped(value: int, bits: int, rng: random.Random) -> int:
    return value ^ sum(1 << bit for bit in rng.sample(range(64), bits))


@cache
def hashes_of(tenant_id: TenantId) -> list[int]:
    """Hashes of unrelated photos, and of copies that differ in 0 to 20 bits from some of them."""
    rng = random.Random(tenant_id)
    strangers = [sum(1 << bit for bit in rng.sample(range(64), 32)) for _ in range(IMAGES * 3 // 4)]
    copies = [
        flipped(rng.choice(strangers[:100]), rng.randrange(21), rng)
        for _ in range(IMAGES - len(strangers))
    ]
    return strangers + copies


async def load(
    connection: asyncpg.Connection, tenant_id: TenantId, hashes: list[int], first: int
) -> None:
    await connection.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", tenant_id)
    rows = [
        (tenant_id, UUID(int=first + n), "jpeg", 4, 3, 9, f"{first + n:064x}", f"{each:016x}")
        for n, each in enumerate(hashes)
    ]
    await connection.copy_records_to_table("image", records=rows, columns=COLUMNS)


async def fill(database: Database, _: Path) -> None:
    async with database.maintenance() as connection:
        for place, tenant_id in enumerate((TENANT, OTHER)):
            await load(connection, tenant_id, hashes_of(tenant_id), place * IMAGES)
        await connection.execute("VACUUM ANALYZE image")


@pytest.fixture
async def reader(databases: Databases, uploads: Path) -> AsyncIterator[TenantReader]:
    repository = Repository(await databases.filled(fill, uploads), SearchSettings(200))
    async with repository.reading(TENANT) as tenant:
        yield tenant


def wanted(hashes: list[int], place: int, max_distance: int) -> list[NearCopy]:
    found = [((hashes[place] ^ each).bit_count(), n) for n, each in enumerate(hashes) if n != place]
    return [
        NearCopy(ImageId(str(UUID(int=n))), distance)
        for distance, n in sorted(found)
        if distance <= max_distance
    ]


@pytest.mark.parametrize("max_distance", [0, 1, 3, 4, 6, 7, 8, 11, 12, MAX_HASH_DISTANCE])
async def test_all_near_hashes_are_found_and_no_other(
    reader: TenantReader, max_distance: int
) -> None:
    hashes = hashes_of(TENANT)
    for place in (*range(12), IMAGES - 1, IMAGES - 2):
        found = await reader.near_duplicates(ImageId(str(UUID(int=place))), max_distance, IMAGES)
        assert found == wanted(hashes, place, max_distance)


async def test_the_nearest_are_kept_where_there_are_more(reader: TenantReader) -> None:
    hashes = hashes_of(TENANT)
    for limit in (1, 7):
        found = await reader.near_duplicates(ImageId(str(UUID(int=0))), 15, limit)
        assert found == wanted(hashes, 0, 15)[:limit]


async def test_images_of_another_tenant_are_neither_found_nor_asked_about(
    reader: TenantReader,
) -> None:
    with pytest.raises(NotFoundError):
        await reader.near_duplicates(ImageId(str(UUID(int=IMAGES))), 15, 10)
    with pytest.raises(NotFoundError):
        await reader.near_duplicates(ImageId("no id"), 15, 10)


async def test_near_hashes_come_from_the_indexes_of_their_parts(reader: TenantReader) -> None:
    parts = hash_parts("0123456789abcdef")
    for distance in (0, 6, 10):
        near = near_parts(parts, distance)
        rows = await reader._connection.fetch(
            f"EXPLAIN {SQL['near_duplicates']}",
            *(TENANT, UUID(int=0), parts, distance, *near, 100),
        )
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan" not in plan
        for place, values in enumerate(near):
            assert not values or f"image_phash_{place}" in plan


async def test_an_image_is_found_by_its_hash_through_an_index(reader: TenantReader) -> None:
    assert await reader.image_by_sha256(f"{5:064x}") == str(UUID(int=5))
    assert await reader.image_by_sha256(f"{IMAGES + 5:064x}") is None
    assert await reader.image_by_sha256("no hash") is None
    rows = await reader._connection.fetch(f"EXPLAIN {SQL['image_by_sha256']}", TENANT, f"{5:064x}")
    assert "image_sha256" in "\n".join(row[0] for row in rows)


async def test_many_images_are_found_by_their_hashes_through_an_index(
    reader: TenantReader,
) -> None:
    digests = [f"{n:064x}" for n in range(IMAGES - 100, IMAGES + 100)]
    found = await reader.people.images(ImageFilter(sha256=tuple(digests)), None, 500)
    assert {image.sha256 for image in found} == set(digests[:100])
    first, last = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
    rows = await reader._connection.fetch(
        f"EXPLAIN {SQL['images_by_sha256']}",
        *(TENANT, 500, last, UUID(int=2**128 - 1), first, last, digests),
    )
    plan = "\n".join(row[0] for row in rows)
    assert "image_sha256" in plan
    assert "Seq Scan on image" not in plan


async def test_the_oldest_of_equal_files_is_found(database: Database) -> None:
    async with database.maintenance() as connection:
        await load(connection, TENANT, [1, 2, 3], 0)
        await connection.execute("UPDATE image SET sha256 = repeat('a', 64)")
        await connection.execute(
            "UPDATE image SET created_at = now() - interval '1 h' WHERE image_id = $1",
            UUID(int=2),
        )
    async with Repository(database, SearchSettings(200)).reading(TENANT) as tenant:
        assert await tenant.image_by_sha256("a" * 64) == str(UUID(int=2))


def test_parts_within_the_radii_cover_every_near_hash() -> None:
    """Drawn anew each time: any hash within the distance has one of the values in one part."""
    rng = random.Random()
    for _ in range(2000):
        whole = rng.getrandbits(64)
        distance = rng.randrange(MAX_HASH_DISTANCE + 1)
        other = flipped(whole, rng.randrange(distance + 1), rng)
        near = near_parts(hash_parts(f"{whole:016x}"), distance)
        parts = hash_parts(f"{other:016x}")
        assert any(part in values for part, values in zip(parts, near, strict=True))
