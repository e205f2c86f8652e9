"""Runs groups of phases in this process: the phases of a group in turn, the groups at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import uvloop

from bench.load import progress
from bench.load.loops import make_load
from bench.load.plan import Outcome, Phase
from bench.load.tally import Tally
from bench.load.wire import Target, resolve


def execute(
    url: str, groups: Sequence[Sequence[Phase]], *, show: bool = False, erase: bool = False
) -> list[list[Outcome]]:
    """Load a server; returns an outcome for each phase.

    show: write a progress line; erase: over the last one.

    Raises:
        OSError: the server of a closed loop cannot be reached at its beginning.
    """
    target = resolve(url)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_execute(target, groups, show=show, erase=erase))


async def _execute(
    target: Target, groups: Sequence[Sequence[Phase]], *, show: bool, erase: bool
) -> list[list[Outcome]]:
    running: list[Tally] = []

    async def run_group(phases: Sequence[Phase]) -> list[Outcome]:
        outcomes = []
        for phase in phases:
            load = make_load(target, phase)
            running.append(load.tally)
            try:
                await load.run()
            finally:
                running.remove(load.tally)
            outcomes.append(load.tally.outcome())
        return outcomes

    shown = asyncio.create_task(progress.show(running, erase=erase)) if show else None
    try:
        return await asyncio.gather(*(run_group(group) for group in groups))
    finally:
        if shown is not None:
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
