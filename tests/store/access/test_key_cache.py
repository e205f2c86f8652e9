"""What is remembered of keys: for how long, how much of it, and who shares a lookup."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
import pytest

from service.domain.errors import KeysUnavailableError, StoreUnavailableError
from service.domain.keys import (
    OPERATOR,
    IssuedKey,
    KeyFault,
    KeyId,
    KeyText,
    NewKey,
    Scope,
    StoredKey,
    new_key_id,
)
from service.store.access import cache
from service.store.access.cache import KEPT_S, KeyCache
from service.store.access.keys import AccessKeys
from service.store.access.master import ConfiguredMasterSecret, NoMasterSecret
from service.store.database.database import Database
from service.usecases.keys import ManageKeys

SECRET, OTHER_SECRET = "s" * 32, "o" * 32
NEW = NewKey("a key", frozenset({Scope.READ}), None)
HOUR_S = 3600.0


@dataclass
class Clock:
    """Both clocks of a cache, moved by hand."""

    seconds: float = 1_900_000_000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Counted(AccessKeys):
    """Keys that count their lookups, wait for a go, and may be away."""

    database: Database
    asked: list[list[KeyId]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    away: bool = False

    def __post_init__(self) -> None:
        super().__init__(self._opened)
        self.go.set()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[asyncpg.Connection]:
        if self.away:
            raise StoreUnavailableError("The database does not answer; try again shortly.")
        async with self.database.common() as connection:
            yield connection

    async def by_id(self, key_ids: Sequence[KeyId]) -> dict[KeyId, StoredKey]:
        self.asked.append(list(key_ids))
        self.begun.set()
        await self.go.wait()
        return await super().by_id(key_ids)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(database: Database) -> Counted:
    return Counted(database)


@pytest.fixture
def found(keys: Counted, clock: Clock) -> KeyCache:
    return KeyCache(keys, ConfiguredMasterSecret(SECRET), clock=clock, now=clock)


@pytest.fixture
async def issued(keys: Counted) -> IssuedKey:
    return await manage(keys).create(OPERATOR, NEW)


def manage(keys: AccessKeys) -> ManageKeys:
    return ManageKeys(keys, ConfiguredMasterSecret(SECRET))


async def fault(found: KeyCache, issued: IssuedKey, clock: Clock) -> KeyFault | None:
    text = KeyText.parse(issued.text.encode())
    assert text is not None
    known = await found.find(text.key_id)
    assert known is not None
    return known.fault(text.secret, clock())


async def test_a_key_is_looked_up_once_in_its_time(
    found: KeyCache, keys: Counted, issued: IssuedKey, clock: Clock
) -> None:
    for _ in range(3):
        assert await fault(found, issued, clock) is None
        clock.seconds += KEPT_S / 4
    assert keys.asked == [[issued.key.key_id]]
    clock.seconds += KEPT_S
    assert await fault(found, issued, clock) is None
    assert len(keys.asked) == 2


async def test_what_one_process_revokes_ends_in_another_within_five_seconds(
    found: KeyCache, keys: Counted, issued: IssuedKey, clock: Clock
) -> None:
    assert await fault(found, issued, clock) is None
    await manage(AccessKeys(keys.database.common)).revoke(OPERATOR, issued.key.key_id)
    clock.seconds += 5.0
    assert await fault(found, issued, clock) is KeyFault.REVOKED


async def test_a_row_counts_from_the_moment_its_lookup_began(
    found: KeyCache, keys: Counted, issued: IssuedKey, clock: Clock
) -> None:
    keys.go.clear()
    lookup = asyncio.create_task(fault(found, issued, clock))
    await keys.begun.wait()
    clock.seconds += KEPT_S - 1
    keys.go.set()
    assert await lookup is None
    clock.seconds += 1
    await fault(found, issued, clock)
    assert len(keys.asked) == 2


async def test_a_change_of_this_process_is_seen_at_once(
    found: KeyCache, keys: Counted, issued: IssuedKey, clock: Clock
) -> None:
    own = ManageKeys(keys, ConfiguredMasterSecret(SECRET), on_change=found.forget)
    assert await fault(found, issued, clock) is None
    rotated = await own.rotate(OPERATOR, issued.key.key_id)
    assert await fault(found, issued, clock) is KeyFault.WRONG_SECRET
    assert await fault(found, rotated, clock) is None
    await own.revoke(OPERATOR, issued.key.key_id)
    assert await fault(found, rotated, clock) is KeyFault.REVOKED


async def test_callers_of_one_key_share_a_lookup_and_others_wait_for_the_next(
    found: KeyCache, keys: Counted, issued: IssuedKey, clock: Clock
) -> None:
    keys.go.clear()
    first = [asyncio.create_task(fault(found, issued, clock)) for _ in range(20)]
    await keys.begun.wait()
    made_up = [new_key_id() for _ in range(30)]
    others = [asyncio.create_task(found.find(key_id)) for key_id in made_up]
    again = asyncio.create_task(fault(found, issued, clock))
    await asyncio.sleep(0)
    first[0].cancel()  # the others need the result
    keys.go.set()
    assert await asyncio.gather(*first[1:], again) == [None] * 20
    assert await asyncio.gather(*others) == [None] * 30
    assert keys.asked == [[issued.key.key_id], made_up]


async def test_an_unknown_id_is_remembered_and_displaces_no_key(
    found: KeyCache,
    keys: Counted,
    issued: IssuedKey,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache, "MAX_UNKNOWN", 3)
    assert await fault(found, issued, clock) is None
    made_up = [new_key_id() for _ in range(5)]
    for key_id in made_up:
        assert await found.find(key_id) is None
    before = len(keys.asked)
    assert await found.find(made_up[-1]) is None
    assert await fault(found, issued, clock) is None
    assert len(keys.asked) == before
    assert len(found._unknown) == 3


async def test_no_more_keys_are_remembered_than_have_room(
    found: KeyCache, keys: Counted, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MAX_KNOWN", 3)
    made = [await manage(keys).create(OPERATOR, NEW) for _ in range(5)]
    for each in made:
        assert await fault(found, each, clock) is None
    assert list(found._known) == [each.key.key_id for each in made[2:]]


async def test_a_database_that_is_away_is_an_outage_and_no_refusal(
    found: KeyCache, keys: Counted, issued: IssuedKey, clock: Clock
) -> None:
    assert await fault(found, issued, clock) is None
    keys.away = True
    assert await fault(found, issued, clock) is None  # remembered
    clock.seconds += KEPT_S
    outcomes = await asyncio.gather(
        *(fault(found, issued, clock) for _ in range(3)), return_exceptions=True
    )
    assert [type(each) for each in outcomes] == [StoreUnavailableError] * 3
    keys.away = False
    assert await fault(found, issued, clock) is None


async def test_without_a_master_secret_keys_are_unavailable_and_the_error_says_what_to_set(
    keys: Counted, issued: IssuedKey
) -> None:
    with pytest.raises(KeysUnavailableError, match=r"auth\.master_secret"):
        await KeyCache(keys, NoMasterSecret()).find(issued.key.key_id)


async def test_another_master_secret_is_used_at_once(
    found: KeyCache, issued: IssuedKey, clock: Clock
) -> None:
    assert await fault(found, issued, clock) is None
    found.use(ConfiguredMasterSecret(OTHER_SECRET))
    assert await fault(found, issued, clock) is KeyFault.MASTER_LOST
    found.use(ConfiguredMasterSecret(OTHER_SECRET, SECRET))
    assert await fault(found, issued, clock) is None


async def test_the_last_use_is_written_once_an_hour(
    found: KeyCache, keys: Counted, issued: IssuedKey, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[dict[KeyId, datetime]] = []
    write = keys.note_uses

    async def counted(hours: dict[KeyId, datetime]) -> None:
        writes.append(dict(hours))
        await write(hours)

    monkeypatch.setattr(keys, "note_uses", counted)
    for _ in range(3):
        known = await found.find(issued.key.key_id)
        assert known is not None
        found.note_use(known)
        await found.write_noted_uses()
    hour = datetime.fromtimestamp(clock.seconds // HOUR_S * HOUR_S, UTC)
    assert writes == [{issued.key.key_id: hour}]
    assert (await keys.key(issued.key.key_id)).last_used_at == hour
    clock.seconds += HOUR_S
    known = await found.find(issued.key.key_id)
    assert known is not None
    found.note_use(known)
    await found.write_noted_uses()
    assert len(writes) == 2


async def test_uses_that_could_not_be_written_are_logged_and_written_later(
    found: KeyCache, keys: Counted, issued: IssuedKey, caplog: pytest.LogCaptureFixture
) -> None:
    known = await found.find(issued.key.key_id)
    assert known is not None
    found.note_use(known)
    keys.away = True
    with caplog.at_level(logging.WARNING):
        await found.write_noted_uses()
    assert "last used could not be written" in caplog.text
    keys.away = False
    await found.write_noted_uses()
    assert (await keys.key(issued.key.key_id)).last_used_at is not None
