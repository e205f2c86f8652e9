"""The sweep: removes orphan blobs, which a killed process or a failed deletion left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import groupby

from service.domain.errors import FacetteError, ForeignBlobsError
from service.domain.types import Swept
from service.usecases.ports import BlobIndex, BlobStore, SweepTurns

_logger = logging.getLogger(__name__)

# Keys in memory and in one query at once.
_BATCH = 1000
# Keys removed under one lock: inserts of the tenant wait no longer, even if the store is slow.
_REMOVED_AT_ONCE = 100


class SweepBlobs:
    """Removes blobs and unfinished files that no row names and no insert is about to name.

    A blob is put before its row, so that a blob without a row may belong to an insert under way. It
    is kept until it is `grace_s` old by the clock of the store. Then its row is looked up, and once
    more under the tenant's lock, just before the removal (BlobIndex). An insert whose blob is older
    than half the grace puts it again under the same lock (IngestPhoto). In either order, a
    committed row has its blob.

    Args:
        grace_s: seconds; equal to that of IngestPhoto in all processes of the service.
    """

    def __init__(self, blobs: BlobStore, turns: SweepTurns, *, grace_s: float) -> None:
        self._blobs = blobs
        self._turns = turns
        self._grace = timedelta(seconds=grace_s)

    async def __call__(self) -> Swept | None:
        """Sweep once; None while another process sweeps.

        Raises:
            ForeignBlobsError: another database owns the blobs; nothing was removed.
            StoreUnavailableError: the database or the blob store does not answer. Blobs that were
                removed before stay removed.
        """
        async with self._turns.take() as index:
            if index is None:
                return None
            await claim_blobs(self._blobs, await index.database_id())
            removed = left = 0
            async for keys in self._old_blobs():
                orphans, gone = await self._sweep(index, keys)
                removed += gone
                left += orphans - gone
        if removed or left:
            _logger.info(
                "orphan blobs removed", extra={"fields": {"removed": removed, "left": left}}
            )
        return Swept(removed, left)

    async def claim(self) -> None:
        """Mark the blob store as owned by the database, as a sweep does, and remove nothing.

        Raises:
            ForeignBlobsError: another database owns the blobs.
            StoreUnavailableError: the database or the blob store does not answer.
        """
        async with self._turns.take() as index:
            if index is not None:
                await claim_blobs(self._blobs, await index.database_id())

    async def _old_blobs(self) -> AsyncIterator[list[str]]:
        """Keys of blobs older than the grace, in batches."""
        newest = await self._blobs.now() - self._grace
        keys = []
        async for blob in self._blobs.listing():
            if blob.modified_at < newest:
                keys.append(blob.key)
                if len(keys) == _BATCH:
                    yield keys
                    keys = []
        if keys:
            yield keys

    async def _sweep(self, index: BlobIndex, keys: Sequence[str]) -> tuple[int, int]:
        """Remove orphans among the keys; returns the number of orphans, and of removed ones."""
        named = await index.named_blobs(keys)
        orphans = sorted(key for key in keys if key not in named)
        gone = 0
        for _, each in groupby(orphans, _folder):
            of_folder = list(each)
            for start in range(0, len(of_folder), _REMOVED_AT_ONCE):
                some = of_folder[start : start + _REMOVED_AT_ONCE]
                async with index.unnamed_for_good(some) as unnamed:
                    gone += len(unnamed) - len(await self._blobs.delete(unnamed))
                if not unnamed:
                    break  # the tenant stays locked: the rest waits for the next sweep
        return len(orphans), gone


async def claim_blobs(blobs: BlobStore, database_id: str) -> None:
    """Check that a database owns a blob store; mark the store where it has no owner.

    Without the mark, a service on another database would take every photo for an orphan.

    Raises:
        ForeignBlobsError: another database owns the blob store.
        StoreUnavailableError: the blob store does not answer.
    """
    owner = await blobs.owner()
    if owner is None:
        await blobs.claim(database_id)
        owner = await blobs.owner()  # another database may have claimed at the same time
    if owner != database_id:
        raise ForeignBlobsError(owner or "?", database_id)


class SweepSchedule:
    """Sweeps at once, and then periodically, until its task is cancelled.

    Where sweeps are off, the blob store is still marked, so that no other database claims it.

    Args:
        on_swept: called after each complete sweep.
        on_failure: called after each failed sweep.
    """

    def __init__(
        self, *, on_swept: Callable[[Swept], None], on_failure: Callable[[], None]
    ) -> None:
        self._on_swept = on_swept
        self._on_failure = on_failure
        self._sweep: SweepBlobs | None = None
        self._interval_s = 0.0
        self._changed = asyncio.Event()

    def follow(self, sweep: SweepBlobs, interval_s: float) -> None:
        """Use another sweep after the current one; an interval of 0 turns sweeps off."""
        self._sweep, self._interval_s = sweep, interval_s
        self._changed.set()

    async def run(self) -> None:
        """Sweep periodically, until cancelled."""
        while True:
            self._changed.clear()
            interval_s = self._interval_s
            if self._sweep is not None:
                await self._once(self._sweep if interval_s else self._sweep.claim)
            try:
                async with asyncio.timeout(interval_s or None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _once(self, sweep: Callable[[], Awaitable[Swept | None]]) -> None:
        try:
            swept = await sweep()
        except ForeignBlobsError as error:
            _logger.error("orphan blobs are not swept: %s", error.message)
            self._on_failure()
        except FacetteError as error:
            _logger.warning("the sweep for orphan blobs failed: %s", error.message)
            self._on_failure()
        except Exception:  # a failed sweep must not end the schedule
            _logger.exception("the sweep for orphan blobs failed")
            self._on_failure()
        else:
            if swept is not None:
                self._on_swept(swept)


def _folder(key: str) -> str:
    return key.rpartition("/")[0]
