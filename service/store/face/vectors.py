"""Vectors of a second model: written beside the active ones, then made the active ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
from pgvector import HalfVector

from service.domain.errors import ConfigError
from service.domain.types import Box, Embedding, FaceId, FacePlace, ImageId, TenantId
from service.store.blob.names import belongs_to
from service.store.database.active_model import ActiveModel, activate_model
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.usecases.reembed import LackingFace

# While this command waits for a lock, inserts queue behind it. An insert holds its lock for
# milliseconds; longer transactions, such as an import, are allowed to finish first.
_LOCK_TIMEOUT = "500ms"
_RETRY_PAUSE_S = 2.0
_DELETION_BATCH_SIZE = 500
_FIRST_ID = UUID(int=0)


@asynccontextmanager
async def open_vectors(database: Database, model: ActiveModel) -> AsyncIterator[StoredFaceVectors]:
    """The vectors of a model that will become the active one; one command may hold them at a time.

    Raises:
        ConfigError: another command holds them.
        StoreUnavailableError: the database does not answer, also later in the block.
    """
    async with database.maintenance() as connection:
        if not await connection.fetchval(SQL["lock_reembedding"]):
            raise ConfigError(
                "another `facette reembed` is running on this database: wait until it has finished"
            )
        yield StoredFaceVectors(connection, model)


class StoredFaceVectors:
    """Reads and writes vectors on the connection that holds the lock, so none outlives the lock."""

    def __init__(self, connection: asyncpg.Connection, model: ActiveModel) -> None:
        self._connection = connection
        self._model = model

    async def counts(self) -> tuple[int, int]:
        """The number of faces, and the number of vectors of the model."""
        row = await self._connection.fetchrow(SQL["count_faces_and_vectors"], self._model.space)
        return row["faces"], row["vectors"]

    async def without_bytes(self) -> int:
        """The number of faces without a vector whose image bytes were not kept."""
        return int(
            await self._connection.fetchval(SQL["count_faces_without_bytes"], self._model.space)
        )

    async def last_number(self) -> int:
        """The sequence number of the newest face.

        An insert takes its numbers before it commits. Inserts are excluded while this number is
        read, so no face with a smaller number can appear later.
        """
        while True:
            async with self.changing() as alone:
                if alone:
                    return int(await self._connection.fetchval(SQL["last_face_number"]))
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def lacking(
        self, after: LackingFace | None, since: int, until: int | None, limit: int
    ) -> list[LackingFace]:
        """Faces without a vector that follow `after`; their numbers are in (`since`, `until`]."""
        rows = await self._connection.fetch(
            SQL["faces_to_embed"],
            self._model.space,
            after.tenant_id if after else "",
            after.number if after else 0,
            since,
            limit,
            until,
        )
        return [
            LackingFace(
                TenantId(row["tenant_id"]),
                row["seq"],
                FaceId(str(row["face_id"])),
                ImageId(str(row["image_id"])),
                FacePlace(
                    Box(*row["box"]),
                    tuple(zip(row["landmarks"][::2], row["landmarks"][1::2], strict=True)),
                ),
                row["turned"],
                _own_key(row),
            )
            for row in rows
        ]

    async def add(self, vectors: Sequence[tuple[LackingFace, Embedding]]) -> None:
        """Store the vectors of those faces that still exist; their tenants are locked meanwhile."""
        if not vectors:
            return
        faces = [face for face, _ in vectors]
        tenants, ids = _keys(faces)
        async with self._connection.transaction():
            await self._connection.execute(SQL["lock_tenants"], tenants)
            await self._connection.execute(
                SQL["add_vectors"],
                self._model.space,
                tenants,
                ids,
                [HalfVector(embedding) for _, embedding in vectors],
            )

    async def still_there(self, faces: Sequence[LackingFace]) -> int:
        """The number of these faces that still exist."""
        return int(await self._connection.fetchval(SQL["count_faces_there"], *_keys(faces)))

    async def analyze(self) -> None:
        """Update the planner's statistics before searches use the vectors."""
        await self._connection.execute(SQL["analyze_vectors"])

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[bool]:
        """A transaction that excludes inserts; False when a tenant stays locked for too long."""
        async with self._connection.transaction():
            await self._connection.execute(SQL["limit_wait_for_locks"], _LOCK_TIMEOUT)
            try:
                async with self._connection.transaction():
                    await self._connection.execute(SQL["exclude_inserts"])
            except asyncpg.LockNotAvailableError:
                alone = False
            else:
                alone = True
                await self._connection.execute(SQL["limit_wait_for_locks"], "0")
            yield alone

    async def activate(self) -> None:
        """Make the model the active one; call it while inserts are excluded."""
        await activate_model(self._connection, self._model)

    async def delete_replaced(self) -> AsyncIterator[int]:
        """Delete other models' vectors of faces that have a new one; yields batch sizes."""
        after = ""
        while tenants := await self._connection.fetch(SQL["tenants_after"], after):
            for row in tenants:
                async for deleted in self._delete_replaced_of(row["tenant_id"]):
                    yield deleted
            after = tenants[-1]["tenant_id"]

    async def _delete_replaced_of(self, tenant_id: str) -> AsyncIterator[int]:
        last: tuple[UUID, str] = (_FIRST_ID, "")
        while True:
            # Writers delete the same rows in another order; the lock prevents deadlock.
            async with self._connection.transaction():
                await self._connection.execute(SQL["lock_tenants"], [tenant_id])
                rows = await self._connection.fetch(
                    SQL["delete_replaced_vectors"],
                    tenant_id,
                    self._model.space,
                    *last,
                    _DELETION_BATCH_SIZE,
                )
            if not rows:
                return
            yield len(rows)
            last = (rows[-1]["face_id"], rows[-1]["model_space"])


def _keys(faces: Sequence[LackingFace]) -> tuple[list[str], list[UUID]]:
    return [face.tenant_id for face in faces], [UUID(face.face_id) for face in faces]


def _own_key(row: asyncpg.Record) -> str | None:
    """The blob key of a face's image; None when it is not a key in the tenant's own folder."""
    key, tenant_id = row["blob_key"], TenantId(row["tenant_id"])
    return str(key) if key is not None and belongs_to(key, tenant_id) else None
