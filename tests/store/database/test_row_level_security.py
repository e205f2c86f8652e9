"""A statement that forgets its WHERE still cannot see or touch another tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.errors import ConfigError, NotFoundError
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import ImageId, IngestedPhoto, ModelSpace, TenantId
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database, DatabaseSettings
from service.store.database.migrations import load_migrations, migrate
from service.store.database.role import SERVICE_ROLE
from service.store.database.statements import SQL
from service.store.face import reads, search
from service.store.face.files import StoredFiles
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from tests.support.analysed import MadeUpAnalyzer, person
from tests.support.logins import connect, let_in

ANNA, BERTA = TenantId("anna"), TenantId("berta's; DROP TABLE face")
TABLES = (
    *("tenant", "image", "cluster", "cluster_sum", "merged_cluster", "face", "face_vector"),
    *("review", "change", "kept_answer", "decision", "decision_face"),
    *("change_face", "change_cluster", "change_decision", "change_review"),
)


class Two:
    """Two tenants with a photo of the same two people each."""

    def __init__(self, database: Database, uploads: Path) -> None:
        self.database = database
        self.repository = Repository(database, SearchSettings(200))
        self.blobs = FolderBlobStore(uploads)
        self.curate = Curate(self.repository, self.blobs, on_orphans=lambda n: None)
        self._analyzer = MadeUpAnalyzer()

    async def insert(self, tenant: TenantId) -> IngestedPhoto:
        ingest = IngestPhoto(
            self._analyzer,
            self.repository,
            self.blobs,
            space=ModelSpace("made-up/1"),
            rule=fixed_rule(0.5),
            on_face=lambda matched: None,
        )
        data = self._analyzer.add(person(1), person(2))
        return await ingest(tenant, source(data), StageClock(), free_ticket())

    async def rows(self, tenant: TenantId) -> dict[str, int]:
        """How many rows of each table a transaction of the tenant sees, asking for all of them."""
        async with self.database.snapshot(tenant) as connection:
            return {
                table: await connection.fetchval(f"SELECT count(*) FROM {table}")
                for table in TABLES
            }


@pytest.fixture
async def two(database: Database, uploads: Path) -> Two:
    found = Two(database, uploads)
    for tenant in (ANNA, BERTA):
        await found.insert(tenant)
    return found


ONE_PHOTO = {
    "tenant": 1,
    "image": 1,
    "cluster": 2,
    "cluster_sum": 2,
    "merged_cluster": 0,
    "face": 2,
    "face_vector": 2,
    "review": 2,
    "change": 1,
    "kept_answer": 0,
    "decision": 0,
    "decision_face": 0,
    "change_face": 0,
    "change_cluster": 0,
    "change_decision": 0,
    "change_review": 0,
}


async def test_a_query_without_where_sees_the_rows_of_its_tenant_alone(two: Two) -> None:
    await two.insert(BERTA)
    assert await two.rows(ANNA) == ONE_PHOTO
    assert (await two.rows(BERTA))["image"] == 2


@pytest.mark.parametrize("name", ["{tenant}", "\\x00 \\'", "日本 🙂", "');--", '"; ROLLBACK; "'])
async def test_a_tenant_of_any_spelling_sees_its_own_rows_alone(two: Two, name: str) -> None:
    tenant = TenantId(name)
    assert set((await two.rows(tenant)).values()) == {0}
    await two.insert(tenant)
    assert await two.rows(tenant) == ONE_PHOTO


async def test_a_statement_that_names_its_tenant_leaves_none_behind(two: Two) -> None:
    mine, theirs = await two.insert(ANNA), await two.insert(BERTA)
    files = StoredFiles(two.database)
    assert (await files.image_file(ANNA, mine.image_id)).image_id == mine.image_id
    with pytest.raises(NotFoundError):
        await files.image_file(ANNA, theirs.image_id)
    face = (await files.face_on_file(BERTA, theirs.faces[0].face_id)).file
    assert face.image_id == theirs.image_id
    with pytest.raises(NotFoundError):
        await files.face_on_file(BERTA, mine.faces[0].face_id)
    async with two.database.common() as connection:
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_tenant_that_does_not_exist_sees_nothing(two: Two) -> None:
    assert set((await two.rows(TenantId("nobody"))).values()) == {0}


async def test_a_connection_that_names_no_tenant_sees_nothing(two: Two) -> None:
    async with two.database.transaction(ANNA):
        pass  # what one transaction names must not last into the next
    async with two.database._connection() as connection:
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_tenant_without_a_name_is_not_that_of_whoever_names_none(two: Two) -> None:
    """What a transaction set is an empty text in the next one of the connection."""
    async with two.database.maintenance() as connection:
        await connection.execute("ALTER TABLE tenant DROP CONSTRAINT tenant_id_check")
        await connection.execute("INSERT INTO tenant (tenant_id) VALUES ('')")
        await connection.execute(
            "INSERT INTO cluster (tenant_id, cluster_id) VALUES ('', gen_random_uuid())"
        )
    async with two.database._connection() as connection:
        async with connection.transaction():
            await connection.execute(SQL["use_tenant"], ANNA)
        assert await connection.fetchval("SELECT current_setting('facette.tenant_id', true)") == ""
        for table in TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_row_that_names_another_tenants_photo_does_not_take_it_along(two: Two) -> None:
    theirs = await two.insert(BERTA)
    async with two.database.maintenance() as connection:
        await connection.execute("ALTER TABLE image DROP CONSTRAINT image_blob_key_check")
        await connection.execute(
            "UPDATE image SET blob_key = ("
            "  SELECT blob_key FROM image WHERE image_id = $2::text::uuid"
            ") WHERE tenant_id = $1",
            ANNA,
            theirs.image_id,
        )
        key = await connection.fetchval(
            "SELECT blob_key FROM image WHERE image_id = $1::text::uuid", theirs.image_id
        )
    receipt = await two.curate.delete_tenant(ANNA)
    assert (receipt.images, receipt.files) == (1, 0)
    assert await two.blobs.find(key) is not None
    assert (await two.curate.delete_image(BERTA, theirs.image_id)).files == 1


@pytest.mark.parametrize("table", [*TABLES[1:], "tenant"])
async def test_a_delete_without_where_leaves_other_tenants_alone(two: Two, table: str) -> None:
    async with two.database.transaction(ANNA) as connection:
        await connection.execute(f"DELETE FROM {table}")
    assert (await two.rows(ANNA))[table] == 0
    assert await two.rows(BERTA) == ONE_PHOTO


async def test_an_update_without_where_leaves_other_tenants_alone(two: Two) -> None:
    async with two.database.transaction(ANNA) as connection:
        assert await connection.execute("UPDATE face SET is_auto_matched = true") == "UPDATE 2"
    async with two.database.snapshot(BERTA) as connection:
        assert not await connection.fetchval("SELECT bool_or(is_auto_matched) FROM face")


async def test_a_row_cannot_be_given_to_another_tenant(two: Two) -> None:
    for statement in (
        "INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, gen_random_uuid())",
        "UPDATE cluster SET tenant_id = $1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with two.database.transaction(ANNA) as connection:
                await connection.execute(statement, BERTA)
    assert await two.rows(BERTA) == ONE_PHOTO


async def test_a_broken_statement_of_the_service_finds_no_face_of_another_tenant(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    face = (await two.insert(BERTA)).faces[0]
    broken = SQL["face"].replace("tenant_id = $1 AND face_id = $2", "$1 <> '' AND face_id = $2")
    assert broken != SQL["face"]
    monkeypatch.setattr(reads, "SQL", MappingProxyType({**SQL, "face": broken}))
    assert (await two.curate.face(BERTA, face.face_id)).face_id == face.face_id
    with pytest.raises(NotFoundError):
        await two.curate.face(ANNA, face.face_id)


async def test_a_broken_search_of_the_service_matches_no_face_of_another_tenant(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {
        name: SQL[name].replace("WHERE tenant_id = $1", "WHERE $1 <> ''")
        for name in ("nearest_faces_exact", "nearest_faces_by_index", "nearest_faces_among")
    }
    assert all(statement != SQL[name] for name, statement in broken.items())
    monkeypatch.setattr(search, "SQL", MappingProxyType({**SQL, **broken}))
    photo = await two.insert(TenantId("stranger"))
    assert [face.is_auto_matched for face in photo.faces] == [False, False]


async def test_the_services_role_cannot_switch_policies_off(two: Two) -> None:
    for statement in (
        "ALTER TABLE face DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_tenant ON face",
        "CREATE POLICY all_tenants ON face USING (true)",
        "TRUNCATE face",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with two.database.transaction(ANNA) as connection:
                await connection.execute(statement)
    async with two.database.transaction(ANNA) as connection:
        await connection.execute("SET LOCAL row_security = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.fetch("SELECT face_id FROM face")


async def test_every_table_with_a_tenant_has_a_policy(database: Database) -> None:
    async with database.snapshot(ANNA) as connection:
        rows = await connection.fetch(
            """
            SELECT relname, relrowsecurity,
                   EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid) AS has_policy
            FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
              AND NOT relispartition
              AND EXISTS (
                SELECT FROM pg_attribute
                WHERE attrelid = pg_class.oid AND attname = 'tenant_id' AND NOT attisdropped
              )
            """
        )
        assert await connection.fetchval("SELECT current_user") == SERVICE_ROLE
    assert {row["relname"] for row in rows} == set(TABLES)
    assert all(row["relrowsecurity"] and row["has_policy"] for row in rows)


@pytest.fixture
async def admin(
    empty_database: DatabaseSettings,
) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(empty_database)
    yield connection
    await connection.close()


@asynccontextmanager
async def _login(
    admin: asyncpg.Connection, settings: DatabaseSettings
) -> AsyncIterator[DatabaseSettings]:
    """A login without privileges that owns the database's schema."""
    name = f"login_{uuid4().hex}"
    await admin.execute(f"CREATE ROLE {name} LOGIN")
    await let_in(admin, replace(settings, user=name))
    await admin.execute(f"ALTER SCHEMA public OWNER TO {name}")
    await admin.execute("CREATE EXTENSION vector")
    try:
        yield replace(settings, user=name)
    finally:
        await admin.execute(f"REASSIGN OWNED BY {name} TO {settings.user}")
        await admin.execute(f"DROP OWNED BY {name}")
        await admin.execute(f"DROP ROLE {name}")


