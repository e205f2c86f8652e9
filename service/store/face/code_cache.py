"""Keeps the binary codes of large tenants in memory, and up to date with the database."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from service.domain.errors import StoreUnavailableError
from service.domain.types import ModelSpace, TenantId
from service.index.codes import BITS, BYTES_PER_FACE, FaceCodes, codes_of, compile_kernels
from service.index.sums import RoundedSums
from service.store.database.database import Database
from service.store.database.statements import SQL

_logger = logging.getLogger(__name__)

_READ_AT_ONCE = 50_000
_SUMS_READ_AT_ONCE = 4_096
# Where more faces came than this, all of them are read again: that is faster.
_MAX_ADDED = 5_000
# New faces are compared one by one until their codes are held; that often at most.
_BETWEEN_REFRESHES_S = 0.1
_ADDED_AT_ONCE = 256
# Codes are read anew that often, and dropped where nobody asked for them meanwhile.
_MAX_AGE_S = 3600.0
_AGE_CHECK_S = 60.0
# Codes are not dropped for those of another tenant before: two tenants that find no room together
# would be read again with each search.
_MIN_STAY_S = 60.0
# A connection without notifications is tried that often; a lost one is opened again.
_SILENCE_S = 60.0
_RECONNECT_S = 1.0

# Where the statements of `codes.sql` notify of deletions: a tenant, and those of its faces that go.
_DELETIONS_CHANNEL = "facette_deletions"


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


@dataclass(frozen=True, slots=True)
class _SumsOfClusters:
    """Sums that follow each other, those of clusters of one chain.

    last: the cluster of the last of all. rows: int64 [n], the position of a face of each cluster.
    codes: uint64 [n, 8], of their directions.
    """

    last: UUID
    rows: NDArray[np.int64]
    sums: RoundedSums
    codes: NDArray[np.uint64]


@dataclass
class _Held:
    """Codes, and when they were read, asked for and brought up to date (monotonic seconds)."""

    codes: FaceCodes
    read_at: float
    asked_at: float
    refreshed_at: float


@dataclass(frozen=True, slots=True)
class _TooLarge:
    """Codes without room: their size, and when that was found (monotonic seconds)."""

    size_bytes: int
    found_at: float


_Key = tuple[TenantId, ModelSpace]


class CodeCache:
    """The codes of the tenants that are asked for, all faces up to `FaceCodes.last_seq`.

    What a search misses while codes are read, or lacks of the newest faces, it takes from the
    database: nothing here has to be waited for. Faces that are deleted, through whatever process,
    leave the codes when PostgreSQL notifies of the commit.

    Args:
        on_size: called with the bytes that all codes take, whenever that changes.
        max_bytes: memory that all codes may take. The codes used least recently are dropped first;
            those of a tenant that alone takes more are not held.

    Attributes:
        following: set while deletions are followed.
    """

    def __init__(
        self,
        database: Database,
        on_size: Callable[[int], None] = lambda size: None,
        *,
        max_bytes: int = sys.maxsize,
    ) -> None:
        self._database = database
        self._on_size = on_size
        self._max_bytes = max_bytes
        self._held: dict[_Key, _Held] = {}
        self._without_room: dict[_Key, _TooLarge] = {}
        self._wanted: dict[_Key, None] = {}
        self._called = asyncio.Event()
        # Of each key that is being read, the faces whose deletion was notified meanwhile.
        self._being_read: dict[_Key, list[bytes]] = {}
        self._followed_since = math.inf
        self.following = asyncio.Event()

    @property
    def max_bytes(self) -> int:
        """Memory that all codes may take."""
        return self._max_bytes

    def limit_memory(self, max_bytes: int) -> None:
        """Change the limit; the next search that adds codes brings the codes within it."""
        self._max_bytes = max_bytes

    @property
    def size_bytes(self) -> int:
        """Memory that all codes take."""
        return sum(held.codes.size_bytes for held in self._held.values())

    def held(self, tenant_id: TenantId, space: ModelSpace) -> FaceCodes | None:
        """A tenant's codes, if they are held; nothing is read for it."""
        held = self._held.get((tenant_id, space))
        return None if held is None else held.codes

    def has(self, tenant_id: TenantId, space: ModelSpace) -> bool:
        """Whether a tenant's codes are held."""
        return (tenant_id, space) in self._held

    def of(self, tenant_id: TenantId, space: ModelSpace, last_seq: int) -> FaceCodes | None:
        """A tenant's codes as far as they are held; what is missing is read in the background.

        Args:
            last_seq: of the face that the tenant got last.
        """
        key, now = (tenant_id, space), time.monotonic()
        held = self._held.get(key)
        if held is None:
            if self._may_find_room(key, now):
                self._want(key)
            return None
        held.asked_at = now
        if held.codes.last_seq < last_seq and now >= held.refreshed_at + _BETWEEN_REFRESHES_S:
            held.refreshed_at = now
            self._want(key)
        return held.codes

    def forget(self, tenant_id: TenantId) -> None:
        """Hold nothing of a tenant that was deleted, neither what is being read."""
        for keys in (self._held, self._being_read, self._without_room):
            for key in [key for key in keys if key[0] == tenant_id]:
                del keys[key]
        self._report_size()

    async def run(self) -> None:
        """Read what is asked for, and follow deletions, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_wanted())
            tasks.create_task(self._follow_deletions())

    async def _read_wanted(self) -> None:
        check_at = time.monotonic() + _AGE_CHECK_S
        while True:
            if not self._wanted:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, check_at - time.monotonic())):
                        await self._called.wait()
            self._called.clear()
            if time.monotonic() >= check_at:
                check_at = time.monotonic() + _AGE_CHECK_S
                self._check_ages()
            if self._wanted:
                key = next(iter(self._wanted))
                del self._wanted[key]
                await self._try_to_refresh(key)

    async def _try_to_refresh(self, key: _Key) -> None:
        if key not in self._held and not self._may_find_room(key, time.monotonic()):
            return
        try:
            await self.refresh(*key)
        except (StoreUnavailableError, asyncpg.PostgresError) as error:
            _logger.warning("codes of faces not read: %s", error)
        except Exception:  # whatever it is, searches do without
            _logger.exception("codes of faces not read")

    async def _follow_deletions(self) -> None:
        while True:
            try:
                async with self._database.notifications(_DELETIONS_CHANNEL, _SILENCE_S) as said:
                    self._followed_since = time.monotonic()
                    for key, held in self._held.items():
                        self._want_anew_if_missed(key, held)
                    self.following.set()
                    async for payload in said:
                        await self._take_out(payload)
            except StoreUnavailableError:
                self.following.clear()
                await asyncio.sleep(_RECONNECT_S)

    def _want_anew_if_missed(self, key: _Key, held: _Held) -> None:
        """Have codes read again that were read before deletions were followed."""
        if held.read_at < self._followed_since < math.inf:
            held.read_at = -math.inf
            self._want(key)

    async def _take_out(self, payload: str) -> None:
        """Remove the faces that a notification names, or all of a tenant."""
        digest, *faces = payload.split() or [""]
        try:
            ids = [UUID(face).bytes for face in faces]
        except ValueError:  # whoever may connect may notify
            _logger.warning("a notification of deleted faces that says no ids")
            return
        known = (*self._held, *self._being_read, *self._without_room)
        tenants = {key[0] for key in known if tenant_digest(key[0]) == digest}
        for tenant_id in tenants:
            if not ids:
                self.forget(tenant_id)
                continue
            for key, gone in self._being_read.items():
                if key[0] == tenant_id:
                    gone.extend(ids)
            # Others may drop codes while some are removed.
            for key, held in [each for each in self._held.items() if each[0][0] == tenant_id]:
                await self._remove(key, held, ids)
        self._report_size()

    async def _remove(self, key: _Key, held: _Held, ids: list[bytes]) -> None:
        codes = held.codes
        await asyncio.to_thread(codes.remove, np.frombuffer(b"".join(ids), "V16"))
        if codes.removed > len(codes):
            held.read_at = -math.inf
            self._want(key)

    async def refresh(self, tenant_id: TenantId, space: ModelSpace) -> None:
        """Read a tenant's codes, or those that came since.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        key = (tenant_id, space)
        gone = self._being_read[key] = []
        try:
            held = self._held.get(key)
            if held is not None and time.monotonic() < held.read_at + _MAX_AGE_S:
                new = await self._faces_after(held.codes.last_seq, key, _MAX_ADDED)
                if new.count < _MAX_ADDED:
                    await asyncio.to_thread(_add, held.codes, new)
                    if gone:
                        await self._remove(key, held, gone)
                    self._make_room(key)
                    return
            if await self._database.active_space() not in (None, space):
                return  # vectors of that space may still be made for faces of any age
            began = time.monotonic()
            codes = await self._read(key)
            if codes is None:
                return
            if gone:
                await asyncio.to_thread(codes.remove, np.frombuffer(b"".join(gone), "V16"))
            if self._being_read.get(key) is not gone:
                return  # the tenant was deleted
            asked_at = began if held is None else max(began, held.asked_at)
            self._held[key] = _Held(codes, began, asked_at, began)
            self._want_anew_if_missed(key, self._held[key])
            self._without_room.pop(key, None)
            _logger.info(
                "codes of faces read",
                extra={"fields": {"faces": len(codes), "pivots": codes.pivots}},
            )
            self._make_room(key)
        finally:
            if self._being_read.get(key) is gone:
                del self._being_read[key]

    def _want(self, key: _Key) -> None:
        self._wanted[key] = None
        self._called.set()

    def _check_ages(self) -> None:
        now = time.monotonic()
        for key, held in list(self._held.items()):
            if now >= held.read_at + _MAX_AGE_S:
                if held.asked_at <= held.read_at:
                    self._drop(key)
                else:
                    self._want(key)
        for key, found in list(self._without_room.items()):
            if now >= found.found_at + _MAX_AGE_S:
                del self._without_room[key]
        self._report_size()

    def _may_find_room(self, key: _Key, now: float) -> bool:
        """Whether to read codes that are not held: not where the last attempt says it is vain."""
        found = self._without_room.get(key)
        if found is None or now >= found.found_at + _MAX_AGE_S:
            return True
        staying = sum(
            held.codes.size_bytes
            for held in self._held.values()
            if now < held.read_at + _MIN_STAY_S
        )
        return staying + found.size_bytes <= self._max_bytes

    def _make_room(self, key: _Key) -> None:
        """Drop codes until all are within the bound; those of `key` where that takes too many."""
        now, own = time.monotonic(), self._held.get(key)
        if own is not None:
            others = sorted(
                (each for each in self._held if each != key),
                key=lambda each: self._held[each].asked_at,
            )
            excess = self.size_bytes - self._max_bytes
            dropped: list[_Key] = []
            for other in others:
                if excess > 0 and now >= self._held[other].read_at + _MIN_STAY_S:
                    excess -= self._held[other].codes.size_bytes
                    dropped.append(other)
            if excess > 0:
                dropped = [key]
                self._without_room[key] = _TooLarge(own.codes.size_bytes, now)
            for each in dropped:
                self._drop(each)
                _logger.info("codes of faces dropped: no room for them")
        self._report_size()

    def _drop(self, key: _Key) -> None:
        del self._held[key]
        self._wanted.pop(key, None)  # it would be read again, asked for or not

    def _report_size(self) -> None:
        self._on_size(self.size_bytes)

    async def _read(self, key: _Key) -> FaceCodes | None:
        """All codes of a tenant; None where they alone take more memory than all may."""
        parts: list[_Faces] = []
        last_seq, faces = 0, 0
        while True:
            part = await self._faces_after(last_seq, key, _READ_AT_ONCE)
            if not part.count:
                codes, rows = await asyncio.to_thread(_arranged, parts)
                await self._read_sums(key, codes, rows)
                return codes
            last_seq = part.last_seq
            faces += len(part.seqs)
            parts.append(part)
            if (size := faces * BYTES_PER_FACE) > self._max_bytes:
                self._without_room[key] = _TooLarge(size, time.monotonic())
                return None

    async def _read_sums(self, key: _Key, codes: FaceCodes, rows: dict[bytes, int]) -> None:
        """Have codes hold the sums of clusters of one chain, if there is room for them.

        Args:
            rows: by the bytes of each such cluster's UUID, the position of a face of its.
        """
        tenant_id, space = key
        parts: list[_SumsOfClusters] = []
        after, size = UUID(int=0), codes.size_bytes
        while size <= self._max_bytes:
            async with self._database.transaction(tenant_id) as connection:
                row = await connection.fetchrow(
                    SQL["sums_after"], tenant_id, space, after, _SUMS_READ_AT_ONCE
                )
            if row["sent"] is None:
                if parts:
                    await asyncio.to_thread(_hold, codes, parts)
                return
            part = await asyncio.to_thread(_received_sums, row, rows)
            parts.append(part)
            after = part.last
            size += part.sums.nbytes + part.codes.nbytes * 3 // 2  # with the heads

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


