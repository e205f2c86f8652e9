"""A limit on how many requests a second are answered, without refusing any."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final

MAX_DELAY_S = 1.0
"""The longest delay of one answer: probes of /healthz give up after a few seconds."""
MAX_ADDRESSES: Final = 4096
"""Addresses with a pace of their own at once, some hundred bytes each."""


class Pace:
    """Spaces out answers that cost little, so that a flood of them leaves time for other work.

    Up to `burst` answers go out at once, and `per_s` a second after that; a request beyond the
    rate waits for its turn, a second at most: callers that leave while they wait keep their turns,
    and could otherwise push everybody's back without bound.

    Source: the generic cell rate algorithm (ITU-T I.371), with a queue in place of a refusal.
    """

    __slots__ = ("_clock", "_interval_s", "_next", "_tolerance_s")

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

    @property
    def is_rested(self) -> bool:
        """Whether the whole burst is there again, as for a new pace."""
        return self._next <= self._clock()

    async def turn(self) -> None:
        """Take the next turn, and wait until it comes."""
        if (delay_s := self.reserve()) > 0:
            await asyncio.sleep(delay_s)


class AddressPaces:
    """A pace for each network address, so that a flood from one does not delay another's answers.

    An address whose burst is whole again is forgotten when the room is needed. While as many
    addresses as have room are in the middle of a flood, all further ones share one pace: memory
    and answers stay bounded, however many addresses a flood has.
    """

    def __init__(
        self,
        *,
        per_s: float,
        burst: int,
        max_addresses: int = MAX_ADDRESSES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = partial(Pace, per_s=per_s, burst=burst, clock=clock)
        self._max_addresses = max_addresses
        self._paces: OrderedDict[str, Pace] = OrderedDict()  # the one asked for last at the end
        self._of_others = self._make()

    def of(self, address: str) -> Pace:
        """The pace of an address."""
        pace = self._paces.get(address)
        if pace is not None:
            self._paces.move_to_end(address)
            return pace
        if len(self._paces) >= self._max_addresses:
            oldest, its_pace = next(iter(self._paces.items()))
            if not its_pace.is_rested:
                return self._of_others
            del self._paces[oldest]
        pace = self._paces[address] = self._make()
        return pace

    async def turn(self, address: str) -> None:
        """Take the next turn of an address, and wait until it comes."""
        await self.of(address).turn()
