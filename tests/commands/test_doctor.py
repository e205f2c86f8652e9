"""The doctor calls a healthy service healthy, and finds each fault that is made by hand."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from bench.common.crowd import SPACE, crowd, load
from service.commands.doctor import DoctorSettings, examine
from service.commands.report import Report, Verdict
from service.config import AuthConfig, Config, MatchConfig
from service.config.sections import DatabaseConfig, PathsConfig
from service.domain.types import ImageId, TenantId
from service.runtime.manifest import load_manifest
from service.store.blob.folder import FolderBlobStore
from service.store.blob.index import SWEEP_TURN_KEY
from service.store.blob.names import OWNER_MARK, folder_of, image_key, thumbnail_key
from service.store.database.database import Database, DatabaseSettings
from service.store.database.statements import SQL
from service.store.embedded.server import embedded_server
from service.store.face.indexer import Indexer, IndexSettings
from tests.support.command import facette
from tests.support.databases import Databases
from tests.support.folders import ROOT, open_folder
from tests.support.live import ConfiguredService, end, insert, postgres_of, wait_until

LARGE, SMALL = TenantId(r"large; it's \one"), TenantId("small")
HOUR_S = 3600.0


class Patient:
    """A database with a large tenant that has an index and a small one with photos."""

    def __init__(self, config: Config, owner: asyncpg.Connection, blobs: FolderBlobStore) -> None:
        self.config = config
        self.owner = owner
        self.blobs = blobs
        self.uploads = config.paths.upload_dir

    async def put(self, number: int, data: bytes = b"a photo!!") -> str:
        """Give an image of the small tenant its blob: 9 bytes, as its row says."""
        return await _put(self.owner, self.blobs, number, data)

    def age(self, key: str) -> None:
        then = time.time() - HOUR_S
        os.utime(self.uploads / key, (then, then))

    async def wrong(self, tenant_id: TenantId | None = None) -> list[tuple[str, str]]:
        """What is wrong, by check and text."""
        return _wrong(await examine(DoctorSettings.of(self.config), tenant_id))

    async def make_dangle(self, statement: str) -> None:
        """Break what foreign keys protect, as a damaged disk would."""
        async with self.owner.transaction():
            await self.owner.execute("SET LOCAL session_replication_role = replica")
            await self.owner.execute(statement)


def _wrong(report: Report) -> list[tuple[str, str]]:
    return [
        (each.check, each.text)
        for each in report.findings
        if each.verdict in (Verdict.WRONG, Verdict.UNKNOWN)
    ]


def config_of(settings: DatabaseSettings, uploads: Path, models: Path) -> Config:
    return Config(
        auth=AuthConfig(token="a-long-enough-token"),
        database=DatabaseConfig(
            host=settings.host, port=settings.port, dbname=settings.dbname, user=settings.user
        ),
        paths=PathsConfig(upload_dir=uploads, models_dir=models),
        match=MatchConfig(exact_search_max_faces=100),
    )


async def _fill(database: Database, uploads: Path) -> None:
    facts = load_manifest(ROOT / "models").models["embedder"].embedding
    assert facts is not None
    blobs = FolderBlobStore(uploads)
    async with database.maintenance() as owner:
        await load(owner, LARGE, crowd(150, seed=1))
        await load(owner, SMALL, crowd(20, seed=2))
        await owner.execute("UPDATE face_vector SET model_space = $1", facts.space)
        await owner.execute("INSERT INTO embedding_model VALUES ($1, 'default', true)", facts.space)
        await blobs.claim(str(await owner.fetchval("SELECT database_id FROM database_identity")))
        for number in range(1, 6):
            await _put(owner, blobs, number)
        settings = IndexSettings(100, 100, 16, 64, 64, 0, HOUR_S)
        assert await Indexer(database, settings).round()


async def _put(
    owner: asyncpg.Connection, blobs: FolderBlobStore, number: int, data: bytes = b"a photo!!"
) -> str:
    """Give an image of the small tenant its blob: 9 bytes, as its row says."""
    image_id = UUID(int=number)
    key = blobs.key(SMALL, ImageId(str(image_id)), "jpg")
    await blobs.put(key, data)
    await owner.execute(
        "UPDATE image SET blob_key = $3 WHERE tenant_id = $1 AND image_id = $2",
        *(SMALL, image_id, key),
    )
    return key


@pytest.fixture
async def database(databases: Databases, uploads: Path) -> Database:
    return await databases.filled(_fill, uploads)


@pytest.fixture
async def patient(database: Database, uploads: Path, models_dir: Path) -> AsyncIterator[Patient]:
    config = config_of(database._settings, uploads, models_dir)
    async with database.maintenance() as owner:
        yield Patient(config, owner, FolderBlobStore(uploads))


async def test_healthy_service_has_nothing_wrong(patient: Patient) -> None:
    report = await examine(DoctorSettings.of(patient.config))
    assert _wrong(report) == []
    assert report.status == 0
    checks = {each.check for each in report.findings if each.verdict is Verdict.OK}
    assert checks == {
        *("database", "migrations", "isolation", "keys", "indexes", "rows", "sums"),
        *("decisions", "owner", "blobs"),
    }


async def test_examination_changes_nothing(patient: Patient) -> None:
    tables = (
        *("tenant", "image", "cluster", "cluster_sum", "face", "face_vector", "review"),
        "migration",
    )

    async def state() -> list[object]:
        rows = [await patient.owner.fetchval(f"SELECT count(*) FROM {t}") for t in tables]
        return [*rows, sorted(patient.uploads.rglob("*"))]

    before = await state()
    await examine(DoctorSettings.of(patient.config))
    assert await state() == before


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("ALTER TABLE face DISABLE ROW LEVEL SECURITY", "row-level security is off for face"),
        ("ALTER TABLE face_vector_03 DISABLE ROW LEVEL SECURITY", "off for face_vector_03"),
        ("DROP POLICY own_tenant ON image", "differ from the migrations for image"),
        ("CREATE POLICY more ON face_vector_03 USING (true)", "migrations for face_vector_03"),
        ("CREATE POLICY more ON review USING (true)", "differ from the migrations for review"),
        ("ALTER POLICY own_tenant ON cluster USING (true)", "sees rows of cluster"),
        ("REVOKE INSERT ON face FROM facette_service", "lacks privileges on face"),
    ],
)
async def test_tenants_that_are_not_kept_apart_are_found(
    patient: Patient, statement: str, says: str
) -> None:
    await patient.owner.execute(statement)
    found = await patient.wrong()
    assert {check for check, _ in found} == {"isolation"}
    assert any(says in text for _, text in found), found


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM migration WHERE number = 3", "3 are missing"),
        ("INSERT INTO migration VALUES (9999, 'future', 'x')", "9999 in the database are unknown"),
        ("UPDATE migration SET sha256 = 'x' WHERE number = 2", "2 in the database differ"),
    ],
)
async def test_schema_of_another_release_is_found(
    patient: Patient, statement: str, says: str
) -> None:
    await patient.owner.execute(statement)
    ((check, text),) = await patient.wrong()
    assert check == "migrations"
    assert says in text


async def test_database_without_any_table_lacks_its_migrations(
    empty_database: DatabaseSettings, uploads: Path, models_dir: Path
) -> None:
    report = await examine(DoctorSettings.of(config_of(empty_database, uploads, models_dir)))
    ((check, _),) = _wrong(report)
    assert check == "migrations"
    assert report.status == 1


async def test_missing_index_of_a_large_tenant_is_found(patient: Patient) -> None:
    (name,) = await _indexes(patient)
    await patient.owner.execute(f"DROP INDEX {name}")
    for tenant_id in (None, LARGE):
        ((check, text),) = await patient.wrong(tenant_id)
        assert check == "indexes"
        assert "no index" in text
        assert repr(LARGE) in text
    assert await patient.wrong(SMALL) == []


async def test_broken_index_is_found(patient: Patient) -> None:
    (name,) = await _indexes(patient)
    await patient.owner.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass($1)", name
    )
    for tenant_id in (None, LARGE):
        ((check, text),) = await patient.wrong(tenant_id)
        assert (check, name in text, "invalid" in text) == ("indexes", True, True)


async def test_index_that_is_being_built_is_told_and_not_wrong(
    patient: Patient, database: Database
) -> None:
    (name,) = await _indexes(patient)
    statement = await patient.owner.fetchval("SELECT pg_get_indexdef($1::regclass)", name)
    await patient.owner.execute(f"DROP INDEX {name}")
    concurrently = statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
    async with database.maintenance() as writer, database.maintenance() as builder:
        transaction = writer.transaction()
        await transaction.start()
        # The build waits for whoever writes to the table.
        await writer.execute("UPDATE face_vector SET indexed = indexed WHERE tenant_id = $1", LARGE)
        building = asyncio.ensure_future(builder.execute(concurrently))
        async with asyncio.timeout(30):
            while not await patient.owner.fetchval(  # noqa: ASYNC110 - the server's doing
                "SELECT count(*) FROM pg_stat_progress_create_index WHERE index_relid <> 0"
            ):
                await asyncio.sleep(0.01)
        report = await examine(DoctorSettings.of(patient.config))
        await transaction.rollback()
        await building
    assert _wrong(report) == []
    (note,) = [
        each for each in report.findings if each.verdict is Verdict.NOTE and each.check != "keys"
    ]
    assert "being built" in note.text


async def test_index_of_a_tenant_that_is_gone_is_found(patient: Patient) -> None:
    await patient.owner.execute("DELETE FROM tenant WHERE tenant_id = $1", LARGE)
    ((check, text),) = await patient.wrong()
    assert check == "indexes"
    assert "deleted or small" in text
    report = await examine(DoctorSettings.of(patient.config), LARGE)
    assert report.counts["vector_indexes"] == 1
    assert report.status == 1


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM face WHERE ctid IN (SELECT ctid FROM face LIMIT 1)", "1 vectors whose face"),
        ("DELETE FROM cluster WHERE ctid IN (SELECT ctid FROM cluster LIMIT 1)", "faces whose clu"),
        ("DELETE FROM image WHERE blob_key IS NULL", "faces whose image"),
        ("DELETE FROM tenant WHERE tenant_id = 'small'", "20 images whose tenant"),
        ("DELETE FROM tenant WHERE tenant_id = 'small'", "clusters whose tenant"),
        (
            "INSERT INTO cluster (tenant_id, cluster_id) VALUES ('small', gen_random_uuid())",
            "1 clusters without faces",
        ),
        (
            "INSERT INTO review (tenant_id, cluster_id) VALUES ('small', gen_random_uuid())",
            "1 reviews whose cluster",
        ),
        ("DELETE FROM face_vector WHERE tenant_id = 'small'", "20 faces have no vector"),
        (
            "DELETE FROM cluster WHERE ctid IN (SELECT ctid FROM cluster LIMIT 1)",
            "1 sums of vectors whose cluster",
        ),
        (
            "INSERT INTO merged_cluster VALUES ('small', gen_random_uuid(), gen_random_uuid())",
            "1 merged clusters whose target",
        ),
        (
            "INSERT INTO change VALUES ('nobody', 1, now(), 'image.inserted', NULL, '{}')",
            "1 changes whose tenant",
        ),
        ("INSERT INTO kept_answer VALUES ('nobody', 'k', '', 200, '')", "1 kept answers whose ten"),
        ("UPDATE cluster SET label = E'a\\tb', label_key = 'a'", "labels have control characters"),
        ("UPDATE cluster SET label = ' a', label_key = 'a'", "labels have control characters"),
        (
            "UPDATE cluster SET external_id = U&'\\200b' || cluster_id",
            "external ids are blank, or have invisible",
        ),
        ("UPDATE cluster SET last_face_at = 'infinity'", "clusters have a time of the newest"),
        ("UPDATE cluster SET version = 0", "or a version, that is out of bounds"),
        (
            "INSERT INTO merged_cluster SELECT tenant_id, cluster_id, cluster_id FROM face LIMIT 1",
            "1 merged clusters exist",
        ),
        (
            "INSERT INTO merged_cluster VALUES ('small', md5('')::uuid, md5('')::uuid, 'infinity')",
            "merged clusters exist, or were merged at a time",
        ),
    ],
)
async def test_rows_that_miss_what_they_belong_to_are_found(
    patient: Patient, statement: str, says: str
) -> None:
    await patient.make_dangle(statement)
    found = await patient.wrong()
    assert {check for check, _ in found} == {"rows"}
    assert any(says in text for _, text in found), found


async def test_person_who_was_named_before_the_first_photo_is_not_wrong(patient: Patient) -> None:
    await patient.owner.execute(
        "INSERT INTO cluster (tenant_id, cluster_id, label, label_key) VALUES"
        " ('small', gen_random_uuid(), 'Anna', 'anna')"
    )
    assert await patient.wrong() == []


async def test_faces_with_vectors_of_another_model_alone_are_told_and_not_wrong(
    patient: Patient,
) -> None:
    await patient.owner.execute(
        "UPDATE face_vector SET model_space = $2 WHERE tenant_id = $1", SMALL, SPACE
    )
    report = await examine(DoctorSettings.of(patient.config))
    assert _wrong(report) == []
    (note,) = [
        each for each in report.findings if each.verdict is Verdict.NOTE and each.check != "keys"
    ]
    assert "20 faces have no vector of the model that is served" in note.text
    assert note.advice == "facette reembed --model default"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM cluster_sum WHERE ctid IN (SELECT ctid FROM cluster_sum LIMIT 2)", "2 clust"),
        (
            "INSERT INTO cluster_sum SELECT tenant_id, cluster_id, '?', '{1,2}' FROM face LIMIT 1",
            "1 clusters have a sum for a model without",
        ),
        # The smallest step of a half.
        ("UPDATE cluster_sum SET total[5] = total[5] + 2 ^ -24", "clusters have another sum"),
        ("UPDATE cluster_sum SET total[1] = total[1] + 1", "clusters have another sum"),
        ("UPDATE tenant SET people = people + 1 WHERE tenant_id = 'small'", "1 tenants have a wro"),
        ("UPDATE tenant SET images = images + 1 WHERE tenant_id = 'small'", "1 tenants have a wro"),
        ("UPDATE tenant SET faces = faces + 1 WHERE tenant_id = 'small'", "1 tenants have a wro"),
        ("UPDATE cluster SET faces = faces + 1 WHERE tenant_id = 'small'", "clusters have a wrong"),
        ("UPDATE cluster SET images = 0 WHERE tenant_id = 'small'", "clusters have a wrong count"),
        ("UPDATE cluster SET cover_face_id = NULL", "clusters have a wrong count of faces or im"),
        ("UPDATE cluster SET cover_face_id = '00000000-0000-0000-0000-0000000000ff'", "cover that"),
        (
            "UPDATE face_vector SET is_matchable = false WHERE tenant_id = 'small'",
            "20 vectors dif",
        ),
    ],
)
async def test_sums_that_are_not_those_of_the_vectors_are_found_and_mended_as_it_says(
    patient: Patient, statement: str, says: str
) -> None:
    await patient.owner.execute(statement)
    report = await examine(DoctorSettings.of(patient.config))
    found = _wrong(report)
    assert {check for check, _ in found} == {"sums"}
    assert any(says in text for _, text in found), found
    (advice,) = {each.advice for each in report.findings if each.check == "sums"}
    remedy = advice.partition(": ")[2].partition(",")[0]
    assert remedy == "SELECT recount_clusters(NULL)"
    await patient.owner.execute(remedy)
    assert await patient.wrong() == []


async def test_sums_of_one_tenant_are_looked_at_and_mended_alone(patient: Patient) -> None:
    await patient.owner.execute("DELETE FROM cluster_sum")
    assert await patient.wrong(TenantId("nobody")) == []
    assert [check for check, _ in await patient.wrong(LARGE)] == ["sums"]
    report = await examine(DoctorSettings.of(patient.config), LARGE)
    (advice,) = {each.advice for each in report.findings if each.check == "sums"}
    await patient.owner.execute(advice.partition(": ")[2].rpartition(", which")[0])
    assert await patient.wrong(LARGE) == []
    assert [check for check, _ in await patient.wrong(SMALL)] == ["sums"]


@pytest.fixture
async def decided(patient: Patient) -> Patient:
    """One with a decision that fits the faces, and a change about one of them."""
    await patient.owner.execute(
        "INSERT INTO decision (tenant_id, decision_id, kind) SELECT 'small', $1,"
        " CASE count(DISTINCT cluster_id) WHEN 1 THEN 'same' ELSE 'different' END"
        " FROM (SELECT * FROM face WHERE tenant_id = 'small' ORDER BY seq LIMIT 2) AS both_faces",
        UUID(int=7),
    )
    await patient.owner.execute(
        "INSERT INTO decision_face SELECT tenant_id, $1, face_id, row_number() OVER () - 1, true,"
        " cluster_id FROM face WHERE tenant_id = 'small' ORDER BY seq LIMIT 2",
        UUID(int=7),
    )
    await patient.owner.execute(
        "INSERT INTO change (tenant_id, change, kind, subject)"
        " SELECT tenant_id, 1, 'face.confirmed',"
        " jsonb_build_object('face_id', face_id, 'person_id', cluster_id)"
        " FROM face WHERE tenant_id = 'small' LIMIT 1"
    )
    assert await patient.wrong() == []
    return patient


_GONE = "00000000-0000-0000-0000-0000000000ff"


@pytest.mark.parametrize(
    ("statement", "says", "remedy"),
    [
        (
            f"UPDATE decision_face SET cluster_id = '{_GONE}' WHERE side = 0",
            "1 faces of decisions are in other clusters",
            (
                "UPDATE decision_face SET cluster_id = face.cluster_id FROM face WHERE "
                "face.tenant_id = decision_face.tenant_id AND face.face_id = decision_face.face_id"
            ),
        ),
        (
            (
                "INSERT INTO decision (tenant_id, decision_id, kind)"
                f" VALUES ('small', '{_GONE}', 'same')"
            ),
            f"1 decisions say nothing, since they lack faces: {_GONE}",
            f"DELETE FROM decision WHERE decision_id = '{_GONE}'",
        ),
        (
            "UPDATE decision SET kind = CASE kind WHEN 'same' THEN 'different' ELSE 'same' END",
            f"the faces of 1 decisions are together or apart against them: {UUID(int=7)}",
            "DELETE FROM decision WHERE decision_id = '00000000-0000-0000-0000-000000000007'",
        ),
        *(
            (
                (
                    "INSERT INTO change (tenant_id, change, kind, subject)"
                    f" VALUES ('small', 2, 'a.kind', '{subject}')"
                ),
                "1 changes speak of what was erased: 2 of tenant 'small'",
                "DELETE FROM change WHERE tenant_id = 'small' AND change = 2",
            )
            for subject in (
                f'{{"face_id": "{_GONE}"}}',
                f'{{"face_ids": ["{_GONE}"]}}',
                f'{{"image_id": "{_GONE}"}}',
                f'{{"decision_id": "{_GONE}"}}',
                f'{{"merged_person_id": "{_GONE}"}}',
            )
        ),
        (
            (
                "INSERT INTO change_cluster SELECT tenant_id, change, gen_random_uuid(), '{}', '{}'"
                " FROM change"
            ),
            "1 changes speak of what was erased: 1 of tenant 'small'",
            "DELETE FROM change WHERE tenant_id = 'small' AND change = 1",
        ),
    ],
)
async def test_decisions_and_changes_that_do_not_fit_are_found_and_mended_as_it_says(
    decided: Patient, statement: str, says: str, remedy: str
) -> None:
    await decided.owner.execute(statement)
    for tenant_id in (None, SMALL):
        report = await examine(DoctorSettings.of(decided.config), tenant_id)
        found = _wrong(report)
        assert {check for check, _ in found} == {"decisions"}
        assert any(says in text for _, text in found), found
    assert await decided.wrong(LARGE) == []
    advice = " ".join(each.advice for each in report.findings if each.check == "decisions")
    assert remedy.partition(" = '")[0] in advice or "/decisions/{decision_id}" in advice
    await decided.owner.execute(remedy)
    assert await decided.wrong() == []


async def test_missing_models_are_found(patient: Patient, tmp_path: Path) -> None:
    paths = patient.config.paths.model_copy(update={"models_dir": tmp_path / "nowhere"})
    report = await examine(DoctorSettings.of(patient.config.model_copy(update={"paths": paths})))
    assert [check for check, _ in _wrong(report)] == ["models"]


async def test_image_that_lost_its_photo_is_found(patient: Patient) -> None:
    key = await patient.put(1)
    (patient.uploads / key).unlink()
    for tenant_id in (None, SMALL):
        ((check, text),) = await patient.wrong(tenant_id)
        assert check == "blobs"
        assert f"1 images lack their photo: {key}" in text
    assert await patient.wrong(LARGE) == []


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        f"{folder_of(LARGE)}/{UUID(int=1)}.jpg",
        f"{folder_of(SMALL)}/{UUID(int=2)}.jpg",
        "line\nend",
    ],
    ids=["out of the folder", "another tenant's", "another image's", "text to trick a terminal"],
)
async def test_image_that_names_a_file_that_is_not_its_own_is_found(
    patient: Patient, key: str
) -> None:
    await patient.owner.execute("ALTER TABLE image DROP CONSTRAINT image_blob_key_check")
    (former,) = [each async for each in patient.blobs.listing() if str(UUID(int=1)) in each.key]
    await patient.blobs.delete([former.key])
    await patient.owner.execute(
        "UPDATE image SET blob_key = $2 WHERE tenant_id = $1 AND image_id = $3",
        *(SMALL, key, UUID(int=1)),
    )
    for tenant_id in (None, SMALL):
        found = await patient.wrong(tenant_id)
        assert {check for check, _ in found} == {"blobs"}
        assert any("1 images have a blob_key that is not" in text for _, text in found), found
        assert all(text.isprintable() for _, text in found)
    assert await patient.wrong(LARGE) == []


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x9bb", "x" * 100_000])
async def test_tenant_that_no_caller_can_name_is_found_and_goes_as_it_says(
    patient: Patient, name: str
) -> None:
    await patient.owner.execute("ALTER TABLE tenant DROP CONSTRAINT tenant_id_check")
    await patient.owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", name)
    ((check, text),) = await patient.wrong()
    assert check == "rows"
    assert "1 tenants have ids that are not valid" in text
    assert len(text) < 300
    assert text.isprintable()
    await patient.owner.execute("DELETE FROM tenant WHERE tenant_id = $1", name)
    assert await patient.wrong() == []


async def test_photo_of_another_size_is_found(patient: Patient) -> None:
    key = await patient.put(1, b"half")
    for tenant_id in (None, SMALL):
        ((check, text),) = await patient.wrong(tenant_id)
        assert check == "blobs"
        assert f"1 photos differ in size from their rows: {key}" in text


async def test_old_blob_without_a_row_is_found_and_a_young_one_is_not(patient: Patient) -> None:
    old, young = (image_key(SMALL, ImageId(str(uuid4())), "jpg") for _ in range(2))
    unfinished = f"{folder_of(SMALL)}/.part-x"
    for key in (old, young, unfinished):
        (patient.uploads / key).write_bytes(b"a photo!!")
    assert await patient.wrong() == []
    patient.age(old)
    patient.age(unfinished)
    patient.age(await patient.put(1))
    for tenant_id in (None, SMALL):
        ((check, text),) = await patient.wrong(tenant_id)
        assert check == "blobs"
        assert "2 blobs older than 900 s" in text
        assert old in text
        assert unfinished in text
        assert young not in text


async def test_thumbnail_without_an_image_is_found_and_one_with_an_image_is_not(
    patient: Patient,
) -> None:
    kept = thumbnail_key(SMALL, ImageId(str(UUID(int=1))), 256)
    lost = [thumbnail_key(SMALL, ImageId(str(uuid4())), 256)]
    # The image is that of another tenant.
    lost.append(thumbnail_key(LARGE, ImageId(str(UUID(int=1))), 256))
    await patient.owner.execute(
        "DELETE FROM image WHERE tenant_id = $1 AND image_id = $2", LARGE, UUID(int=1)
    )
    for key in (kept, *lost):
        await patient.blobs.put(key, b"small")
        patient.age(key)
    ((check, text),) = [each for each in await patient.wrong() if each[0] == "blobs"]
    assert check == "blobs"
    assert "2 blobs older than 900 s" in text
    assert all(key in text for key in lost)
    assert kept not in text


async def test_blobs_of_an_import_under_way_are_not_wrong(
    patient: Patient, database: Database
) -> None:
    key = image_key(SMALL, ImageId(str(uuid4())), "jpg")
    (patient.uploads / key).write_bytes(b"a photo!!")
    patient.age(key)
    async with database.maintenance() as importing, importing.transaction():
        await importing.execute(SQL["hold_off_sweeps"], SWEEP_TURN_KEY)
        assert await patient.wrong() == []
    assert [check for check, _ in await patient.wrong()] == ["blobs"]


async def test_many_faults_are_counted_and_a_few_named(patient: Patient) -> None:
    for number in range(1, 21):
        (patient.uploads / await patient.put(number)).unlink()
    ((_, text),) = await patient.wrong()
    assert text.startswith("20 images lack their photo: ")
    assert text.count(".jpg") == 3
    assert text.endswith(", ...")


async def test_blobs_of_another_database_are_found(patient: Patient) -> None:
    (patient.uploads / OWNER_MARK).write_text(f"{uuid4()}\n", encoding="utf-8")
    ((check, text),) = await patient.wrong()
    assert check == "owner"
    assert OWNER_MARK in text


async def test_folder_of_photos_that_is_not_there_cannot_be_looked_at_and_is_not_made(
    patient: Patient, tmp_path: Path
) -> None:
    nowhere = tmp_path / "not mounted"
    paths = patient.config.paths.model_copy(update={"upload_dir": nowhere})
    report = await examine(DoctorSettings.of(patient.config.model_copy(update={"paths": paths})))
    ((check, text),) = _wrong(report)
    assert check == "blobs"
    assert str(nowhere) in text
    assert report.status == 2
    assert not nowhere.exists()


async def test_tenant_is_counted_by_kind(patient: Patient) -> None:
    report = await examine(DoctorSettings.of(patient.config), SMALL)
    clusters = await patient.owner.fetchval(
        "SELECT count(*) FROM cluster WHERE tenant_id = 'small'"
    )
    assert report.counts == {
        "images": 20,
        "faces": 20,
        "vectors": 20,
        "clusters": clusters,
        "reviews": 0,
        "merges": 0,
        "decisions": 0,
        "decision_faces": 0,
        "changes": 0,
        "kept_answers": 0,
        "blobs": 5,
        "vector_indexes": 0,
    }
    assert report.status == 0
    assert (await examine(DoctorSettings.of(patient.config), LARGE)).counts["vector_indexes"] == 1


async def test_tenant_whose_files_outlived_it_is_wrong_until_they_are_gone(
    patient: Patient,
) -> None:
    await patient.owner.execute("DELETE FROM tenant WHERE tenant_id = $1", SMALL)
    ((check, text),) = await patient.wrong(SMALL)
    assert check == "tenant"
    assert "5 blobs are left" in text
    assert await patient.blobs.delete([b.key async for b in patient.blobs.listing()]) == []
    report = await examine(DoctorSettings.of(patient.config), SMALL)
    assert report.findings[-1].text == "nothing of this tenant is left"
    assert report.status == 0
    assert set(report.counts.values()) == {0}


def test_database_that_cannot_be_reached_is_status_2(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[auth]\ntoken = "a-long-enough-token"\n[database]\nhost = "127.0.0.1"\nport = 1\n',
        encoding="utf-8",
    )
    done = facette(tmp_path, "doctor")
    assert done.returncode == 2
    assert "127.0.0.1:1 cannot be used" in done.stdout


def test_doctor_makes_no_embedded_database_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[auth]\ntoken = "a-long-enough-token"\n', "utf-8")
    done = facette(tmp_path, "doctor")
    assert done.returncode == 2
    assert "no embedded database" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


@pytest.fixture
def own(models_dir: Path) -> Iterator[ConfiguredService]:
    """A service of the test's own, whose every tenant has an index soon, not started yet."""
    with open_folder() as folder:
        process = ConfiguredService(folder, models_dir)
        process.configure(
            "[match]\nexact_search_max_faces = 0\n[vector_index]\ncheck_interval_s = 0.2\n"
        )
        yield process
        if process._process is not None:
            end(process)


