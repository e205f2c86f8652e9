"""When another model is loaded because the database has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.app.engines import ModelWatch
from service.domain.errors import StoreUnavailableError
from service.domain.types import ModelSpace

_OLD, _NEW = ModelSpace("old/1"), ModelSpace("new/1")
_NEVER_S = 3600.0


class Database:
    """Says which model is active, and takes note of who asks and of what is loaded."""

    def __init__(self) -> None:
        self.active: ModelSpace | None = _OLD
        self.running = _OLD
        self.can_load = True
        self.away = False
        self.asked = asyncio.Semaphore(0)
        self.tried = asyncio.Semaphore(0)

    async def say(self) -> ModelSpace | None:
        self.asked.release()
        if self.away:
            raise StoreUnavailableError("away")
        return self.active

    async def follow(self) -> bool:
        if self.can_load and self.active is not None:
            self.running = self.active
        self.tried.release()
        return self.can_load

    @asynccontextmanager
    async def watched(self, interval_s: float) -> AsyncIterator[ModelWatch]:
        watch = ModelWatch(self.say, lambda: self.running, self.follow, interval_s=interval_s)
        task = asyncio.create_task(watch.run())
        try:
            yield watch
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _times(semaphore: asyncio.Semaphore, count: int = 1) -> None:
    async with asyncio.timeout(10):
        for _ in range(count):
            await semaphore.acquire()


async def test_another_active_model_is_noticed_without_a_request() -> None:
    database = Database()
    async with database.watched(0.01):
        await _times(database.asked, 3)
        assert database.tried.locked()
        database.active = _NEW
        await _times(database.tried)
    assert database.running == _NEW


async def test_refused_insert_has_the_model_loaded_at_once() -> None:
    database = Database()
    async with database.watched(_NEVER_S) as watch:
        database.active = _NEW
        watch.look()
        await _times(database.tried)
    assert database.running == _NEW


async def test_model_that_cannot_be_loaded_is_not_tried_for_each_refused_insert() -> None:
    database = Database()
    database.active, database.can_load = _NEW, False
    async with database.watched(_NEVER_S) as watch:
        watch.look()
        await _times(database.tried)
        for _ in range(20):
            watch.look()
            await asyncio.sleep(0)
    assert database.tried.locked()


async def test_model_that_could_not_be_loaded_is_tried_again_later() -> None:
    database = Database()
    database.active, database.can_load = _NEW, False
    async with database.watched(0.01):
        await _times(database.tried, 2)
        database.can_load = True
        await _times(database.tried)
        while database.running != _NEW:
            await _times(database.tried)


async def test_database_that_is_away_or_has_no_model_changes_nothing() -> None:
    database = Database()
    database.away = True
    async with database.watched(0.01):
        await _times(database.asked, 3)
        database.away, database.active = False, None
        await _times(database.asked, 3)
    assert database.tried.locked()
    assert database.running == _OLD
