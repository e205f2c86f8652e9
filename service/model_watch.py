"""Notices that the database is searched by another model than the running one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from service.domain.errors import StoreUnavailableError
from service.domain.types import ModelSpace

_logger = logging.getLogger(__name__)

_INTERVAL_S = 5.0


class ModelWatch:
    """Has the database's model loaded, soon after another process made it the active one.

    Args:
        active: the space that the database is searched by; None before one was chosen.
        running: the space of the running models.
        follow: loads the models of the active space; returns whether it could.
    """

    def __init__(
        self,
        active: Callable[[], Awaitable[ModelSpace | None]],
        running: Callable[[], ModelSpace],
        follow: Callable[[], Awaitable[bool]],
        *,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._active = active
        self._running = running
        self._follow = follow
        self._interval_s = interval_s
        self._called = asyncio.Event()

    def look(self) -> None:
        """Look now: an insert was refused, because the model is another."""
        self._called.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._called.wait()
            if not await self._is_right() and not await self._follow():
                # Refused inserts go on calling: models that cannot be loaded are not tried again
                # for each of them.
                await asyncio.sleep(self._interval_s)
            self._called.clear()

    async def _is_right(self) -> bool:
        try:
            return await self._active() in (None, self._running())
        except StoreUnavailableError:  # it is said elsewhere
            return True
        except Exception:  # inserts under a replaced model are refused all the same
            _logger.exception("the database's model is not known for a moment")
            return True
