"""Interleaved rounds: every contestant runs once a round, so that drift hits all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

Work = Callable[[], Awaitable[int]]
"""Does a fixed amount of work and returns how many units it was."""

Rated = Callable[[], Awaitable[float]]
"""Works for a while and returns its own rate, in units a second."""

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Samples:
    """One figure a round, in round order, and their statistics."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return min(self.values), max(self.values)

    def inverted(self, scale: float) -> Samples:
        """`scale` over each value: 1000 makes milliseconds a unit of units a second."""
        return Samples(tuple(scale / value for value in self.values))

    def document(self) -> dict[str, Any]:
        """Median, extremes, percentiles and the raw values, rounded for a file."""
        return {
            "median": round(self.median, 3),
            "min": round(self.spread[0], 3),
            "max": round(self.spread[1], 3),
            "percentiles": {
                f"p{share * 100:.0f}": round(percentile(list(self.values), share), 3)
                for share in _SHARES
            },
            "samples": [round(value, 3) for value in self.values],
        }


async def interleave(contestants: Mapping[str, Work], rounds: int) -> dict[str, Samples]:
    """Run every contestant once for warm-up, then `rounds` times in turn.

    Returns:
        For each name its rate in units a second.
    """

    def timed(work: Work) -> Rated:
        async def rate() -> float:
            started = time.perf_counter()
            units = await work()
            return units / (time.perf_counter() - started)

        return rate

    return await interleave_rated({name: timed(work) for name, work in contestants.items()}, rounds)


async def interleave_rated(contestants: Mapping[str, Rated], rounds: int) -> dict[str, Samples]:
    """The same for contestants that take their own time, as a load client does."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for name, work in contestants.items():
        print(f"  warming up: {name}", flush=True)
        await work()
    for number in range(rounds):
        for name, work in contestants.items():
            rates[name].append(await work())
        line = ", ".join(f"{name} {values[-1]:.1f}/s" for name, values in rates.items())
        print(f"  round {number + 1} of {rounds}: {line}", flush=True)
    return {name: Samples(tuple(values)) for name, values in rates.items()}


def round_ratios(over: Samples, under: Samples) -> Samples:
    """One contestant's figure over another's in the same round, round by round."""
    return Samples(tuple(a / b for a, b in zip(over.values, under.values, strict=True)))


def ratio(over: Samples, under: Samples) -> float:
    """The median of `round_ratios`."""
    return round_ratios(over, under).median


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
