"""The rows of an archive on their way into the tables, under the tenant they get here."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
from pgvector import HalfVector

from service.domain.errors import ArchiveError
from service.domain.types import TenantId
from service.store.archive_format import LARGEST_REVIEW_ID, PARTS, escape, unescape
from service.store.statements import SQL

_TABLES = {
    "images": "image",
    "clusters": "cluster",
    "faces": "face",
    "vectors": "face_vector",
    "reviews": "review",
}
_NULL = b"\\N"
# How pgvector sends a vector: how many numbers, and two bytes that mean nothing.
_VECTOR_HEAD = struct.Struct(">HH")


class RowsIn:
    """Copies pieces of rows into the tables; identity columns that are left out number them anew.

    Args:
        blob_key: the name of an image's photo in the blob store, by its id and suffix.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        blob_key: Callable[[str, str], str],
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._blob_key = blob_key
        self._tenant_column = escape(tenant_id) + b"\t"
        self._last_review = 0

    async def copy(self, kind: str, data: bytes) -> None:
        """Store a piece of rows.

        Raises:
            ArchiveError: they are not in the format.
            asyncpg.DataError, asyncpg.IntegrityConstraintViolationError: the tables refuse them.
        """
        if not data.endswith(b"\n"):
            raise ArchiveError(f"the archive is damaged: a row of its {kind} was cut off")
        lines = data[:-1].split(b"\n")
        copies: dict[str, Callable[[list[bytes]], Awaitable[None]]] = {
            "images": self._copy_images,
            "vectors": self._copy_vectors,
            "reviews": self._copy_reviews,
        }
        try:
            if kind in copies:
                await copies[kind](lines)
            else:
                await self._copy_text(kind, lines)
        except (ValueError, binascii.Error) as error:
            raise ArchiveError(f"the archive is damaged in its {kind}: {error}") from error

    async def finish(self) -> None:
        """Let later reviews get higher numbers than those that came."""
        if self._last_review:
            await self._connection.execute(SQL["take_review_numbers"])
            await self._connection.execute(SQL["number_reviews_beyond"], self._last_review)

    async def _copy_images(self, lines: list[bytes]) -> None:
        rows = []
        for line in lines:
            image_id, suffix, rest = line.split(b"\t", 2)
            key = _NULL
            if suffix != _NULL:
                key = escape(self._blob_key(image_id.decode("ascii"), suffix.decode("ascii")))
            rows.append(b"\t".join((image_id, key, rest)))
        await self._copy_text("images", rows)

    async def _copy_vectors(self, lines: list[bytes]) -> None:
        records = []
        for line in lines:
            face_id, space, numbers = line.split(b"\t")
            data = base64.b64decode(numbers, validate=True)
            head = _VECTOR_HEAD.pack(len(data) // 2, 0)
            records.append(
                (
                    self._tenant_id,
                    UUID(face_id.decode("ascii")),
                    unescape(space),
                    HalfVector.from_binary(head + data),
                )
            )
        await self._connection.copy_records_to_table(
            _TABLES["vectors"], columns=("tenant_id", *PARTS["vectors"]), records=records
        )

    async def _copy_reviews(self, lines: list[bytes]) -> None:
        last = max(int(line.partition(b"\t")[0]) for line in lines)
        if last > LARGEST_REVIEW_ID:
            raise ArchiveError(f"the archive has a review with the number {last}")
        self._last_review = max(self._last_review, last)
        await self._copy_text("reviews", lines)

    async def _copy_text(self, kind: str, lines: list[bytes]) -> None:
        columns = ("blob_key" if each == "photo_suffix" else each for each in PARTS[kind])
        between = b"\n" + self._tenant_column
        await self._connection.copy_to_table(
            _TABLES[kind],
            source=io.BytesIO(self._tenant_column + between.join(lines) + b"\n"),
            columns=["tenant_id", *columns],
            format="text",
        )
