"""Keeps the binary codes of large tenants in memory, and up to date with the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
import numpy as np
from numpy.typing import NDArray

from service.domain.errors import StoreUnavailableError
from service.domain.types import ModelSpace, TenantId
from service.index.codes import BITS, FaceCodes, codes_of, compile_kernels
from service.store.database.database import Database
from service.store.database.statements import SQL

_logger = logging.getLogger(__name__)

_READ_AT_ONCE = 50_000
# Where more faces came than this, all of them are read again: that is faster.
_MOST_TAKEN_IN = 5_000
# New faces are compared one by one until they are taken in; that often at most, and so many with
# one turn of the event loop: each of them is compared with all codes that lead.
_BETWEEN_REFRESHES_S = 0.1
_ADDED_AT_ONCE = 8
# Read anew that often: what was deleted meanwhile goes, and who nobody asked for goes altogether.
_MOST_AGE_S = 3600.0
_LOOK_S = 60.0


@dataclass(frozen=True, slots=True)
class _Faces:
    """Faces that follow each other, in the order they came.

    count, last_seq: of all of them. seqs: int64 [n], clusters: int64 [n, 2], face_ids: void of 16
    bytes [n], codes: uint64 [n, 8], of those that others are matched against.
    """

    count: int
    last_seq: int
    seqs: NDArray[np.int64]
    clusters: NDArray[np.int64]
    face_ids: NDArray[np.void]
    codes: NDArray[np.uint64]

    def __getitem__(self, rows: slice) -> _Faces:
        some = (self.seqs[rows], self.clusters[rows], self.face_ids[rows], self.codes[rows])
        return _Faces(len(some[0]), int(some[0][-1]), *some)


@dataclass
class _Held:
    """Codes, and when they were read, asked for and brought up to date (monotonic seconds)."""

    codes: FaceCodes
    read_at: float
    asked_at: float
    refreshed_at: float


_Key = tuple[TenantId, ModelSpace]


class CodeCache:
    """The codes of the tenants that are asked for, all faces up to `FaceCodes.last_seq`.

    What a search misses while codes are read, or lacks of the newest faces, it takes from the
    database: nothing here has to be waited for.

    Args:
        on_size: told how many bytes all codes take, whenever that changes.
    """

    def __init__(self, database: Database, on_size: Callable[[int], None] = lambda size: None):
        self._database = database
        self._on_size = on_size
        self._held: dict[_Key, _Held] = {}
        self._wanted: dict[_Key, None] = {}
        self._called = asyncio.Event()
        self._being_read: set[_Key] = set()

    @property
    def size_bytes(self) -> int:
        """Memory that all codes take."""
        return sum(held.codes.size_bytes for held in self._held.values())

    def has(self, tenant_id: TenantId, space: ModelSpace) -> bool:
        """Whether a tenant's codes are held."""
        return (tenant_id, space) in self._held

    def of(self, tenant_id: TenantId, space: ModelSpace, last_seq: int) -> FaceCodes | None:
        """A tenant's codes as far as they are held; what is missing is read in the background.

        Args:
            last_seq: of the face that the tenant got last.
        """
        held, now = self._held.get((tenant_id, space)), time.monotonic()
        if held is None:
            self._want((tenant_id, space))
            return None
        held.asked_at = now
        if held.codes.last_seq < last_seq and now >= held.refreshed_at + _BETWEEN_REFRESHES_S:
            held.refreshed_at = now
            self._want((tenant_id, space))
        return held.codes

    def forget(self, tenant_id: TenantId) -> None:
        """Hold nothing of a tenant that was deleted, neither what is being read."""
        for key in [key for key in (*self._held, *self._being_read) if key[0] == tenant_id]:
            self._held.pop(key, None)
            self._being_read.discard(key)
        self._say_size()

    async def run(self) -> None:
        """Read what is asked for until cancelled; what fails is read when it is asked for again."""
        look_at = time.monotonic() + _LOOK_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, look_at - time.monotonic())):
                    await self._called.wait()
            self._called.clear()
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_S
                self._look_at_ages()
            while self._wanted:
                key = next(iter(self._wanted))
                try:
                    await self.refresh(*key)
                except (StoreUnavailableError, asyncpg.PostgresError) as error:
                    _logger.warning("codes of faces not read: %s", error)
                except Exception:  # whatever it is, searches do without
                    _logger.exception("codes of faces not read")
                self._wanted.pop(key, None)

    async def refresh(self, tenant_id: TenantId, space: ModelSpace) -> None:
        """Read a tenant's codes, or those that came since.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        key = (tenant_id, space)
        held = self._held.get(key)
        if held is not None and time.monotonic() < held.read_at + _MOST_AGE_S:
            new = await self._faces_after(held.codes.last_seq, key, _MOST_TAKEN_IN)
            if new.count < _MOST_TAKEN_IN:
                await _take_in(held.codes, new)
                self._say_size()
                return
        if await self._database.active_space() not in (None, space):
            return  # vectors of that space may still be made for faces of any age
        began = time.monotonic()
        self._being_read.add(key)
        try:
            codes = await self._read(key)
            is_deleted = key not in self._being_read
        finally:
            self._being_read.discard(key)
        if is_deleted:
            return
        self._held[key] = _Held(codes, began, began, began)
        self._say_size()
        _logger.info(
            "codes of faces read",
            extra={"fields": {"faces": len(codes), "leading": codes.leaders}},
        )

    def _want(self, key: _Key) -> None:
        self._wanted[key] = None
        self._called.set()

    def _look_at_ages(self) -> None:
        now = time.monotonic()
        for key, held in list(self._held.items()):
            if now >= held.read_at + _MOST_AGE_S:
                if held.asked_at <= held.read_at:
                    del self._held[key]
                else:
                    self._want(key)
        self._say_size()

    def _say_size(self) -> None:
        self._on_size(self.size_bytes)

    async def _read(self, key: _Key) -> FaceCodes:
        parts: list[_Faces] = []
        last_seq = 0
        while True:
            part = await self._faces_after(last_seq, key, _READ_AT_ONCE)
            if not part.count:
                return await asyncio.to_thread(_arranged, parts)
            last_seq = part.last_seq
            parts.append(part)

    async def _faces_after(self, seq: int, key: _Key, limit: int) -> _Faces:
        tenant_id, space = key
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(SQL["codes_after"], tenant_id, space, seq, limit)
        return await asyncio.to_thread(_received, row)


def _received(row: asyncpg.Record) -> _Faces:
    """Faces as `codes_after` sends them: everything in network byte order."""
    dimension = row["dimension"] or BITS
    if row["largest_dimension"] not in (None, dimension):
        raise ValueError("vectors of one space have more than one dimension")
    is_code = dimension == BITS
    number, numbers = ("u1", BITS // 8) if is_code else (">f2", dimension)
    sent = np.frombuffer(
        row["sent"] or b"",
        [
            ("face_id", "V16"),
            ("cluster_id", "V16"),
            ("seq", ">i8"),
            ("head", "V4"),
            ("vector", number, numbers),
        ],
    )
    vectors = np.ascontiguousarray(sent["vector"])
    return _Faces(
        row["faces"],
        row["last_seq"] or 0,
        sent["seq"].astype(np.int64),
        np.ascontiguousarray(sent["cluster_id"]).view(np.int64).reshape(-1, 2),
        np.ascontiguousarray(sent["face_id"]),
        vectors.view(np.uint64) if is_code else codes_of(vectors.astype(np.float16)),
    )


def _arranged(parts: list[_Faces]) -> FaceCodes:
    """Codes of faces that follow each other, those of a cluster put together."""
    compile_kernels()  # here in a thread, and not with the first search or the first new face
    codes = FaceCodes()
    if parts:
        clusters = np.concatenate([part.clusters for part in parts])
        order = np.lexsort(clusters.T)
        clusters = clusters[order]
        begins = (clusters[1:] != clusters[:-1]).any(axis=1)
        codes.add(
            np.concatenate([part.face_ids for part in parts])[order],
            np.concatenate([part.codes for part in parts])[order],
            np.append(0, np.cumsum(begins))[: len(order)],
        )
        codes.last_seq = parts[-1].last_seq
    return codes


async def _take_in(codes: FaceCodes, faces: _Faces) -> None:
    for start in range(0, len(faces.seqs), _ADDED_AT_ONCE):
        part = faces[start : start + _ADDED_AT_ONCE]
        codes.add(part.face_ids, part.codes)
        codes.last_seq = part.last_seq
        await asyncio.sleep(0)
    codes.last_seq = max(codes.last_seq, faces.last_seq)
