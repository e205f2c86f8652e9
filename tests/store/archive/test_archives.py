"""A tenant that goes through an archive is the same tenant, and a bad archive changes nothing."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import orjson
import pytest

from service.domain.errors import (
    ArchiveError,
    NotFoundError,
    StoreUnavailableError,
    TenantExistsError,
)
from service.domain.people import MAX_METADATA_BYTES
from service.store.archive import format as archive_format
from service.store.archive.export import Exported
from service.store.archive.format import HEAD, MANIFEST, PARTS, Counts
from service.store.blob.folder import FolderBlobStore
from service.store.blob.index import DatabaseSweepTurns
from service.store.database.database import Database, DatabaseSettings
from service.store.database.statements import SQL
from service.store.embedded.server import embedded_server
from service.store.face.indexer import vector_sets
from tests.support.analysed import files_below
from tests.support.archive_house import (
    FACES,
    OTHER,
    TENANT,
    House,
    Untouched,
    entries,
    fill,
    write,
)
from tests.support.databases import Databases
from tests.support.folders import open_folder
from tests.support.service import lay_database
from tests.support.sums import are_exact


@pytest.fixture
def bare(database: Database, uploads: Path) -> House:
    """An installation without a tenant."""
    return House.of(database, uploads)


@pytest.fixture
async def second(databases: Databases, tmp_path: Path) -> House:
    """Another database of the same server, with a folder of its own and without a tenant."""
    return House.of(await databases.migrated(), tmp_path / "second")


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def content(path: Path) -> bytes:
    return path.read_bytes()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def are_equal(one: Path, two: Path) -> bool:
    return one.read_bytes() == two.read_bytes()


OF_VERSION_1 = Path(__file__).parent / "tenant_of_version_1.tar.gz"
OF_VERSION_2 = Path(__file__).parent / "tenant_of_version_2.tar.gz"
OF_VERSION_3 = Path(__file__).parent / "tenant_of_version_3.tar.gz"
OF_RELEASES_BEFORE = pytest.mark.parametrize(
    "archive", [OF_VERSION_1, OF_VERSION_2, OF_VERSION_3], ids=["1", "2", "3"]
)
ESCAPED = "escaped-from-an-archive.txt"
COUNTS = Counts(
    images=20,
    photos=15,
    clusters=8,
    faces=FACES,
    vectors=90,
    reviews=8,
    merges=3,
    decisions=2,
    decision_faces=4,
)


async def test_tenant_is_the_same_in_another_database(
    house: House, second: House, path: Path
) -> None:
    await fill(house, OTHER, seed=2)
    assert await house.export(path) == Exported(COUNTS, deleted_photos=0, lost_photos=0)
    assert await second.bring_in(path) == (TENANT, COUNTS)
    assert await second.rows() == await house.rows()
    photos = await second.photos()
    assert len(photos) == 15
    assert photos.items() <= (await house.photos()).items()
    assert not any((await second.rows(OTHER)).values())


async def test_what_is_decided_no_more_and_the_history_stay_behind(
    house: House, second: House, path: Path
) -> None:
    holding = await house.rows()
    async with house.database.maintenance() as connection:
        for kind, active, left in (
            ("same", False, (None, None, None)),  # taken back
            ("same", True, (3, 3, None)),  # all faces but one were taken elsewhere
            ("different", True, (None, None, 3)),  # and here all of one side
        ):
            decision_id = uuid4()
            await connection.execute(
                "INSERT INTO decision (tenant_id, decision_id, kind, is_active)"
                " VALUES ($1, $2, $3, $4)",
                *(TENANT, decision_id, kind, active),
            )
            await connection.executemany(
                "INSERT INTO decision_face SELECT tenant_id, $1, face_id, $3, true, cluster_id, $4"
                " FROM face WHERE tenant_id = $5 ORDER BY seq LIMIT 1 OFFSET $2",
                [(decision_id, nth, nth // 2, by, TENANT) for nth, by in enumerate(left)],
            )
        await connection.execute(  # and of the others a face that left
            "INSERT INTO decision_face SELECT tenant_id, decision_id, face_id, 1, true, cluster_id,"
            " 3 FROM decision CROSS JOIN LATERAL ("
            " SELECT face_id, cluster_id FROM face ORDER BY seq DESC LIMIT 1) AS last"
            " WHERE key_id IS NOT NULL"
        )
        await connection.execute(
            "INSERT INTO change (tenant_id, change, kind, subject) VALUES ($1, 3, 'a', '{}')",
            TENANT,
        )
    await house.export(path)
    assert (await second.bring_in(path))[1] == COUNTS
    assert await second.rows() == holding
    async with second.database.maintenance() as connection:
        told = await connection.fetch(
            "SELECT key_id FROM change UNION ALL SELECT key_id FROM decision WHERE key_id <> ''"
            " UNION ALL SELECT leased_by FROM review WHERE leased_by <> ''"
        )
    assert told == []


@pytest.mark.parametrize(
    ("suffix", "images"),
    [("tar", True), ("tar", False), ("tar.gz", True), ("tgz", False)],
    ids=["tar", "tar without photos", "tar.gz", "tgz without photos"],
)
async def test_archive_of_an_imported_tenant_is_the_same_byte_for_byte(
    house: House, second: House, tmp_path: Path, suffix: str, images: bool
) -> None:
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    await house.export(one, images=images)
    assert (one.read_bytes()[:2] == b"\x1f\x8b") == (suffix != "tar")
    await second.bring_in(one)
    await second.export(two, images=images)
    assert are_equal(one, two)
    assert len(await second.photos()) == (15 if images else 0)


async def test_tenant_goes_into_another_server_and_back(house: House, tmp_path: Path) -> None:
    one, two = tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"
    await house.export(one)
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        lay_database(folder)
        address = stack.enter_context(embedded_server(folder))
        settings = DatabaseSettings(
            address.socket_dir, address.port, address.dbname, address.user, "", 4, 10.0, 30.0
        )
        database = await Database.open(settings)
        async with database.maintenance() as connection:
            for setting in ("TimeZone = 'Asia/Kathmandu'", "extra_float_digits = 0"):
                await connection.execute(f"ALTER DATABASE {address.dbname} SET {setting}")
            await connection.execute(f"ALTER DATABASE {address.dbname} SET DateStyle = 'German'")
        away = House(database, FolderBlobStore(tmp_path / "away"), tmp_path / "away")
        await away.bring_in(one)
        await away.export(two)
        await database.close()
    assert are_equal(one, two)


async def test_tenant_may_get_another_name(house: House, path: Path, tmp_path: Path) -> None:
    await house.export(path)
    assert await house.bring_in(path, rename=OTHER) == (OTHER, COUNTS)
    rows, others = await house.rows(), await house.rows(OTHER)
    assert rows == others
    assert len(files_below(house.uploads)) == 30
    again = tmp_path / "again.tar"
    await house.export(again, OTHER)
    same = {name: data for name, data in entries(path).items() if name not in (HEAD, MANIFEST)}
    assert same.items() <= entries(again).items()
    assert json.loads(entries(again)[HEAD])["tenant_id"] == OTHER


@pytest.mark.parametrize("archive", [OF_VERSION_1, OF_VERSION_2], ids=["1", "2"])
async def test_archive_of_a_release_before_comes_in_with_defaults(
    bare: House, archive: Path
) -> None:
    tenant_id, counts = await bare.bring_in(archive)
    assert counts == Counts(
        3, 2, 2, faces=5, vectors=7, reviews=1, merges=0, decisions=0, decision_faces=0
    )
    rows = await bare.rows(tenant_id)
    (tenant,) = rows["tenant"]
    assert tenant[1:] == (2, 3, 5, 1.0)
    assert [row[-4:] for row in rows["image"]] == [(None, 1, None, None)] * 3
    facts = {row[2:8] for row in rows["cluster"]}
    assert facts == {(None, None, None, "{}", False, 1)}
    assert rows["merged_cluster"] == []
    async with bare.database.maintenance() as connection:
        assert await are_exact(connection)
        assert await connection.fetchval(SQL["clusters_counted_wrongly"], tenant_id) == 0
        assert await connection.fetchval(
            "SELECT bool_and(last_face_at = newest) FROM cluster JOIN ("
            " SELECT cluster_id, max(image.created_at) AS newest"
            " FROM face JOIN image USING (tenant_id, image_id) GROUP BY cluster_id"
            ") AS found USING (cluster_id)"
        )
    assert len(await bare.photos()) == 2


async def test_archive_of_version_1_has_neither_turned_photos_nor_qualities(bare: House) -> None:
    tenant_id, _ = await bare.bring_in(OF_VERSION_1)
    rows = await bare.rows(tenant_id)
    assert [row[8] for row in rows["image"]] == [0, 0, 0]
    assert [row[-3:] for row in rows["face"]] == [(None, None, True)] * 5
    assert [row[-1] for row in rows["face_vector"]] == [True] * 7
    assert sorted(total[0] for _, _, total in rows["cluster_sum"]) == [1, 1, 2, 3]
    # No face is better than another one: the first of each cluster is its cover.
    first = {row[2]: row[0] for row in reversed(rows["face"])}
    assert {row[0]: row[-2] for row in rows["cluster"]} == first


async def test_archive_of_version_2_has_turned_photos_and_qualities(bare: House) -> None:
    tenant_id, _ = await bare.bring_in(OF_VERSION_2)
    rows = await bare.rows(tenant_id)
    assert sorted(row[8] for row in rows["image"]) == [0, 90, 180]
    assert [row[-3] for row in rows["face"]] == [0.25, 0.5, 0.75, None, 0.125]
    assert [row[-1] for row in rows["face"]] == [True] * 4 + [False]
    assert sorted(row[-1] for row in rows["cluster"]) == [0.5, 0.75]  # of their covers


async def test_archive_of_version_3_has_people_and_questions_who_they_are(bare: House) -> None:
    tenant_id, counts = await bare.bring_in(OF_VERSION_3)
    assert counts == Counts(
        3, 2, 2, faces=5, vectors=7, reviews=1, merges=1, decisions=0, decision_faces=0
    )
    rows = await bare.rows(tenant_id)
    assert ("Anna", "anna", "p-17", '{"team": "blue"}', False, 3) in {
        row[2:8] for row in rows["cluster"]
    }
    ((into, at),) = [row[1:] for row in rows["merged_cluster"]]
    assert (into, at.year) in {(row[0], 2024) for row in rows["cluster"]}
    (review,) = rows["review"]
    chance, worth = review[9:11]
    assert review[2:] == ("new_person", *(None,) * 5, 1, chance, worth, False)
    assert chance == worth == pytest.approx(0.1)


async def test_archive_of_version_4_has_the_usual_limit(
    house: House, second: House, path: Path
) -> None:
    """It is one of version 5 whose head says nothing of the limit."""
    await house.export(path)
    found = entries(path)
    for name in (HEAD, MANIFEST):
        fields = json.loads(found[name])
        assert (fields.pop("match_factor"), fields["version"]) == (0.1, 5)
        found[name] = json.dumps({**fields, "version": 4}, ensure_ascii=False, indent=1).encode()
        found[name] += b"\n"
    write(path, found.items())
    await second.bring_in(path)
    ((*_, factor),) = (await second.rows())["tenant"]
    assert factor == 1.0


@OF_RELEASES_BEFORE
async def test_archive_of_a_release_before_that_was_damaged_is_refused(
    bare: House, path: Path, archive: Path
) -> None:
    found = entries(archive)
    write(path, _edited("rows/faces-000001.tsv", b"0.75", b"0.76")(found).items())
    with pytest.raises(ArchiveError, match="manifest"):
        await bare.bring_in(path)


@OF_RELEASES_BEFORE
async def test_archive_of_a_release_before_has_no_rows_of_a_later_version(
    bare: House, path: Path, archive: Path
) -> None:
    found = entries(archive)
    last = list(found)[-2]
    write(path, _added("rows/decisions-000001.tsv", b"", behind=last)(found).items())
    with pytest.raises(ArchiveError, match="not part of its version"):
        await bare.bring_in(path)


async def test_metadata_of_the_largest_size_go_through_an_archive(
    house: House, second: House, path: Path, tmp_path: Path
) -> None:
    """The database writes numbers without exponents, so that they take 50 times as much there."""
    room = MAX_METADATA_BYTES - len('{"a":[]}')
    largest = [
        orjson.dumps({"a": [number] * (room // len(orjson.dumps([number])[1:]))})
        for number in (1e308, -5e-324, 1e16, 1e17, 10**17 + 3)
    ]
    largest.append(orjson.dumps({"a": "\\" * (room // 2)}))
    assert all(-30 < len(each) - MAX_METADATA_BYTES <= 0 for each in largest)
    async with house.database.maintenance() as connection:
        people = await connection.fetch("SELECT cluster_id FROM cluster")
        await connection.executemany(
            "UPDATE cluster SET metadata = $2 WHERE cluster_id = $1",
            [
                (person["cluster_id"], each.decode())
                for person, each in zip(people, largest, strict=False)
            ],
        )
    await house.export(path)
    await second.bring_in(path)
    assert await second.rows() == await house.rows()
    await second.export(tmp_path / "again.tar")
    assert are_equal(path, tmp_path / "again.tar")


async def test_places_are_not_stored_where_they_are_not_to_be_kept(
    house: House, second: House, path: Path
) -> None:
    await house.export(path)
    assert b"48.137154" in entries(path)["rows/images-000001.tsv"]
    await second.bring_in(path, keep_locations=False)
    one, two = await house.rows(), await second.rows()
    assert [row[-2:] for row in two.pop("image")] == [(None, None)] * 20
    assert two.items() <= one.items()


async def test_covers_that_nobody_chose_are_chosen_again_and_the_others_stay(
    second: House, archive: Path
) -> None:
    await second.bring_in(archive)
    async with second.database.maintenance() as connection:
        (chosen,) = await connection.fetch(
            "SELECT cluster_id, cover_face_id FROM cluster"
            " WHERE cover_quality IS NULL AND cover_face_id IS NOT NULL"
        )
        await connection.execute("UPDATE face SET cluster_id = $1", chosen["cluster_id"])
        covers = await connection.fetch("SELECT cover_face_id FROM cluster WHERE faces > 0")
    assert [row["cover_face_id"] for row in covers] == [chosen["cover_face_id"]]


async def test_sums_come_with_the_faces(second: House, archive: Path) -> None:
    await second.bring_in(archive)
    async with second.database.maintenance() as connection:
        assert await are_exact(connection)


async def test_vectors_of_another_dimension_than_those_that_are_here_are_refused(
    house: House, path: Path
) -> None:
    await house.export(path)
    async with house.database.maintenance() as connection:
        await connection.execute("DELETE FROM face_vector")
        await connection.execute(
            "INSERT INTO face_vector SELECT tenant_id, face_id, 'made-up/1', '[1,2,3]' FROM face"
        )
    with pytest.raises(ArchiveError, match="another number of dim"):
        await house.bring_in(path, rename=OTHER)


async def test_rows_in_many_pieces_are_whole(
    house: House, second: House, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.archive.export.PART_BYTES", 1500)
    await house.export(path)
    pieces = [name for name in entries(path) if name.startswith("rows/")]
    assert len(pieces) > 60
    await second.bring_in(path)
    assert await second.rows() == await house.rows()
    await second.export(tmp_path / "again.tar")
    assert are_equal(path, tmp_path / "again.tar")


async def test_empty_tenant_goes_through_an_archive(bare: House, second: House, path: Path) -> None:
    async with bare.database.maintenance() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", TENANT)
    await bare.export(path)
    assert await second.bring_in(path) == (TENANT, Counts(0, 0, 0, 0, 0, 0, 0, 0, 0))
    assert await second.rows() == await bare.rows()


async def test_imported_vectors_wait_for_the_indexer(second: House, archive: Path) -> None:
    await second.bring_in(archive)
    async with second.database.maintenance() as connection:
        sets = await vector_sets(connection, 1)
    assert {(each.indexed, each.waiting) for each in sets} == {(0, 48), (0, 24)}  # others match


async def test_what_is_stored_after_an_import_comes_after_it(
    bare: House, second: House, path: Path
) -> None:
    async with bare.database.maintenance() as connection:
        await connection.execute("ALTER SEQUENCE review_review_id_seq RESTART 1000000")
    await fill(bare)
    await bare.export(path)
    await second.bring_in(path)
    async with second.database.maintenance() as connection:
        first = await connection.fetchrow("SELECT * FROM face ORDER BY seq LIMIT 1")
        review_id = await connection.fetchval(
            "INSERT INTO review (tenant_id, cluster_id) VALUES ($1, $2) RETURNING review_id",
            TENANT,
            first["cluster_id"],
        )
        assert review_id > await connection.fetchval(
            "SELECT max(review_id) FROM review WHERE review_id <> $1", review_id
        )
        seq = await connection.fetchval(
            "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks, area,"
            " confidence, is_auto_matched) VALUES ($1, gen_random_uuid(), $2, $3, $4, $5, $6, 1,"
            " false) RETURNING seq",
            *(TENANT, first["image_id"], first["cluster_id"]),
            *(first["box"], first["landmarks"], first["area"]),
        )
        assert seq == await connection.fetchval("SELECT max(seq) FROM face")


async def test_reviews_of_others_keep_their_numbering(house: House, path: Path) -> None:
    """An archive with lower numbers must not set the counter back."""
    await house.export(path)
    async with house.database.maintenance() as connection:
        await connection.execute("ALTER SEQUENCE review_review_id_seq RESTART 5000")
        await house.bring_in(path, rename=OTHER)
        cluster_id = await connection.fetchval("SELECT cluster_id FROM cluster LIMIT 1")
        review_id = await connection.fetchval(
            "INSERT INTO review (tenant_id, cluster_id) VALUES ($1, $2) RETURNING review_id",
            TENANT,
            cluster_id,
        )
    assert 5000 <= review_id < 5010


async def test_export_sees_one_moment(
    house: House, second: House, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.archive.export._PHOTOS_AT_ONCE", 2)
    before = await house.rows()

    class Deleting(FolderBlobStore):
        """Deletes three images and all reviews while the first photo is read."""

        done = False

        async def get(self, key: str) -> bytes:
            if not self.done:
                self.done = True
                async with house.database.maintenance() as connection:
                    rows = await connection.fetch(
                        "DELETE FROM image WHERE tenant_id = $1 AND image_id IN (SELECT image_id"
                        " FROM image WHERE blob_key IS NOT NULL ORDER BY created_at DESC LIMIT 3)"
                        " RETURNING blob_key",
                        TENANT,
                    )
                    await connection.execute("DELETE FROM review")
                await self.delete(row["blob_key"] for row in rows)
            return await super().get(key)

    leaving = House(house.database, Deleting(house.uploads), house.uploads)
    done = await leaving.export(path)
    assert (done.deleted_photos, done.lost_photos, done.counts.photos) == (3, 0, 12)
    await second.bring_in(path)
    assert await second.rows() == before
    assert len(await second.photos()) == 12


async def test_photo_that_is_missing_or_damaged_is_left_out_and_told(
    house: House, second: House, path: Path
) -> None:
    lost, damaged, *_ = files_below(house.uploads)
    (house.uploads / lost).unlink()
    (house.uploads / damaged).write_bytes(b"something else")
    done = await house.export(path)
    assert (done.deleted_photos, done.lost_photos, done.counts.photos) == (0, 2, 13)
    await second.bring_in(path)
    assert await second.rows() == await house.rows()
    assert len(await second.photos()) == 13


async def test_tenant_that_is_not_there_leaves_no_file(bare: House, path: Path) -> None:
    with pytest.raises(NotFoundError):
        await bare.export(path)
    assert [each for each in path.parent.iterdir() if each.is_file()] == []


async def test_file_that_is_there_is_not_overwritten(house: House, path: Path) -> None:
    overwrite(path, b"somebody's")
    with pytest.raises(ArchiveError, match="is there already"):
        await house.export(path)
    assert content(path) == b"somebody's"


async def test_archive_is_for_its_owner_alone(house: House, path: Path) -> None:
    await house.export(path)
    assert mode(path) == 0o600


async def test_tenant_that_exists_is_not_touched(house: House, path: Path) -> None:
    await house.export(path)
    before = await house.rows()
    with pytest.raises(TenantExistsError, match="already"):
        await house.bring_in(path)
    assert await house.rows() == before
    assert len(await house.photos()) == 15


async def test_photos_that_are_not_to_be_kept_are_checked_and_not_stored(
    house: House, second: House, path: Path, tmp_path: Path
) -> None:
    await house.export(path)
    await second.bring_in(path, keep_photos=False)
    assert await second.photos() == {}
    assert await second.rows() == await house.rows()
    bad = write(tmp_path / "bad.tar", _with_other_photo(entries(path)).items())
    with pytest.raises(ArchiveError):
        await second.bring_in(bad, rename=OTHER, keep_photos=False)


def _with_other_photo(found: dict[str, bytes]) -> dict[str, bytes]:
    name = next(name for name in found if name.startswith("photos/"))
    return {**found, name: found[name][:-1] + b"!"}


async def test_archive_that_was_cut_off_anywhere_imports_nothing(
    house: House, untouched: Untouched, tmp_path: Path
) -> None:
    for suffix in ("tar", "tar.gz"):
        whole = tmp_path / f"whole.{suffix}"
        await house.export(whole)
        data = whole.read_bytes()
        # The last kilobytes of a tar file are padding, without which it is as good.
        ends = [0, 1, 700, *range(5000, len(data) - 12000, len(data) // 7)]
        ends += [len(data) - 1] if suffix == "tar.gz" else []
        for end in ends:
            cut = tmp_path / f"cut.{suffix}"
            cut.write_bytes(data[:end])
            assert isinstance(await untouched.refuse(cut), ArchiveError), (suffix, end)


async def test_gzip_whose_sum_does_not_fit_imports_nothing(
    house: House, untouched: Untouched, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar.gz"
    await house.export(path)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    refusal = await untouched.refuse(path)
    assert isinstance(refusal, ArchiveError)
    assert "damaged" in refusal.message


Found = dict[str, bytes]


def _without(name: str) -> Callable[[Found], Found]:
    return lambda found: {each: data for each, data in found.items() if each != name}


def _edited(name: str, old: bytes, new: bytes) -> Callable[[Found], Found]:
    def edit(found: Found) -> Found:
        assert old in found[name]
        return {**found, name: found[name].replace(old, new, 1)}

    return edit


def _head_with(**fields: object) -> Callable[[Found], Found]:
    return lambda found: {**found, HEAD: json.dumps({**json.loads(found[HEAD]), **fields}).encode()}


def _added(name: str, data: bytes = b"x", *, behind: str = HEAD) -> Callable[[Found], Found]:
    def add(found: Found) -> Found:
        result: Found = {}
        for each, content in found.items():
            result[each] = content
            if each == behind:
                result[name] = data
        return result

    return add


def _swapped(found: Found) -> Found:
    """Faces before the images they are on."""
    names = list(found)
    first, second = names.index("rows/images-000001.tsv"), names.index("rows/faces-000001.tsv")
    names[first], names[second] = names[second], names[first]
    return {name: found[name] for name in names}


def _photo(found: Found) -> str:
    return next(name for name in found if name.startswith("photos/"))


DAMAGES: dict[str, Callable[[Found], Found]] = {
    "no head": _without(HEAD),
    "no manifest": _without(MANIFEST),
    "no vectors": _without("rows/vectors-000001.tsv"),
    "no images": _without("rows/images-000001.tsv"),
    "no photo": lambda found: _without(_photo(found))(found),
    "another photo": _with_other_photo,
    "a photo too many": _added(f"photos/{uuid4()}.jpg"),
    "a photo behind the rows": _added(f"photos/{uuid4()}.jpg", behind="rows/faces-000001.tsv"),
    "an edited number": _edited("rows/faces-000001.tsv", b"2147483647", b"2147483646"),
    "an edited manifest": _edited(MANIFEST, b'"faces": 60', b'"faces": 61'),
    "a manifest of another tenant": _edited(MANIFEST, b'"tenant_id": "', b'"tenant_id": "x'),
    "a manifest that is no JSON": lambda found: {**found, MANIFEST: b"{"},
    "a newer format": _head_with(version=6),
    "no factor": _head_with(match_factor=None),
    "a factor of 0": _head_with(match_factor=0.0),
    "a factor that is no number": _head_with(match_factor=float("nan")),
    "a newer schema": _head_with(schema=9999),
    "another format": _head_with(format="zip"),
    "a tenant without a name": _head_with(tenant_id=None),
    "a name that cannot be stored": _head_with(tenant_id="a\0b"),
    "a time that is none": _head_with(created_at="yesterday; DROP TABLE face"),
    "a head that is a list": lambda found: {**found, HEAD: b"[]"},
    "a path out of it": _added(f"../{ESCAPED}"),
    "an absolute path": _added(f"/tmp/{ESCAPED}"),
    "an unknown kind": _added("rows/secrets-000001.tsv"),
    "something unknown": _added("notes.txt"),
    "something behind the manifest": _added("rows/reviews-000002.tsv", behind=MANIFEST),
    "pieces in another order": _swapped,
    "a piece missing before": lambda found: {
        {"rows/faces-000001.tsv": "rows/faces-000002.tsv"}.get(name, name): data
        for name, data in found.items()
    },
    "a row cut off": lambda found: {
        **found,
        "rows/clusters-000001.tsv": found["rows/clusters-000001.tsv"][:-9],
    },
    "a row of too many columns": _edited("rows/clusters-000001.tsv", b"\n", b"\tmore\n"),
    "an image of another tenant's folder": lambda found: {
        **found,
        "rows/images-000001.tsv": found["rows/images-000001.tsv"].replace(b"\tjpg\t", b"\t../x\t"),
    },
    "a vector that is short": lambda found: {
        **found,
        "rows/vectors-000001.tsv": b"\t".join(
            [*found["rows/vectors-000001.tsv"].split(b"\n")[0].split(b"\t")[:2], b"AAAA\n"]
        ),
    },
    "vectors of one model with different dimensions": _edited(
        "rows/vectors-000001.tsv", b"\todd\\t\\\\space/2\t", b"\tmade-up/1\t"
    ),
    "a review of no size": _edited("rows/reviews-000001.tsv", b"1\t", b"9223372036854775807\t"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_archive_imports_nothing(
    untouched: Untouched, archive: Path, tmp_path: Path, damage: str
) -> None:
    bad = write(tmp_path / "bad.tar", DAMAGES[damage](entries(archive)).items())
    assert isinstance(await untouched.refuse(bad), ArchiveError)
    assert [each for each in (tmp_path, tmp_path.parent) if (each / ESCAPED).exists()] == []


async def test_nothing_of_a_failed_import_is_in_the_way_of_another(
    second: House, archive: Path, tmp_path: Path
) -> None:
    for damage in DAMAGES.values():
        bad = write(tmp_path / "bad.tar", damage(entries(archive)).items())
        with pytest.raises(ArchiveError):
            await second.bring_in(bad)
    await second.bring_in(archive)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
async def test_archive_with_links_or_folders_imports_nothing(
    untouched: Untouched, archive: Path, tmp_path: Path, kind: bytes
) -> None:
    bad = tmp_path / "bad.tar"
    with tarfile.open(bad, "w") as tar:
        for name, data in entries(archive).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
            if name == HEAD:
                link = tarfile.TarInfo(f"photos/{uuid4()}.jpg")
                link.type, link.linkname = kind, "/etc/passwd"
                tar.addfile(link)
    refusal = await untouched.refuse(bad)
    assert isinstance(refusal, ArchiveError)
    assert "no regular file" in refusal.message


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04 a zip", b"\x1f\x8b", gzip.compress(b"text", mtime=0)],
    ids=["empty", "zip", "gzip cut off", "gzip of something else"],
)
async def test_file_that_is_no_archive_is_refused(
    untouched: Untouched, path: Path, data: bytes
) -> None:
    overwrite(path, data)
    assert isinstance(await untouched.refuse(path), ArchiveError)


async def test_blob_store_that_fails_amid_an_import_leaves_nothing(
    untouched: Untouched, archive: Path
) -> None:
    class Full(FolderBlobStore):
        puts = 0

        async def put(self, key: str, data: bytes) -> str:
            self.puts += 1
            if self.puts == 9:
                raise StoreUnavailableError("The image store does not answer.")
            return await super().put(key, data)

    refusal = await untouched.refuse(archive, blobs=Full(untouched.house.uploads))
    assert isinstance(refusal, StoreUnavailableError)


async def test_no_sweep_runs_while_photos_wait_for_their_rows(second: House, archive: Path) -> None:
    swept: list[bool] = []

    class Looking(FolderBlobStore):
        async def put(self, key: str, data: bytes) -> str:
            async with DatabaseSweepTurns(second.database).take() as index:
                swept.append(index is not None)
            return await super().put(key, data)

    await second.bring_in(archive, blobs=Looking(second.uploads))
    assert swept == [False] * 15
    async with DatabaseSweepTurns(second.database).take() as index:
        assert index is not None


async def test_archive_has_every_column_but_those_of_the_database_itself(
    database: Database,
) -> None:
    async with database.maintenance() as connection:
        rows = await connection.fetch(
            "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition AND attnum > 0 AND NOT attisdropped"
        )
    tables: dict[str, set[str]] = {}
    for row in rows:
        tables.setdefault(row["relname"], set()).add(row["attname"])
    # Drawn anew in each database, or put in by the import.
    own = {"tenant_id", "seq", "indexed", "blob_key"}
    tables["face_vector"].remove("is_matchable")  # as the face says
    tables["image"] -= {"change", *(f"phash_{part}" for part in range(4))}
    tables["cluster"] -= {"faces", "images", "cover_quality", "label_key", "is_labelled"}
    tables["tenant"] -= {"changes", "watched_until", "people", "images", "faces"}
    # Of the installation: its limits, what happened in it, and its answers to requests.
    tables["tenant"] -= {"max_images", "max_faces", "requests_per_minute"}
    tables["tenant"] -= {"asked_seq", "asked_change"}  # after an import all people are looked at
    for table in ("", "_face", "_cluster", "_decision", "_review"):
        del tables[f"change{table}"]
    del tables["kept_answer"]
    tables["review"] -= {"worth", "leased_by", "leased_until"}
    tables["decision"] -= {"key_id", "is_active"}  # those that hold alone
    tables["decision_face"] -= {"cluster_id", "left_by", "returned_by"}
    archived = {
        "image": PARTS["images"],
        "cluster": PARTS["clusters"],
        "face": PARTS["faces"],
        "face_vector": PARTS["vectors"],
        "review": PARTS["reviews"],
        "merged_cluster": PARTS["merges"],
        "decision": PARTS["decisions"],
        "decision_face": PARTS["decision_faces"],
        "tenant": ["created_at", "match_factor"],  # in the head
    }
    for table, columns in archived.items():
        assert tables[table] - own == set(columns) - {"photo_suffix"}, table
    # Computed from the faces, and facts about the database.
    others = {"cluster_sum", "migration", "embedding_model", "database_identity", "access_key"}
    others.add("console_session")
    assert tables.keys() - archived.keys() == others


@pytest.mark.parametrize("text", ["", "plain", "a\tb\\c\nd\re", "\\N", "ü漢"])
async def test_text_is_read_as_the_database_escapes_it(bare: House, text: str) -> None:
    async with bare.database.maintenance() as connection:
        written = io.BytesIO()
        await connection.copy_from_query("SELECT $1::text", text, output=written)
    assert archive_format.unescape(written.getvalue().removesuffix(b"\n")) == text


async def test_vectors_are_the_numbers_that_were_stored(house: House, path: Path) -> None:
    await house.export(path)
    line = entries(path)["rows/vectors-000001.tsv"].split(b"\n")[0].split(b"\t")
    numbers = struct.unpack(">512e", base64.b64decode(line[2]))
    async with house.database.maintenance() as connection:
        stored = await connection.fetchval(
            "SELECT embedding FROM face_vector WHERE face_id = $1 AND model_space = $2",
            UUID(line[0].decode()),
            "made-up/1",
        )
    assert list(numbers) == stored.to_list()
