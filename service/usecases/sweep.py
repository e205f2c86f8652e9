"""Blobs that no row names are removed: what a killed process or a failed deletion left behind."""

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

# Keys held and looked up at once, however many there are.
_BATCH = 1000
# Keys removed while the inserts of their tenant wait: a slow store holds them up for no longer.
_REMOVED_AT_ONCE = 100


class SweepBlobs:
    """Removes blobs and unfinished files that no row names and nobody is about to name.

    A blob is put before the row that names it, so one without a row may be on its way. It is left
    alone until it is `grace_s` old by the store's own clock; then it is looked for in the database
    and, while its tenant's inserts wait, once more just before it goes (BlobIndex). An insert that
    has had to wait for more than half of that time puts its blob again once inserts have to wait
    for it in their turn (IngestPhoto): whichever comes first, the row has its blob.

    Args:
        grace_s: seconds; the same as IngestPhoto's in every process of the service.
    """

    def __init__(self, blobs: BlobStore, turns: SweepTurns, *, grace_s: float) -> None:
        self._blobs = blobs
        self._turns = turns
        self._grace = timedelta(seconds=grace_s)

    async def __call__(self) -> Swept | None:
        """Sweep once; None where another process is at it.

        Raises:
            ForeignBlobsError: the blobs belong to another database; none was looked at.
            StoreUnavailableError: the database or the blob store does not answer. What was removed
                until then is gone.
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
        """Mark the blob store as the database's own, as a sweep does, and remove nothing.

        Raises:
            ForeignBlobsError: the blobs belong to another database.
            StoreUnavailableError: the database or the blob store does not answer.
        """
        async with self._turns.take() as index:
            if index is not None:
                await claim_blobs(self._blobs, await index.database_id())

    async def _old_blobs(self) -> AsyncIterator[list[str]]:
        """Keys of blobs past the grace, in batches."""
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
        """How many of the keys no row names, and how many of those are gone now."""
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
                    break  # the tenant is locked for long: wait once, not for each hundred
        return len(orphans), gone


async def claim_blobs(blobs: BlobStore, database_id: str) -> None:
    """Make sure that a blob store belongs to a database; one without a mark comes to.

    Without that, a service on another database would take every photo there for an orphan.

    Raises:
        ForeignBlobsError: it belongs to another one.
        StoreUnavailableError: it does not answer.
    """
    owner = await blobs.owner()
    if owner is None:
        await blobs.claim(database_id)
        owner = await blobs.owner()  # two databases may have come at the same moment
    if owner != database_id:
        raise ForeignBlobsError(owner or "?", database_id)


class SweepSchedule:
    """Sweeps at once and then every so many seconds, until its task is cancelled.

    Where sweeps are off, the blob store is still marked: another database must not come to own it.

    Args:
        on_swept: told of each sweep that came to its end.
        on_failure: told of each that did not; the next one comes in its time.
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
        """Go on with another sweep, after the one under way; 0 seconds for none."""
        self._sweep, self._interval_s = sweep, interval_s
        self._changed.set()

    async def run(self) -> None:
        """Sweep for as long as the service lives."""
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
        except Exception:  # whatever it is, photos are served as before
            _logger.exception("the sweep for orphan blobs failed")
            self._on_failure()
        else:
            if swept is not None:
                self._on_swept(swept)


def _folder(key: str) -> str:
    return key.rpartition("/")[0]
