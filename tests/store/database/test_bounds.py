"""The tables refuse what the service never stores, and what they held of it before is mended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from pgvector.asyncpg import register_vector

from bench.common.crowd import crowd, load
from service.domain.types import ImageId, TenantId
from service.store.blob.names import image_key
from service.store.database import migrations
from service.store.database.database import Database, DatabaseSettings
from service.store.database.migrations import load_migrations, migrate
from tests.support.databases import Databases
from tests.support.sums import are_exact

TENANT = TenantId("tenant")
FACE = UUID(int=3)
FACTS = (
    '{"size": 1, "sharpness": 1, "brightness": 1, "contrast": 1, "yaw": 1, "roll": 1,'
    ' "reasons": ["dark"]}'
)


async def _fill(database: Database, _: Path) -> None:
    async with database.maintenance() as connection:
        await load(connection, TENANT, crowd(10, seed=1))
        await connection.execute(
            "INSERT INTO review (tenant_id, cluster_id) SELECT tenant_id, cluster_id FROM cluster"
        )


@pytest.fixture
async def owner(databases: Databases) -> AsyncIterator[asyncpg.Connection]:
    async with databases.undone(_fill) as connection:
        yield connection


def _key(image: int = 3, tenant: str = TENANT, suffix: str = "jpg") -> str:
    return image_key(TenantId(tenant), ImageId(str(UUID(int=image))), suffix)


ALLOWED = [
    "UPDATE face SET area = '{0,0,1,1}'",
    "UPDATE face SET box = '{-5.5,-1e5,3,4}', distance = 1.5",
    "UPDATE face SET distance = -1e-7",
    f"UPDATE face SET quality = 1, quality_facts = '{FACTS}'",
    f"UPDATE image SET blob_key = '{_key()}' WHERE image_id = '{FACE}'",
    "INSERT INTO tenant (tenant_id) VALUES (repeat('x', 128)), ('it''s \\ ünd 漢 🙂'), (' a ')",
    "UPDATE image SET created_at = '2199-12-31', format = 'mpo'",
]

REFUSED = {
    "area of two dimensions": "UPDATE face SET area = '{{0,1},{2,3}}'",
    "area that begins at 0": "UPDATE face SET area = '[0:3]={0,1,2,3}'",
    "area with null": "UPDATE face SET area = '{0,1,NULL,3}'",
    "area left of the photo": "UPDATE face SET area = '{-1,1,2,3}'",
    "empty area": "UPDATE face SET area = '{0,1,0,3}'",
    "box with NaN": "UPDATE face SET box = '{0,NaN,0,3}'",
    "box with null": "UPDATE face SET box = '{0,NULL,0,3}'",
    "infinite box": "UPDATE face SET box = '{0,-Infinity,0,3}'",
    "box of two dimensions": "UPDATE face SET box = '{{0,1},{2,3}}'",
    "landmarks with NaN": "UPDATE face SET landmarks = '{NaN,1,2,3,4,5,6,7,8,9}'",
    "distance of NaN": "UPDATE face SET distance = 'NaN'",
    "infinite distance": "UPDATE face SET distance = 'Infinity'",
    "facts that are none": "UPDATE face SET quality_facts = '[]'",
    "facts that lack one": """UPDATE face SET quality_facts = '{"reasons": []}'""",
    "one fact more": f"UPDATE face SET quality_facts = '{FACTS}'::jsonb || '{{\"a\": 1}}'",
    "fact that is text": f"UPDATE face SET quality_facts = '{FACTS}'::jsonb"
    """ || '{"yaw": "1"}'""",
    "vector without direction": "UPDATE face_vector SET embedding = '[0,0,0]'",
    "path out of the folder": "UPDATE image SET blob_key = '../../etc/passwd'",
    "another tenant's file": f"UPDATE image SET blob_key = '{_key(tenant='b')}'"
    f" WHERE image_id = '{FACE}'",
    "another image's file": f"UPDATE image SET blob_key = '{_key(4)}' WHERE image_id = '{FACE}'",
    "suffix with a path": f"UPDATE image SET blob_key = '{_key(suffix='/../x')}'"
    f" WHERE image_id = '{FACE}'",
    "format of 100 kB": "UPDATE image SET format = repeat('x', 100000)",
    "infinite time": "UPDATE image SET created_at = 'infinity'",
    "time before our era": "UPDATE cluster SET created_at = '4713-01-01 BC'",
    "time of the year 9999": "UPDATE review SET created_at = '9999-01-01'",
    "time of a tenant": "UPDATE tenant SET created_at = '-infinity'",
    "tenant without a name": "INSERT INTO tenant (tenant_id) VALUES ('')",
    "blank tenant": "INSERT INTO tenant (tenant_id) VALUES ('  ')",
    "long tenant": "INSERT INTO tenant (tenant_id) VALUES (repeat('x', 129))",
    "tenant of two lines": "INSERT INTO tenant (tenant_id) VALUES (E'a\\nb')",
    "tenant with a control character of C1": "INSERT INTO tenant (tenant_id) VALUES (E'a\\u009bb')",
    "tenant from the right": "INSERT INTO tenant (tenant_id) VALUES (E'\\u202eabc')",
    "tenant with something of no width": "INSERT INTO tenant (tenant_id) VALUES (E'a\\u200bb')",
    "negative review": "INSERT INTO review (tenant_id, review_id, cluster_id)"
    " OVERRIDING SYSTEM VALUE SELECT tenant_id, -1, cluster_id FROM cluster LIMIT 1",
    "review beyond JavaScript": "INSERT INTO review (tenant_id, review_id, cluster_id)"
    " OVERRIDING SYSTEM VALUE SELECT tenant_id, 9007199254740992, cluster_id FROM cluster LIMIT 1",
}


@pytest.mark.parametrize("statement", ALLOWED)
async def test_what_the_service_stores_is_allowed(
    owner: asyncpg.Connection, statement: str
) -> None:
    await owner.execute(statement)


@pytest.mark.parametrize("case", REFUSED)
async def test_what_the_service_never_stores_is_refused(
    owner: asyncpg.Connection, case: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.execute(REFUSED[case])


async def _no_role(connection: asyncpg.Connection) -> None:
    """The former release granted other tables."""


async def _former(
    settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> asyncpg.Connection:
    """A database of the release before, with a tenant in it."""
    connection = await asyncpg.connect(
        host=settings.host, port=settings.port, user=settings.user, database=settings.dbname
    )
    with monkeypatch.context() as patch:
        before = [each for each in load_migrations() if each.number < 9]
        patch.setattr(migrations, "load_migrations", lambda: before)
        patch.setattr(migrations, "prepare_service_role", _no_role)
        await migrate(connection)
    await register_vector(connection)
    await load(connection, TENANT, crowd(10, seed=1))
    return connection


async def test_values_that_were_there_before_are_mended(
    empty_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await _former(empty_database, monkeypatch)
    third, fourth = (f"face_id = '{UUID(int=number)}'" for number in (3, 4))
    for statement in (
        f"UPDATE face SET area = '{{{{0,-1}},{{2,0}}}}' WHERE {third}",
        f"UPDATE face SET box = '{{NaN,1,2,Infinity}}' WHERE {third}",
        f"UPDATE face SET landmarks = '{{NULL,1,2,3,4,5,6,7,8,9}}', distance = 'NaN' WHERE {third}",
        f"UPDATE face SET quality = 1, quality_facts = '[1]' WHERE {third}",
        f"UPDATE face SET quality = 1, quality_facts = '{FACTS}' WHERE {fourth}",
        f"UPDATE face_vector SET embedding = embedding - embedding WHERE {third}",
        "UPDATE cluster SET created_at = 'infinity'",
        f"UPDATE image SET created_at = '4713-01-01 BC', format = '../x' WHERE image_id = '{FACE}'",
    ):
        await connection.execute(statement)
    others = "SELECT * FROM face WHERE face_id <> $1 ORDER BY seq"
    before = await connection.fetch(others, FACE)
    assert await migrate(connection) == [9, 10, 11, 12, 13, 14]
    assert await connection.fetch(others, FACE) == before
    row = await connection.fetchrow("SELECT * FROM face WHERE face_id = $1", FACE)
    assert row["area"] == [0, 0, 2, 1]
    assert row["box"] == [0, 1, 2, 0]
    assert row["landmarks"] == [*range(10)]
    assert (row["distance"], row["quality"], row["quality_facts"]) == (None, None, None)
    assert await connection.fetchval("SELECT count(*) FROM face_vector") == 9
    assert await connection.fetchval("SELECT bool_and(isfinite(created_at)) FROM cluster")
    assert await are_exact(connection)
    await connection.close()


async def test_what_cannot_be_mended_stays_as_it_was(
    empty_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await _former(empty_database, monkeypatch)
    await connection.execute("INSERT INTO tenant (tenant_id) VALUES (''), (E'a\\u009bb')")
    await connection.execute("UPDATE image SET blob_key = 'a/b.jpg'")
    assert await migrate(connection) == [9, 10, 11, 12, 13, 14]
    assert await connection.fetchval("SELECT count(*) FROM tenant") == 3
    assert await connection.fetchval("SELECT count(*) FROM image WHERE blob_key = 'a/b.jpg'") == 10
    await connection.execute("DELETE FROM tenant")
    assert await connection.fetchval("SELECT count(*) FROM image") == 0
    await connection.close()


@pytest.mark.parametrize("drawn", [2**53 - 2, 2**62, 7, None])
async def test_numbers_of_reviews_that_an_archive_spoiled_are_drawn_anew(
    empty_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch, drawn: int | None
) -> None:
    connection = await _former(empty_database, monkeypatch)
    cluster_id = await connection.fetchval("SELECT cluster_id FROM cluster LIMIT 1")
    insert = (
        "INSERT INTO review (tenant_id, review_id, cluster_id) OVERRIDING SYSTEM VALUE"
        " VALUES ($1, $2, $3)"
    )
    for number in (-9, 3, 5, 2**53 - 5):
        await connection.execute(insert, TENANT, number, cluster_id)
    if drawn is not None:
        await connection.execute("SELECT setval('review_review_id_seq', $1)", drawn)
    else:
        await connection.execute("DELETE FROM review WHERE review_id NOT IN (-9)")
    await migrate(connection)
    number = await connection.fetchval(
        "INSERT INTO review (tenant_id, cluster_id) VALUES ($1, $2) RETURNING review_id",
        TENANT,
        cluster_id,
    )
    numbers = [row[0] for row in await connection.fetch("SELECT review_id FROM review ORDER BY 1")]
    assert numbers[-1] == number < 20
    assert numbers[0] >= 1
    assert len(numbers) == len(set(numbers)) == (2 if drawn is None else 5)
    await connection.close()
