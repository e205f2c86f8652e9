"""What an ingest shows while it works: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from service.commands.ingest.counts import Counts

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_BETWEEN_BARS_S: Final = 0.25
_BETWEEN_LINES_S: Final = 10.0
# The rate of so long decides how much time is left.
_RATE_OF_S: Final = 30.0
_QUIET_S: Final = 3.0


class Rate:
    """Photos a second, of late."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, handled: int) -> None:
        """Take the number so far."""
        self._samples.append((now, handled))
        while now - self._samples[0][0] > _RATE_OF_S:
            self._samples.popleft()

    @property
    def per_s(self) -> float:
        """0 while it is not known."""
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


async def show_progress(
    counts: Counts, total: Callable[[], int | None], waits_since: Callable[[], float | None]
) -> None:
    """Show progress on standard error until it is cancelled.

    Args:
        total: the number of photos, once they are counted.
        waits_since: since when the service stores nothing, by the monotonic clock.
    """
    rate = Rate()
    if not sys.stderr.isatty():
        while True:
            rate.add(time.monotonic(), counts.handled)
            await asyncio.sleep(_BETWEEN_LINES_S)
            rate.add(time.monotonic(), counts.handled)
            print(_words(counts, total(), rate, waits_since()), file=sys.stderr, flush=True)
    with _bar() as bar:
        task = bar.add_task("", total=None, text="")
        while True:
            rate.add(time.monotonic(), counts.handled)
            _update(bar, task, counts, total(), rate, waits_since())
            await asyncio.sleep(_BETWEEN_BARS_S)


def _words(counts: Counts, total: int | None, rate: Rate, waits_since: float | None) -> str:
    of = "" if total is None else f" of {total:,}"
    text = f"{counts.handled:,}{of} photos, {rate.per_s:.1f}/s"
    if total is not None and rate.per_s:
        text += f", {duration((total - counts.handled) / rate.per_s)} left"
    if counts.failed:
        text += f", {counts.failed:,} failed"
    return text + _waiting(waits_since)


def _waiting(waits_since: float | None) -> str:
    waited_s = 0.0 if waits_since is None else time.monotonic() - waits_since
    return f", waiting for the service for {duration(waited_s)}" if waited_s > _QUIET_S else ""


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        BarColumn(bar_width=None),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True, highlight=False),
        auto_refresh=False,
        expand=True,
        transient=True,
    )


def _update(
    bar: Progress,
    task: TaskID,
    counts: Counts,
    total: int | None,
    rate: Rate,
    waits_since: float | None,
) -> None:
    text = _words(counts, total, rate, waits_since)
    bar.update(task, completed=counts.handled, total=total, text=text, refresh=True)


def duration(seconds: float) -> str:
    """A time for people to read: `40 s`, `12 min`, `3.5 h`."""
    whole = round(max(0.0, seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"
