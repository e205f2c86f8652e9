"""A line on stderr about the load under way, written once a second."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from bench.load.tally import Tally

_EVERY_S = 1.0


async def show(running: Sequence[Tally], *, erase: bool) -> None:
    """Describe the phases in `running` until cancelled; `erase` writes over the last line."""
    finished, then = 0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(_EVERY_S)
            now, total = time.perf_counter(), sum(tally.finished for tally in running)
            # A phase that ended takes its count along.
            rate = max(total - finished, 0) / (now - then)
            finished, then = total, now
            text = f"{rate:.0f}/s; " + "; ".join(describe(tally) for tally in running)
            sys.stderr.write(f"\r{text}\x1b[K" if erase else f"{text}\n")
            sys.stderr.flush()
    finally:
        if erase:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def describe(tally: Tally) -> str:
    """One phase: requests in flight, latencies of its last answers, refusals."""
    text = f"{tally.phase.label or tally.phase.kind}: {tally.in_flight} in flight"
    if tally.recent_s:
        ordered = sorted(tally.recent_s)
        median, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        text += f", p50 {median * 1e3:.1f} ms, p99 {late * 1e3:.1f} ms"
    return f"{text}, {tally.refused} refused" if tally.refused else text
