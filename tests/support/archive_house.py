"""An installation that archives come from and go to, and a tenant that is hard to write down."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
from pgvector import HalfVector

from service.domain.errors import FacetteError
from service.domain.people import label_key
from service.domain.types import ImageId, ModelSpace, TenantId
from service.store.archive.export import Exported, export_tenant
from service.store.archive.file import new_archive, read_archive
from service.store.archive.format import Counts
from service.store.archive.imports import import_tenant
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database
from service.usecases.ports import BlobStore
from tests.support.analysed import files_below

TENANT, OTHER = TenantId(r"it's \one; ünd '\t'"), TenantId("other")
VICTIM = TenantId("victim")
# With the number of dimensions of each.
SPACES = {ModelSpace("made-up/1"): 512, ModelSpace("odd\t\\space/2"): 128}
FACES = 60
# Labels, external ids and metadata; the first is of somebody without faces.
PEOPLE: list[tuple[str | None, str | None, dict[str, object]]] = [
    ("Nobody yet", None, {}),
    (
        r"it's \N \. Zoë 漢 🙂",
        r"\t'; \N",
        {"a\t\n\\b": ["\\N", '"', "\x01", "\x7f", "\u2028", "ü漢🙂"]},
    ),
    (
        "\ufb01 \uff37\uff29\uff24\uff25",
        None,
        {"numbers": [1e300, 5e-324, -0.5, 2**64 - 1, 1e16, 1e5, 0.0]},
    ),
    (None, "only an id", {"": None, "deep": [[[[{"e": {}}]]]], "b": [True, False]}),
]

# By table.
Rows = dict[str, list[tuple[object, ...]]]
# The rows of all tenants, each with its tenant's id, and the names of the files.
State = tuple[Rows, Sequence[str]]


@dataclass(frozen=True, slots=True)
class House:
    """A database with its folder of photos."""

    database: Database
    blobs: FolderBlobStore
    uploads: Path

    @classmethod
    def of(cls, database: Database, uploads: Path) -> House:
        """The installation with this database, and photos in this folder."""
        return cls(database, FolderBlobStore(uploads), uploads)

    async def export(
        self, path: Path, tenant_id: TenantId = TENANT, *, images: bool = True
    ) -> Exported:
        async with self.database.maintenance() as connection:
            with new_archive(path) as archive:
                return await export_tenant(
                    connection, archive, tenant_id, self.blobs if images else None
                )

    async def bring_in(
        self,
        path: Path,
        *,
        rename: TenantId | None = None,
        blobs: BlobStore | None = None,
        keep_photos: bool = True,
        keep_locations: bool = True,
    ) -> tuple[TenantId, Counts]:
        async with self.database.maintenance() as connection:
            return await import_tenant(
                connection,
                path,
                blobs or self.blobs,
                rename=rename,
                keep_photos=keep_photos,
                keep_locations=keep_locations,
            )

    async def rows(self, tenant_id: TenantId = TENANT) -> Rows:
        """Everything of a tenant, in order, but what is the database's own."""
        found = await self._all_rows()
        return {
            table: [row[1:] for row in rows if row[0] == tenant_id] for table, rows in found.items()
        }

    async def state(self) -> State:
        """Everything that an import can change."""
        return await self._all_rows(), files_below(self.uploads)

    async def _all_rows(self) -> Rows:
        own = {
            "tenant": "created_at, people, images, faces, match_factor",
            "image": "image_id, format, width, height, size_bytes, sha256, phash, created_at,"
            " turned, taken_at, orientation, latitude, longitude",
            "cluster": "cluster_id, created_at, label, label_key, external_id, metadata::text,"
            " hidden, version, faces, images, last_face_at, cover_face_id, cover_quality",
            "merged_cluster": "cluster_id, merged_into, merged_at",
            "cluster_sum": "cluster_id, model_space, total",
            "face": "face_id, image_id, cluster_id, box, landmarks, area, confidence,"
            " is_auto_matched, distance, quality, quality_facts, is_matchable",
            "face_vector": "face_id, model_space, embedding::text, is_matchable",
            "review": "cluster_id, created_at, kind, face_id, other_cluster_id, distance,"
            " other_distance, similarity, faces, chance, worth, put_off",
            "decision": "decision_id, kind, decided_at, is_active",
            "decision_face": "decision_id, face_id, side, is_claim, cluster_id",
        }
        order = {"face": "seq", "review": "review_id"}
        async with self.database.maintenance() as connection:
            return {
                table: [
                    tuple(row)
                    for row in await connection.fetch(
                        f"SELECT tenant_id, {columns} FROM {table}"
                        f" ORDER BY tenant_id, {order.get(table, columns)}"
                    )
                ]
                for table, columns in own.items()
            }

    async def photos(self) -> dict[str, bytes]:
        """Photos by image, as the rows name them; every file is named by one."""
        async with self.database.maintenance() as connection:
            rows = await connection.fetch(
                "SELECT image_id, blob_key FROM image WHERE blob_key IS NOT NULL"
            )
        assert {row["blob_key"] for row in rows} == set(files_below(self.uploads))
        return {str(row["image_id"]): await self.blobs.get(row["blob_key"]) for row in rows}


