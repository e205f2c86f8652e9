"""The import of rows: reads them strictly, and stores them for the tenant here."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import asyncpg
from pgvector import HalfVector

from service.domain.errors import ArchiveError
from service.domain.people import label_key
from service.domain.types import TenantId
from service.store.archive.format import SINCE, Head
from service.store.archive.values import READERS
from service.store.database.statements import SQL

_ROOMS = {
    "images": "image_of_archive",
    "clusters": "cluster_of_archive",
    "faces": "face_of_archive",
    "vectors": "face_vector_of_archive",
    "reviews": "review_of_archive",
    "merges": "merge_of_archive",
    "decisions": "decision_of_archive",
    "decision_faces": "decision_face_of_archive",
}
# Values of the columns that former versions lack, as the defaults of the tables. Without the time
# of a cluster's newest photo it is computed.
_DEFAULTS: dict[str, Any] = {
    "turned": 0,
    "quality": None,
    "quality_facts": None,
    "is_matchable": True,
    "taken_at": None,
    "orientation": 1,
    "latitude": None,
    "longitude": None,
    "label": None,
    "external_id": None,
    "metadata": "{}",
    "hidden": False,
    "version": 1,
    "last_face_at": None,
    "cover_face_id": None,
    "kind": "new_person",
    "face_id": None,
    "other_cluster_id": None,
    "distance": None,
    "other_distance": None,
    "similarity": None,
    "faces": 1,
    "chance": 0.1,
    "put_off": False,
}
assert _DEFAULTS.keys() == {
    column for added in SINCE.values() for columns in added.values() for column in columns
}
_CONFLICTS = {
    "clusters_with_strange_covers": ("cluster", "its cover is not one of its faces"),
    "clusters_merged_away": ("cluster", "it was merged into another one"),
    "decisions_that_say_nothing": ("decision", "one of its sides has no faces"),
}
_ROWS_AT_ONCE = 2000
# For each space, the vectors of all tenants are searched.
_MOST_SPACES = 16

Row = dict[str, Any]


class RowsIn:
    """Stores pieces of rows; identity columns get new numbers.

    Each row is read strictly, and goes by binary COPY into a temporary table. From there it is
    inserted as the service's role, so that row-level security keeps it in the tenant.

    Args:
        connection: in a transaction as the service's role, with the tenant set.
        head: of the archive; it says which columns there are.
        blob_key: makes the key of a photo of the id and suffix of its image.
        keep_locations: store where photos were taken.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        head: Head,
        blob_key: Callable[[str, str], str],
        *,
        keep_locations: bool,
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._head = head
        self._blob_key = blob_key
        self._keep_locations = keep_locations
        self._last_review = 0
        self._dimensions: dict[str, int] = {}

    async def copy(self, kind: str, data: bytes) -> int:
        """Store a piece of rows; returns their number.

        Raises:
            ArchiveError: a row is malformed, or has a value that the service does not store.
            asyncpg.DataError, asyncpg.IntegrityConstraintViolationError: the tables refuse a row.
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
            raise ArchiveError(f"not all of {count} {kind} could be stored: {status}")
        await self._connection.execute(SQL["empty_room_for_archive"])
        return count

    async def finish(self) -> None:
        """Check what binds rows of several kinds, and store what follows from all of them.

        Raises:
            ArchiveError: a cover is no face of its cluster, a cluster exists and is merged, or a
                decision says nothing.
        """
        for statement, (kind, what) in _CONFLICTS.items():
            found = await self._connection.fetchval(SQL[statement], self._tenant_id)
            if found is not None:
                raise ArchiveError(f"the archive is damaged in the {kind} {found}: {what}")
        await self._connection.execute(SQL["mark_unmatchable_vectors"], self._tenant_id)
        await self._connection.execute(SQL["complete_clusters_of_archive"], self._tenant_id)

    def _rows(self, kind: str, data: bytes) -> Iterator[Row]:
        """The rows, one at a time: a piece may be megabytes of line ends."""
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
                raise ValueError(f"a row does not have {len(readers)} columns")
            row = {
                name: read(column) for (name, read), column in zip(readers, columns, strict=True)
            }
            yield {**row, **defaults}
            start = end + 1

    async def _prepare(self, kind: str, rows: list[Row], count: int) -> None:
        """Turn rows of the archive into rows of a table; `count` rows came before them."""
        for nth, row in enumerate(rows, start=count):
            if kind == "images":
                suffix = row.pop("photo_suffix")
                row["blob_key"] = suffix and self._blob_key(str(row["image_id"]), suffix)
                if not self._keep_locations:
                    row["latitude"] = row["longitude"] = None
            elif kind == "clusters":
                label = row["label"]
                row["label_key"] = None if label is None else label_key(label)
            elif kind == "vectors":
                await self._check_dimension(row["model_space"], row["embedding"])
            elif kind == "reviews":
                number = row.pop("review_id")
                if number <= self._last_review:
                    raise ValueError("they are out of order")
                self._last_review = number
            if kind in ("faces", "reviews"):
                row["nth"] = nth

    async def _check_dimension(self, space: str, embedding: HalfVector) -> None:
        """Check that a vector has the dimension of its space, here or in the archive so far."""
        if space not in self._dimensions:
            if len(self._dimensions) == _MOST_SPACES:
                raise ValueError(f"they have more than {_MOST_SPACES} models")
            self._dimensions[space] = await self._dimension(space) or embedding.dimensions()
        if embedding.dimensions() != self._dimensions[space]:
            raise ArchiveError(
                f"the archive has vectors of {space!r} of another number of dimensions"
            )

    async def _dimension(self, space: str) -> int | None:
        """The dimension of a space here, read as the login: the role sees one tenant alone."""
        await self._connection.execute(SQL["become_login"])
        found = await self._connection.fetchval(SQL["dimension_of_space"], space)
        await self._connection.execute(SQL["become_service_role"])
        return None if found is None else int(found)
