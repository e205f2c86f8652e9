"""Counts and covers of people, and counts of tenants, are right after whatever happens to faces."""

from __future__ import annotations

import random
from uuid import uuid4

import asyncpg
import pytest

from service.store.database.database import Database
from service.store.database.statements import SQL

TENANT = "tenant"


async def _insert(owner: asyncpg.Connection, image: str, faces: dict[str, str]) -> None:
    """An image, and its faces by id with their clusters."""
    await owner.execute(
        "INSERT INTO image (tenant_id, image_id, format, width, height, size_bytes, sha256, phash)"
        " VALUES ($1, $2, 'jpeg', 9, 9, 9, repeat('0', 64), repeat('0', 16))",
        TENANT,
        image,
    )
    await owner.executemany(
        "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks, area,"
        " confidence, is_auto_matched, quality) VALUES ($1, $2, $3, $4, '{1,2,3,4}',"
        " '{1,1,1,1,1,1,1,1,1,1}', '{1,1,1,1}', 1, true, $5)",
        [(TENANT, face, image, cluster, random.random()) for face, cluster in faces.items()],
    )


async def _wrong(owner: asyncpg.Connection) -> tuple[int, int]:
    return (
        await owner.fetchval(SQL["tenants_counted_wrongly"], TENANT),
        await owner.fetchval(SQL["clusters_counted_wrongly"], TENANT),
    )


@pytest.mark.parametrize("seed", range(4))
async def test_counts_and_covers_follow_inserts_moves_and_deletions(
    database: Database, seed: int
) -> None:
    chosen = random.Random(seed)
    async with database.maintenance() as owner:
        await owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", TENANT)
        clusters = [str(uuid4()) for _ in range(4)]
        await owner.executemany(
            "INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, $2)",
            [(TENANT, cluster) for cluster in clusters],
        )
        for step in range(60):
            action = chosen.choice(["insert", "insert", "move", "merge", "delete", "image"])
            if action == "insert":
                faces = {str(uuid4()): chosen.choice(clusters) for _ in range(chosen.randrange(4))}
                await _insert(owner, str(uuid4()), faces)
            elif action == "move":
                await owner.execute(
                    "UPDATE face SET cluster_id = $1 WHERE face_id IN"
                    " (SELECT face_id FROM face ORDER BY random() LIMIT $2)",
                    chosen.choice(clusters),
                    chosen.randrange(3),
                )
            elif action == "merge" and step % 3 == 0:
                await owner.execute(
                    "UPDATE face SET cluster_id = $1 WHERE cluster_id = $2",
                    *chosen.sample(clusters, 2),
                )
            elif action == "delete":
                await owner.execute(
                    "DELETE FROM face WHERE face_id IN (SELECT face_id FROM face LIMIT 1)"
                )
            elif action == "image":
                await owner.execute(
                    "DELETE FROM image WHERE image_id IN (SELECT image_id FROM image LIMIT 1)"
                )
            assert await _wrong(owner) == (0, 0), (step, action)


async def test_a_cover_is_the_best_face_until_a_person_chooses_and_again_when_that_one_goes(
    database: Database,
) -> None:
    first, second, third, cluster = (str(uuid4()) for _ in range(4))
    async with database.maintenance() as owner:
        await owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", TENANT)
        await owner.execute("INSERT INTO cluster VALUES ($1, $2)", TENANT, cluster)

        async def cover() -> str:
            return str(await owner.fetchval("SELECT cover_face_id FROM cluster"))

        await _insert(owner, str(uuid4()), {first: cluster, second: cluster})
        await owner.execute("UPDATE face SET quality = 0.5")
        await owner.execute("UPDATE cluster SET cover_face_id = $1, cover_quality = NULL", second)
        await _insert(owner, str(uuid4()), {third: cluster})
        assert await cover() == second
        await owner.execute("UPDATE face SET quality = 0.9 WHERE face_id = $1", third)
        await owner.execute("DELETE FROM face WHERE face_id = $1", second)
        assert await cover() == third
        await owner.execute("DELETE FROM face WHERE face_id = $1", third)
        assert await cover() == first