def _received_sums(row: asyncpg.Record, rows: dict[bytes, int]) -> _SumsOfClusters:
    """Those of the sums sent by `sums_after` whose clusters are among `rows`."""
    sent = np.frombuffer(
        row["sent"],
        [
            ("cluster_id", "V16"),
            ("head", "V4"),
            ("count", ">f4"),
            ("total", ">f4", row["dimension"]),
        ],
    )
    at = np.array([rows.get(cluster, -1) for cluster in sent["cluster_id"].tolist()])
    known = sent[at >= 0]
    totals, counts = known["total"].astype(np.float32), known["count"].astype(np.int32)
    directions = totals / np.maximum(np.linalg.norm(totals, axis=1, keepdims=True), 1e-9)
    return _SumsOfClusters(
        UUID(bytes=sent["cluster_id"][-1].tobytes()),
        at[at >= 0],
        RoundedSums.rounded(totals, counts),
        codes_of(directions.astype(np.float16)),
    )


def _hold(codes: FaceCodes, parts: list[_SumsOfClusters]) -> None:
    codes.hold_sums(
        np.concatenate([part.rows for part in parts]),
        RoundedSums.together([part.sums for part in parts]),
        np.concatenate([part.codes for part in parts]),
    )


def _arranged(parts: list[_Faces]) -> tuple[FaceCodes, dict[bytes, int]]:
    """Codes of faces that follow each other, those of a cluster put together.

    Also, by the bytes of the UUID of each cluster whose faces are one chain, the position of its
    first face.
    """
    compile_kernels()  # here in a thread, and not with the first search or the first new face
    codes = FaceCodes()
    clusters = np.concatenate([np.empty((0, 2), np.int64), *(part.clusters for part in parts)])
    if not len(clusters):
        return codes, {}
    order = np.lexsort(clusters.T)
    clusters = clusters[order]
    begins = np.append(True, (clusters[1:] != clusters[:-1]).any(axis=1))
    codes.add(
        np.concatenate([part.face_ids for part in parts])[order],
        np.concatenate([part.codes for part in parts])[order],
        np.cumsum(begins) - 1,
        last_seq=parts[-1].last_seq,
    )
    (firsts,) = np.nonzero(begins)
    firsts = firsts[codes.alone(firsts)]
    names = clusters[firsts].view("V16")[:, 0]
    return codes, dict(zip(names.tolist(), firsts.tolist(), strict=True))


def _add(codes: FaceCodes, faces: _Faces) -> None:
    for start in range(0, len(faces.seqs), _ADDED_AT_ONCE):
        part = faces[start : start + _ADDED_AT_ONCE]
        codes.add(part.face_ids, part.codes, last_seq=part.last_seq)
    codes.add(faces.face_ids[:0], faces.codes[:0], last_seq=faces.last_seq)


def tenant_digest(tenant_id: TenantId) -> str:
    """The tenant in a notification: any login of the database may read these."""
    return hashlib.sha256(tenant_id.encode()).hexdigest()
