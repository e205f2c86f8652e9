"""An installation that archives come from and go to, and a tenant that is hard to write down."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
from pgvector import HalfVector

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
# With the number of dimensions of each.
SPACES = {ModelSpace("made-up/1"): 512, ModelSpace("odd\t\\space/2"): 128}
FACES = 60


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
    ) -> tuple[TenantId, Counts]:
        async with self.database.maintenance() as connection:
            return await import_tenant(
                connection, path, blobs or self.blobs, rename=rename, keep_photos=keep_photos
            )

    async def rows(self, tenant_id: TenantId = TENANT) -> dict[str, list[tuple[object, ...]]]:
        """Everything of a tenant, in order, but what is the database's own."""
        own = {
            "tenant": "created_at, people",
            "image": "image_id, format, width, height, size_bytes, sha256, phash, created_at,"
            " turned",
            "cluster": "cluster_id, created_at",
            "cluster_sum": "cluster_id, model_space, total",
            "face": "face_id, image_id, cluster_id, box, landmarks, area, confidence,"
            " is_auto_matched, distance, quality, quality_facts, is_matchable",
            "face_vector": "face_id, model_space, embedding::text, is_matchable",
            "review": "cluster_id, created_at",
        }
        order = {"face": "seq", "review": "review_id"}
        async with self.database.maintenance() as connection:
            return {
                table: [
                    tuple(row)
                    for row in await connection.fetch(
                        f"SELECT {columns} FROM {table} WHERE tenant_id = $1"
                        f" ORDER BY {order.get(table, columns)}",
                        tenant_id,
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

    async def is_untouched(self) -> bool:
        """Whether there is neither a row nor a file."""
        rows = await self.rows()
        return not any(rows.values()) and files_below(self.uploads) == []


def facts_of(nth: int) -> str:
    """The facts of a face's quality, with numbers that are hard to write down."""
    names = ("size", "sharpness", "brightness", "contrast", "yaw", "roll")
    numbers = {name: nth / (3 + k) for k, name in enumerate(names)}
    return json.dumps({**numbers, "reasons": ["dark", "low_contrast"][: nth % 3]})


async def fill(house: House, tenant_id: TenantId = TENANT, seed: int = 1) -> None:
    """A tenant with photos of two models, reviews, and numbers that are hard to write down."""
    rng = np.random.default_rng(seed)
    began = datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)
    images, clusters = ([UUID(bytes=rng.bytes(16)) for _ in range(n)] for n in (20, 7))
    faces = [UUID(bytes=rng.bytes(16)) for _ in range(FACES)]
    async with house.database.maintenance() as connection, connection.transaction():
        await connection.execute("INSERT INTO tenant VALUES ($1, $2)", tenant_id, began)
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
