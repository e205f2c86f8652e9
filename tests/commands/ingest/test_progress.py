"""What an ingest shows of its progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import time
from contextlib import suppress

import pytest

from service.commands.ingest import progress
from service.commands.ingest.counts import Counts
from service.commands.ingest.progress import Rate, duration, show_progress


class _Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal
        self._wanted, self._appeared = "", asyncio.Event()

    async def shows(self, text: str) -> None:
        """Return when a text has appeared."""
        self._wanted = text
        await self._appeared.wait()
        self._appeared.clear()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._wanted and self._wanted in self.getvalue():
            self._appeared.set()
        return written

    def isatty(self) -> bool:
        return self._terminal


async def shown_on(screen: _Screen, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is shown of an ingest while more of it is done."""
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "_BETWEEN_BARS_S", 0.01)
    monkeypatch.setattr(progress, "_BETWEEN_LINES_S", 0.01)
    monkeypatch.setenv("COLUMNS", "120")
    counts = Counts()
    waiting_since = time.monotonic() - 75
    showing = asyncio.create_task(show_progress(counts, lambda: 2000, lambda: waiting_since))
    counts.know(1000)
    await screen.shows("1,000 of 2,000")
    counts.know(234)
    await screen.shows("1,234 of 2,000")
    showing.cancel()
    with suppress(asyncio.CancelledError):
        await showing
    return screen.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
async def test_progress_has_number_rate_and_time_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = await shown_on(_Screen(terminal=terminal), monkeypatch)
    assert re.search(r"1,234 of 2,000 photos, [\d.]+/s, \d+ s left", text)
    assert "waiting for the service for 7" in text
    assert ("\x1b[" in text) == terminal


def test_the_rate_is_that_of_late() -> None:
    rate = Rate()
    rate.add(0.0, 0)
    assert rate.per_s == 0.0
    rate.add(10.0, 1000)
    assert rate.per_s == 100.0
    rate.add(100.0, 1000)
    rate.add(110.0, 1020)
    assert rate.per_s == 2.0
    assert [duration(each) for each in (-1, 59.6, 150, 9000)] == ["0 s", "60 s", "2 min", "2.5 h"]
