"""When a request is repeated, and how long the client waits before that."""

from __future__ import annotations

import random
from dataclasses import dataclass

REPEATED_STATUSES = frozenset((429, 502, 503, 504))
"""Answers that say that the service cannot do it now; nothing else is repeated."""


def seconds_of(retry_after: str | None) -> int | None:
    """The seconds of a Retry-After header; None where there is none, or a date."""
    if retry_after is not None and retry_after.strip().isdecimal():
        return int(retry_after)
    return None


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is sent, and within which time.

    A request that stores has an idempotency key, so that repeating it never stores twice.

    attempts: at most, the first one included; 1 repeats nothing. within_s: from the first one on;
    no attempt begins later. first_wait_s: doubled with each attempt, up to longest_wait_s, and
    shortened at random by up to a half, so that many clients do not come back at once. The
    service's Retry-After is waited for in any case.
    """

    attempts: int = 8
    within_s: float = 120.0
    first_wait_s: float = 0.25
    longest_wait_s: float = 20.0

    def wait_s(self, attempt: int, elapsed_s: float, retry_after: str | None) -> float | None:
        """How long to wait after an attempt that failed; None where there is no further one.

        Args:
            attempt: its number, from 1 on.
            elapsed_s: since the beginning of the first one.
            retry_after: the header of its answer.
        """
        if attempt >= self.attempts:
            return None
        wait_s = min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        wait_s *= random.uniform(0.5, 1.0)  # noqa: S311
        wait_s += seconds_of(retry_after) or 0
        return wait_s if elapsed_s + wait_s <= self.within_s else None
