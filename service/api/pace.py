"""A limit on how many requests a second are answered, without refusing any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

MAX_DELAY_S = 1.0
"""The longest delay of one answer: probes of /healthz give up after a few seconds."""


class Pace:
    """Spaces out answers that cost little, so that a flood of them leaves time for other work.

    Up to `burst` answers go out at once, and `per_s` a second after that; a request beyond the
    rate waits for its turn, a second at most: callers that leave while they wait keep their turns,
    and could otherwise push everybody's back without bound.

    Source: the generic cell rate algorithm (ITU-T I.371), with a queue in place of a refusal.
    """

    def __init__(
        self, *, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / per_s
        self._tolerance_s = burst / per_s
        self._clock = clock
        self._next = clock()

    def reserve(self) -> float:
        """Take the next turn; returns the seconds until it comes, from 0 to `MAX_DELAY_S`."""
        now = self._clock()
        following = max(self._next, now) + self._interval_s
        delay_s = following - self._tolerance_s - now
        if delay_s > MAX_DELAY_S:
            return MAX_DELAY_S
        self._next = following
        return max(0.0, delay_s)

    async def turn(self) -> None:
        """Take the next turn, and wait until it comes."""
        if (delay_s := self.reserve()) > 0:
            await asyncio.sleep(delay_s)
