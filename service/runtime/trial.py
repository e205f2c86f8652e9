"""Measures alternatives for a short time, under a load like that of the service."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_BUDGET_S = 0.5
_MIN_ROUNDS = 3
# A shorter round would measure the start of the threads.
_ROUND_S = 0.01

Key = TypeVar("Key")


def time_calls(
    calls: Mapping[Key, Callable[[], object]], workers: int, budget_s: float = _BUDGET_S
) -> dict[Key, float]:
    """The median seconds of each call while `workers` threads make it at once.

    The alternatives take turns, so that a disturbance affects all of them. After a warm-up round at
    least three rounds are timed, and more until the budget is used up.
    """
    ends = time.perf_counter() + budget_s
    with ThreadPoolExecutor(workers) as threads:

        def seconds(call: Callable[[], object], repeats: int) -> float:
            def several() -> None:
                for _ in range(repeats):
                    call()

            started = time.perf_counter()
            for running in [threads.submit(several) for _ in range(workers)]:
                running.result()
            return (time.perf_counter() - started) / repeats

        repeats = {key: math.ceil(_ROUND_S / seconds(call, 1)) for key, call in calls.items()}
        taken: dict[Key, list[float]] = {key: [] for key in calls}
        rounds = 0
        while rounds < _MIN_ROUNDS or time.perf_counter() < ends:
            for key, call in calls.items():
                taken[key].append(seconds(call, repeats[key]))
            rounds += 1
    return {key: statistics.median(found) for key, found in taken.items()}
