"""Interleaved rounds: every contestant runs once a round, so that drift hits all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

Work = Callable[[], Awaitable[int]]
"""Does a fixed amount of work and returns how many units it was."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Units a second over several rounds: every sample, and what they come to."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The slowest and the fastest sample."""
        return min(self.samples), max(self.samples)


async def interleave(contestants: Mapping[str, Work], rounds: int) -> dict[str, Rate]:
    """Run every contestant once for warm-up, then `rounds` times in turn.

    Returns:
        For each name its rate in units a second.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for name, work in contestants.items():
        print(f"  warming up: {name}", flush=True)
        await work()
    for number in range(rounds):
        for name, work in contestants.items():
            started = time.perf_counter()
            units = await work()
            samples[name].append(units / (time.perf_counter() - started))
        line = ", ".join(f"{name} {rates[-1]:.1f}/s" for name, rates in samples.items())
        print(f"  round {number + 1} of {rounds}: {line}", flush=True)
    return {name: Rate(tuple(rates)) for name, rates in samples.items()}


def ratio(over: Rate, under: Rate) -> float:
    """The median over rounds of one contestant's rate over another's in the same round."""
    return statistics.median(a / b for a, b in zip(over.samples, under.samples, strict=True))


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
