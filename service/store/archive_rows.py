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
from service.store.archive_format import LARGEST_REVIEW_ID, Head, escape, unescape
from service.store.statements import SQL

_TABLES = {
    "images": "image",
    "clusters": "cluster",
    "faces": "face",
    "vectors": "face_vector",
    "reviews": "review",
}
_COLUMNS = {"photo_suffix": "blob_key"}
_NULL = b"\\N"
_BYTES_PER_NUMBER = 2
# How pgvector sends a vector: how many numbers, and two bytes that mean nothing.
_VECTOR_HEAD = struct.Struct(">HH")


class RowsIn:
    """Copies pieces of rows into the tables; identity columns that are left out number them anew.

    Args:
        head: of the archive; it says which columns there are.
        blob_key: the name of an image's photo in the blob store, by its id and suffix.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        head: Head,
        blob_key: Callable[[str, str], str],
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._head = head
        self._blob_key = blob_key
        self._tenant_column = escape(tenant_id) + b"\t"
        self._last_review = 0
        self._dimensions: dict[str, int] = {}

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
        """Let vectors say what their faces do, and later reviews get higher numbers than these."""
        await self._connection.execute(SQL["mark_unmatchable_vectors"], self._tenant_id)
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
            face_id, escaped, numbers = line.split(b"\t")
            space, data = unescape(escaped), base64.b64decode(numbers, validate=True)
            if len(data) != _BYTES_PER_NUMBER * await self._dimension(space, len(data)):
                raise ArchiveError(
                    f"the archive has vectors of {space} of another number of dimensions"
                )
            head = _VECTOR_HEAD.pack(len(data) // _BYTES_PER_NUMBER, 0)
            vector = HalfVector.from_binary(head + data)
            records.append((self._tenant_id, UUID(face_id.decode("ascii")), space, vector))
        await self._connection.copy_records_to_table(
            _TABLES["vectors"],
            columns=("tenant_id", *self._head.columns("vectors")),
            records=records,
        )

    async def _dimension(self, space: str, size_bytes: int) -> int:
        """How many numbers the vectors of a model have: one that is here, or the first to come."""
        if space not in self._dimensions:
            known = await self._connection.fetchval(SQL["dimension_of_space"], space)
            self._dimensions[space] = known or size_bytes // _BYTES_PER_NUMBER
        return self._dimensions[space]

    async def _copy_reviews(self, lines: list[bytes]) -> None:
        last = max(int(line.partition(b"\t")[0]) for line in lines)
        if last > LARGEST_REVIEW_ID:
            raise ArchiveError(f"the archive has a review with the number {last}")
        self._last_review = max(self._last_review, last)
        await self._copy_text("reviews", lines)

    async def _copy_text(self, kind: str, lines: list[bytes]) -> None:
        columns = self._head.columns(kind)
        between = b"\n" + self._tenant_column
        await self._connection.copy_to_table(
            _TABLES[kind],
            source=io.BytesIO(self._tenant_column + between.join(lines) + b"\n"),
            columns=["tenant_id", *(_COLUMNS.get(each, each) for each in columns)],
            format="text",
        )
