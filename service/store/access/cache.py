"""What is known of access keys: rows that were looked up, for less than five seconds each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from service.domain.errors import FacetteError
from service.domain.keys import KeyId, KnownKey
from service.store.access.keys import AccessKeys
from service.usecases.ports import MasterSecretSource

_logger = logging.getLogger(__name__)

KEPT_S: Final = 4.0
"""How long a row is used after it was read: a key that is revoked in any process ends within it."""
MAX_KNOWN: Final = 10_000
"""Keys that are remembered at once."""
MAX_UNKNOWN: Final = 10_000
"""Ids without a key that are remembered at once, apart from keys: made-up ids displace no key."""

_HOUR_S: Final = 3600
_WRITE_EVERY_S: Final = 10.0


@dataclass(slots=True)
class _Entry:
    """A looked-up id. known: None where there is no such key. until: monotonic."""

    known: KnownKey | None
    until: float


class KeyCache:
    """Finds access keys, and notes when they were last used.

    Ids that are not remembered are looked up together: while one query runs, further ids wait for
    the next, and callers of one id share it. So however many callers show keys or made-up ids,
    their lookups take one connection.

    Args:
        secrets: gives the master secrets; read anew with each query.
        clock: seconds, monotonic. now: Unix time.
    """

    def __init__(
        self,
        keys: AccessKeys,
        secrets: MasterSecretSource,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._secrets = secrets
        self._clock = clock
        self._now = now
        self._known: OrderedDict[KeyId, _Entry] = OrderedDict()
        self._unknown: OrderedDict[KeyId, _Entry] = OrderedDict()
        self._waiting: dict[KeyId, asyncio.Future[KnownKey | None]] = {}
        self._queued: list[KeyId] = []  # those of them that no query has begun to look up
        self._running: asyncio.Task[None] | None = None
        self._hour = 0
        self._used: set[KeyId] = set()  # in that hour
        self._unwritten: dict[KeyId, datetime] = {}

    def use(self, secrets: MasterSecretSource) -> None:
        """Take master secrets from another source, and forget what was derived before."""
        self._secrets = secrets
        self._known.clear()

    def forget(self, key_id: KeyId) -> None:
        """Look a key up anew at its next use, since this process has changed it."""
        self._known.pop(key_id, None)
        self._unknown.pop(key_id, None)

    async def find(self, key_id: KeyId) -> KnownKey | None:
        """The key with an id; None where there is none.

        Raises:
            KeysUnavailableError: there is no master secret.
            StoreUnavailableError: the database does not answer.
        """
        for remembered in (self._known, self._unknown):
            entry = remembered.get(key_id)
            if entry is not None and self._clock() < entry.until:
                remembered.move_to_end(key_id)
                return entry.known
        found = self._waiting.get(key_id)
        if found is None:
            found = self._waiting[key_id] = asyncio.get_running_loop().create_future()
            self._queued.append(key_id)
            if self._running is None:
                self._running = asyncio.create_task(self._look_up_queued())
        # Other callers need the result even if this one is cancelled.
        return await asyncio.shield(found)

    def note_use(self, known: KnownKey) -> None:
        """Take note of a use; it is written later, once an hour for each key."""
        hour = int(self._now()) // _HOUR_S
        if hour != self._hour:
            self._hour = hour
            self._used.clear()
        key = known.key
        if key.key_id in self._used:
            return
        self._used.add(key.key_id)
        began = datetime.fromtimestamp(hour * _HOUR_S, UTC)
        if key.last_used_at is None or key.last_used_at < began:
            self._unwritten[key.key_id] = began

    async def write_uses(self) -> None:
        """Write the uses that were noted, until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            await self.write_noted_uses()

    async def write_noted_uses(self) -> None:
        """Write the uses that were noted since the last time; those that fail stay noted."""
        if not self._unwritten:
            return
        writing, self._unwritten = self._unwritten, {}
        try:
            await self._keys.note_uses(writing)
        except FacetteError as error:
            self._unwritten = {**writing, **self._unwritten}
            _logger.warning(
                "when keys were last used could not be written, and will be tried again: %s",
                error.message,
                extra={"fields": {"keys": len(writing)}},
            )

    async def _look_up_queued(self) -> None:
        try:
            while self._queued:
                key_ids, self._queued = self._queued, []
                await self._look_up(key_ids)
        finally:
            self._running = None

    async def _look_up(self, key_ids: Sequence[KeyId]) -> None:
        # A change that is made while the query runs may be missing in its result.
        until = self._clock() + KEPT_S
        try:
            masters = self._secrets.read()
            stored = await self._keys.by_id(key_ids)
            now = datetime.fromtimestamp(self._now(), UTC)
            found = {key_id: KnownKey(row, masters, now) for key_id, row in stored.items()}
        except Exception as error:
            for key_id in key_ids:
                failed = self._waiting.pop(key_id)
                failed.set_exception(error)
                failed.exception()  # where no caller is left, asyncio is not to log it
            return
        for key_id in key_ids:
            known = found.get(key_id)
            self._remember(key_id, _Entry(known, until))
            self._waiting.pop(key_id).set_result(known)

    def _remember(self, key_id: KeyId, entry: _Entry) -> None:
        self.forget(key_id)
        kept, most = (
            (self._unknown, MAX_UNKNOWN) if entry.known is None else (self._known, MAX_KNOWN)
        )
        kept[key_id] = entry
        if len(kept) > most:
            kept.popitem(last=False)
