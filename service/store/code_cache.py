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
from service.store.codes import BITS, FaceCodes, compile_kernels
from service.store.database import Database
from service.store.statements import SQL

_logger = logging.getLogger(__name__)

# A face as `codes_of_faces` sends it: everything in network byte order.
_SENT = np.dtype(
    [
        ("face_id", "V16"),
        ("cluster_id", "V16"),
        ("seq", ">i8"),
        ("bits", ">i4"),
        ("code", "u1", BITS // 8),
    ]
)
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
            if len(new) < _MOST_TAKEN_IN:
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
        parts: list[NDArray[np.void]] = []
        last_seq = 0
        while True:
            part = await self._faces_after(last_seq, key, _READ_AT_ONCE)
            if not len(part):
                return await asyncio.to_thread(_arranged, parts)
            last_seq = int(part["seq"][-1])
            parts.append(part)

    async def _faces_after(self, seq: int, key: _Key, limit: int) -> NDArray[np.void]:
        tenant_id, space = key
        async with self._database.transaction(tenant_id) as connection:
            sent = await connection.fetchval(SQL["codes_of_faces"], tenant_id, space, seq, limit)
        return np.frombuffer(sent or b"", _SENT)


def _arranged(parts: list[NDArray[np.void]]) -> FaceCodes:
    """Codes of faces that follow each other, those of a cluster put together."""
    compile_kernels()  # here in a thread, and not with the first search or the first new face
    codes = FaceCodes()
    if parts:
        faces = np.concatenate(parts)
        codes.last_seq = int(faces["seq"][-1])
        clusters = np.ascontiguousarray(faces["cluster_id"]).view(np.int64).reshape(-1, 2)
        order = np.lexsort(clusters.T)
        faces, clusters = faces[order], clusters[order]
        begins = (clusters[1:] != clusters[:-1]).any(axis=1)
        codes.add(faces["face_id"], _codes(faces), np.append(0, np.cumsum(begins)))
    return codes


async def _take_in(codes: FaceCodes, faces: NDArray[np.void]) -> None:
    for start in range(0, len(faces), _ADDED_AT_ONCE):
        part = faces[start : start + _ADDED_AT_ONCE]
        codes.add(part["face_id"], _codes(part))
        codes.last_seq = int(part["seq"][-1])
        await asyncio.sleep(0)


def _codes(faces: NDArray[np.void]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(faces["code"]).view(np.uint64)
