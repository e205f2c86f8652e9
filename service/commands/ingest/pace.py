"""How many photos are under way: as many as the service takes.

The number grows quickly until the service refuses one; from then on by one a round, and it halves
with each refusal: additive increase and multiplicative decrease (Chiu and Jain 1989).
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

_FIRST: Final = 4
# A group is answered when its last photo is done. The more of them are under way, the fewer photos
# wait for that, and the less the service notices when one ends.
_GROUPS: Final = 5
_LARGEST_GROUP: Final = 16


class Pace:
    """Lets photos begin; the caller says how each ended.

    Args:
        most: photos under way, at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(min(_FIRST, most))
        self._under_way = 0
        self._room = asyncio.Event()
        self._decreased_at: float | None = None

    @property
    def limit(self) -> int:
        """Photos that may be under way now."""
        return int(self._limit)

    @property
    def group(self) -> int:
        """Photos that one request should have at most."""
        return max(1, min(_LARGEST_GROUP, self.limit // _GROUPS))

    async def begin(self, photos: int = 1) -> None:
        """Return when further photos may be under way."""
        while self._under_way and self._under_way + photos > self.limit:
            self._room.clear()
            await self._room.wait()
        self._under_way += photos

    def end(self, photos: int = 1) -> None:
        """Photos are not under way any more."""
        self._under_way -= photos
        self._room.set()

    def answered(self) -> None:
        """The service had room for a photo."""
        if self._under_way + self.group > self.limit:  # else there are not enough to know
            step = 1.0 if self._decreased_at is None else 1 / self._limit
            self._limit = min(self._most, self._limit + step)
            self._room.set()

    def refused(self, began: float) -> None:
        """The service had no room for a request that began then, by the monotonic clock."""
        if self._decreased_at is None or began >= self._decreased_at:
            self._limit = max(1.0, self._limit / 2)
            self._decreased_at = time.monotonic()  # those before it knew nothing of it