async def test_a_login_without_privileges_is_told_what_an_administrator_has_to_do(
    empty_database: DatabaseSettings, admin: asyncpg.Connection
) -> None:
    async with _login(admin, empty_database) as settings:
        with pytest.raises(ConfigError) as caught:
            await Database.open(settings)
        _, _, remedy = caught.value.message.partition("run once: ")
        create, grant, _ = remedy.split(";")
        if not await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", SERVICE_ROLE):
            await admin.execute(create)
        await admin.execute(grant)
        database = await Database.open(settings)
        await Two(database, Path("unused")).repository.ping()
        async with database.snapshot(ANNA) as connection:
            assert await connection.fetchval("SELECT current_user") == SERVICE_ROLE
        await database.close()


async def test_a_role_that_policies_do_not_bind_is_refused(
    empty_database: DatabaseSettings, admin: asyncpg.Connection
) -> None:
    await migrate(admin)
    await admin.execute(f"ALTER TABLE face OWNER TO {SERVICE_ROLE}")
    with pytest.raises(ConfigError, match="row-level security"):
        await Database.open(empty_database)
    await admin.execute("ALTER TABLE face OWNER TO CURRENT_USER")
    await (await Database.open(empty_database)).close()


async def test_a_database_of_the_first_release_keeps_its_data(
    empty_database: DatabaseSettings, admin: asyncpg.Connection
) -> None:
    first = load_migrations()[0]
    await admin.execute(
        "CREATE TABLE migration (number integer PRIMARY KEY, name text NOT NULL,"
        " sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    await admin.execute(first.sql)
    await admin.execute(
        "INSERT INTO migration (number, name, sha256) VALUES (1, $1, $2)", first.name, first.sha256
    )
    image, cluster, face = (UUID(int=number) for number in (1, 2, 3))
    await admin.execute("INSERT INTO tenant (tenant_id) VALUES ('old')")
    await admin.execute(
        "INSERT INTO image (tenant_id, image_id, blob_key, format, width, height, size_bytes,"
        " sha256, phash) VALUES ('old', $1, 'a/b.jpg', 'jpeg', 9, 9, 9, repeat('a', 64),"
        " repeat('b', 16))",
        image,
    )
    await admin.execute("INSERT INTO cluster (tenant_id, cluster_id) VALUES ('old', $1)", cluster)
    await admin.execute(
        "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, model_space, embedding, box,"
        " landmarks, area, confidence, is_auto_matched) VALUES ('old', $1, $2, $3, 'm',"
        " array_fill(0.1, ARRAY[512])::halfvec, '{1,2,3,4}', '{1,2,3,4,5,6,7,8,9,10}',"
        " '{1,2,3,4}', 0.9, false)",
        face,
        image,
        cluster,
    )
    database = await Database.open(empty_database)
    repository, tenant = Repository(database, SearchSettings(200)), TenantId("old")
    async with repository.reading(tenant) as old:
        assert (await old.image(ImageId(str(image)))).face_ids == (str(face),)
    same = np.full(512, 512**-0.5, np.float32)
    query = ClusterQuery((same,), ModelSpace("m"), fixed_rule(0.5))
    async with repository.inserting(tenant, query) as (_, candidates):
        ((nearest,),) = candidates.of_faces
        assert nearest.cluster_id == str(cluster)
        assert nearest.nearest == pytest.approx(0, abs=1e-3)
    await database.close()