class Untouched:
    """An installation that nothing but refused imports has seen.

    Args:
        before: its state as it was made.
    """

    def __init__(self, house: House, before: State) -> None:
        self.house = house
        self._before = before
        self._is_touched = False

    @property
    def is_touched(self) -> bool:
        """Whether an import began and was not seen to change nothing."""
        return self._is_touched

    @asynccontextmanager
    async def unchanged(self) -> AsyncIterator[None]:
        """For imports that must change nothing."""
        self._is_touched = True
        yield
        assert await self.house.state() == self._before
        self._is_touched = False

    async def refuse(self, archive: Path, *, blobs: BlobStore | None = None) -> FacetteError:
        """Import an archive, which must be refused and change nothing; returns the error."""
        async with self.unchanged():
            try:
                await self.house.bring_in(archive, blobs=blobs)
            except FacetteError as error:
                return error
            raise AssertionError("the archive came in")


def facts_of(nth: int) -> str:
    """The facts of a face's quality, with numbers that are hard to write down."""
    names = ("size", "sharpness", "brightness", "contrast", "yaw", "roll")
    numbers = {name: nth / (3 + k) for k, name in enumerate(names)}
    return json.dumps({**numbers, "reasons": ["dark", "low_contrast"][: nth % 3]})


async def fill(house: House, tenant_id: TenantId = TENANT, seed: int = 1) -> None:
    """A tenant with photos of two models, reviews, and values that are hard to write down."""
    rng = np.random.default_rng(seed)
    began = datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)
    images, clusters = ([UUID(bytes=rng.bytes(16)) for _ in range(n)] for n in (20, 7))
    faces = [UUID(bytes=rng.bytes(16)) for _ in range(FACES)]
    unseen, *merged = (UUID(bytes=rng.bytes(16)) for _ in range(4))
    async with house.database.maintenance() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO tenant (tenant_id, created_at, match_factor) VALUES ($1, $2, 0.1)",
            *(tenant_id, began),
        )
        for nth, image_id in enumerate(images):
            data = rng.bytes(1000 + nth)
            key = None
            if nth % 4:
                key = house.blobs.key(tenant_id, ImageId(str(image_id)), ["jpg", "png"][nth % 2])
                await house.blobs.put(key, data)
            await connection.execute(
                "INSERT INTO image VALUES ($1, $2, $3, 'jpeg', 640, 480, $4, $5, $6, $7, $8)",
                tenant_id,
                image_id,
                key,
                len(data),
                hashlib.sha256(data).hexdigest(),
                rng.bytes(8).hex(),
                began + timedelta(microseconds=int(rng.integers(10**12))),
                90 * (nth % 4),
            )
        await connection.executemany(
            "INSERT INTO cluster VALUES ($1, $2, $3)",
            [(tenant_id, each, began + timedelta(days=1)) for each in clusters],
        )
        for nth, face_id in enumerate(faces):
            is_matchable = nth % 5 > 0
            await connection.execute(
                "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks, area,"
                " confidence, is_auto_matched, distance, quality, quality_facts, is_matchable)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                tenant_id,
                face_id,
                images[nth % len(images)],
                clusters[nth % len(clusters)],
                [float(each) for each in rng.standard_normal(4).astype(np.float32) * 1e3],
                [float(each) for each in rng.standard_normal(10).astype(np.float32)],
                [0, 1, 2, 2147483647],
                float(np.float32(rng.random())),
                nth % 2 == 0,
                None if nth % 3 else float(np.float32(0.1) * nth),
                float(np.float32(rng.random())) if nth % 7 else None,
                facts_of(nth) if nth % 7 else None,
                is_matchable,
            )
            for space, dimension in list(SPACES.items())[: 1 + nth % 2]:
                vector = rng.standard_normal(dimension).astype(np.float16)
                vector[:4] = [6e-8, -0.0, 65504, 1 / 3]
                await connection.execute(
                    "INSERT INTO face_vector VALUES ($1, $2, $3, $4, $5, $5)",
                    tenant_id,
                    face_id,
                    space,
                    HalfVector(vector),
                    is_matchable,
                )
        await connection.executemany(
            "INSERT INTO review (tenant_id, cluster_id, created_at) VALUES ($1, $2, $3)",
            [(tenant_id, each, began) for each in clusters[:5]],
        )
        await connection.executemany(
            "INSERT INTO review (tenant_id, kind, cluster_id, face_id, other_cluster_id, distance,"
            " other_distance, similarity, faces, chance, put_off, leased_by, leased_until)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'somebody', 'infinity')",
            [
                (tenant_id, kind, clusters[at], face, other, *numbers, put_off)
                for kind, at, face, other, numbers, put_off in (
                    ("weak_match", 0, faces[0], clusters[1], (0.1, 1e-7, 0.3, 1, 0.45), False),
                    ("odd_face", 1, faces[1], None, (1.9, None, 0.0, 1, 0.0), True),
                    ("same_person", 2, None, clusters[3], (0.7, None, 1.0, 2**31 - 1, 1.0), False),
                )
            ],
        )
        for kind, sides in (("same", (faces[0], faces[7])), ("different", (faces[1], faces[2]))):
            decision_id = UUID(bytes=rng.bytes(16))
            await connection.execute(
                "INSERT INTO decision VALUES ($1, $2, $3, $4, 'a key')",
                *(tenant_id, decision_id, kind, began),
            )
            await connection.executemany(
                "INSERT INTO decision_face SELECT tenant_id, $1, face_id, $3, $4, cluster_id"
                " FROM face WHERE face_id = $2",
                [(decision_id, face, side, side == 0) for side, face in enumerate(sides)],
            )
        await connection.execute(
            "UPDATE image SET taken_at = '1900-01-01 00:00:00+00', orientation = 6,"
            " latitude = 48.137154000000001, longitude = -1e-7 WHERE image_id = $1",
            images[3],
        )
        for cluster_id, (label, external_id, metadata) in zip(
            [unseen, *clusters], PEOPLE, strict=False
        ):
            await connection.execute(
                "INSERT INTO cluster (tenant_id, cluster_id, created_at, label, label_key,"
                " external_id, metadata, hidden, version, last_face_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, true, 7, $8)"
                " ON CONFLICT (tenant_id, cluster_id) DO UPDATE SET label = excluded.label,"
                " label_key = excluded.label_key, external_id = excluded.external_id,"
                " metadata = excluded.metadata, version = 2",
                *(tenant_id, cluster_id, began, label, label and label_key(label), external_id),
                *(json.dumps(metadata), began + timedelta(days=400)),
            )
        await connection.execute(  # its worst face, as a person may choose it
            "UPDATE cluster SET cover_quality = NULL, cover_face_id = ("
            "SELECT face_id FROM face WHERE face.cluster_id = $1 ORDER BY quality LIMIT 1"
            ") WHERE cluster_id = $1",
            clusters[3],
        )
        await connection.executemany(
            "INSERT INTO merged_cluster VALUES ($1, $2, $3, $4)",
            [(tenant_id, each, clusters[0], began) for each in merged],
        )


async def fill_house(database: Database, uploads: Path) -> None:
    """An installation with that tenant alone."""
    await fill(House.of(database, uploads))


def entries(path: Path) -> dict[str, bytes]:
    return dict(read_archive(path))


def write(path: Path, found: Iterable[tuple[str, bytes]]) -> Path:
    """An archive of these entries, whatever they are."""
    with tarfile.open(path, "w") as tar:
        for name, data in found:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path
