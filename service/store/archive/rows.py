"""The rows of an archive on their way into the tables, under the tenant they get here."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import asyncpg
from pgvector import HalfVector

from service.domain.errors import ArchiveError
from service.domain.types import TenantId
from service.store.archive.format import SINCE_VERSION_2, Head
from service.store.archive.values import READERS
from service.store.database.statements import SQL

_ROOMS = {
    "images": "image_of_archive",
    "clusters": "cluster_of_archive",
    "faces": "face_of_archive",
    "vectors": "face_vector_of_archive",
    "reviews": "review_of_archive",
}
# What rows lack that are of before it, as the tables' own defaults.
_DEFAULTS = {"turned": 0, "quality": None, "quality_facts": None, "is_matchable": True}
assert _DEFAULTS.keys() == SINCE_VERSION_2
_ROWS_AT_ONCE = 2000
# Each is looked for among the vectors of all tenants.
_MOST_SPACES = 16

Row = dict[str, Any]


class RowsIn:
    """Stores pieces of rows; identity columns number them anew.

    Each row is read strictly, goes by binary COPY into a table of the transaction's own, and from
    there into the tenant's: as the service's role, so that it can land in no other tenant.

    Args:
        connection: in a transaction of the service's role that names the tenant.
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
        self._last_review = 0
        self._dimensions: dict[str, int] = {}

    async def copy(self, kind: str, data: bytes) -> int:
        """Store a piece of rows; returns how many there are.

        Raises:
            ArchiveError: they are not in the format, or hold what the service does not store.
            asyncpg.DataError, asyncpg.IntegrityConstraintViolationError: the tables refuse them.
        """
        if not data.endswith(b"\n"):
            raise ArchiveError(f"the archive is damaged: a row of its {kind} was cut off")
        count = 0
        rows = self._rows(kind, data)
        try:
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                await self._prepare(kind, some, count)
                await self._connection.copy_records_to_table(
                    _ROOMS[kind],
                    columns=list(some[0]),
                    records=[tuple(each.values()) for each in some],
                )
                count += len(some)
        except (ValueError, binascii.Error) as error:
            raise ArchiveError(f"the archive is damaged in its {kind}: {error}") from error
        status = await self._connection.execute(SQL[f"store_{kind}_of_archive"], self._tenant_id)
        if status != f"INSERT 0 {count}":
            raise ArchiveError(f"of {count} {kind} not all could be stored: {status}")
        await self._connection.execute(SQL["empty_room_for_archive"])
        return count

    async def finish(self) -> None:
        """Let vectors say what their faces do."""
        await self._connection.execute(SQL["mark_unmatchable_vectors"], self._tenant_id)

    def _rows(self, kind: str, data: bytes) -> Iterator[Row]:
        """Row by row, since a piece may be megabytes of ends of lines."""
        readers = [(name, READERS[kind][name]) for name in self._head.columns(kind)]
        defaults = {
            name: default
            for name, default in _DEFAULTS.items()
            if name in READERS[kind] and name not in self._head.columns(kind)
        }
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            columns = data[start:end].split(b"\t", len(readers))
            if len(columns) != len(readers):
                raise ValueError(f"a row has not {len(readers)} columns")
            row = {
                name: read(column) for (name, read), column in zip(readers, columns, strict=True)
            }
            yield {**row, **defaults}
            start = end + 1

    async def _prepare(self, kind: str, rows: list[Row], count: int) -> None:
        """Make of a row of the archive one of a table; count: how many went before."""
        for nth, row in enumerate(rows, start=count):
            if kind == "images":
                suffix = row.pop("photo_suffix")
                row["blob_key"] = suffix and self._blob_key(str(row["image_id"]), suffix)
            elif kind == "vectors":
                await self._check_dimension(row["model_space"], row["embedding"])
            elif kind == "reviews":
                number = row.pop("review_id")
                if number <= self._last_review:
                    raise ValueError("they are not in their order")
                self._last_review = number
            if kind in ("faces", "reviews"):
                row["nth"] = nth

    async def _check_dimension(self, space: str, embedding: HalfVector) -> None:
        """Vectors of a model have as many numbers as those that are here, or the first to come."""
        if space not in self._dimensions:
            if len(self._dimensions) == _MOST_SPACES:
                raise ValueError(f"they are of more than {_MOST_SPACES} models")
            self._dimensions[space] = await self._dimension(space) or embedding.dimensions()
        if embedding.dimensions() != self._dimensions[space]:
            raise ArchiveError(
                f"the archive has vectors of {space!r} of another number of dimensions"
            )

    async def _dimension(self, space: str) -> int | None:
        """As the login, who alone sees the vectors of other tenants."""
        await self._connection.execute(SQL["become_login"])
        found = await self._connection.fetchval(SQL["dimension_of_space"], space)
        await self._connection.execute(SQL["become_service_role"])
        return None if found is None else int(found)