def doctor(service: ConfiguredService, *arguments: str) -> tuple[int, str]:
    done = facette(service.folder, "doctor", *arguments, environment=service._environment)
    return done.returncode, done.stdout


def test_nothing_is_left_of_a_deleted_tenant_whether_the_service_runs_or_not(
    own: ConfiguredService, portraits: list[Path]
) -> None:
    own.start()
    photo = portraits[1].read_bytes()

    def counts(tenant: str) -> dict[str, int]:
        found = json.loads(doctor(own, "--tenant", tenant, "--json")[1])["counts"]
        assert isinstance(found, dict)
        return found

    with own.client() as client:
        for tenant in ("gone", "kept"):
            assert insert(client, photo, tenant).status_code == 200
            wait_until(lambda tenant=tenant: counts(tenant)["vector_indexes"] == 1)
        each = {"images": 1, "faces": 1, "vectors": 1, "clusters": 1, "reviews": 1, "blobs": 1}
        each |= {"merges": 0, "changes": 1, "kept_answers": 0}
        each |= {"decisions": 0, "decision_faces": 0}
        assert counts("gone") == {**each, "vector_indexes": 1}
        status, text = doctor(own)
        assert status == 0, text
        assert client.delete("/tenant", params={"tenant_id": "gone"}).status_code == 200
    wait_until(lambda: doctor(own, "--tenant", "gone")[0] == 0)
    assert own.stop() == 0
    status, text = doctor(own, "--tenant", "gone")
    assert (status, "nothing of this tenant is left" in text) == (0, True), text
    assert postgres_of(own) == []  # what the doctor started is gone again
    with embedded_server(own.data_dir):
        assert counts("kept") == {**each, "vector_indexes": 1}
        status, text = doctor(own)
    assert status == 0, text
    assert list((own.data_dir / "uploads").glob(f"{folder_of(TenantId('gone'))}*")) == []


async def _indexes(patient: Patient) -> list[str]:
    rows = await patient.owner.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'i' AND relname LIKE 'face_vector_hnsw%'"
    )
    return [row["relname"] for row in rows]
