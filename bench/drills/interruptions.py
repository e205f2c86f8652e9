"""Interruptions of a service under load: SIGTERM, a reload, a restart of its database."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.common import database
from bench.common.harness import MODELS
from bench.common.server import ServiceProcess
from bench.drills.callers import Load, under_load
from bench.drills.verdict import Tally, judge, reference
from bench.http.service import scrape

_QUIET = {"FACETTE_SERVER_LOG_LEVEL": "warning"}
_REFUSED = ("stopping", "overloaded")
_RELOADED = ("facette_reloads_total", "ok")
_RELOAD_FAILED = ("facette_reloads_total", "failed")
_RELOAD_TIMEOUT_S = 120.0
# Of requests between two events: long enough for every caller to be in another state.
_MOST_BETWEEN = 60
_LONGEST_OUTAGE_S = 1.5


@dataclass(slots=True)
class Drill:
    """Results of one drill. facts: further observations, by name."""

    name: str
    repetitions: int
    tally: Tally = field(default_factory=Tally)
    facts: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The same for a file."""
        return {
            "drill": self.name,
            "repetitions": self.repetitions,
            **self.tally.document(),
            **self.facts,
        }


async def sigterm(folder: Path, photos: Sequence[bytes], repetitions: int) -> Drill:
    """Stop a busy service, and look for the answered requests in the next one."""
    drill = Drill("SIGTERM", repetitions)
    generator = np.random.default_rng(1)
    service = await _started(folder)
    statuses = []
    try:
        right = await reference(service, photos)
        for _ in range(repetitions):
            async with under_load(service, photos) as load:
                await _some(load, generator)
                psutil.Process(service.pid).terminate()
                statuses.append(await asyncio.to_thread(service.wait))
            await asyncio.to_thread(service.start)
            await judge(drill.tally, service, load.asked, right, _REFUSED)
    finally:
        await asyncio.to_thread(service.stop)
    drill.facts["exit_statuses"] = statuses
    return drill


async def reload(folder: Path, photos: Sequence[bytes], repetitions: int) -> Drill:
    """Change a busy service's models to another precision and back."""
    drill = Drill("reload", repetitions)
    generator = np.random.default_rng(2)
    precisions = ("fp32", "auto")
    _configure(folder, precisions[0])
    service = await _started(folder)
    try:
        right = await reference(service, photos)
        await _reload(service, precisions[1])
        right = right.also(await reference(service, photos))
        before = await asyncio.to_thread(scrape, service)
        async with under_load(service, photos, inserts_in_four=1) as load:
            for number in range(repetitions):
                await _some(load, generator)
                await _reload(service, precisions[number % 2])
            await _some(load, generator)
        after = await asyncio.to_thread(scrape, service)
        await judge(drill.tally, service, load.asked, right, ())
    finally:
        status = await asyncio.to_thread(service.stop)
    drill.facts |= {
        "exit_statuses": [status],
        "reloads_ok": after[_RELOADED] - before[_RELOADED],
        "reloads_failed": after[_RELOAD_FAILED] - before[_RELOAD_FAILED],
    }
    return drill


async def restart(
    folder: Path, photos: Sequence[bytes], repetitions: int, mode: database.Mode
) -> Drill:
    """Take a busy service's database away for a while, again and again."""
    drill = Drill(f"PostgreSQL restart -m {mode}", repetitions)
    generator = np.random.default_rng(3)
    service = await _started(folder)
    try:
        right = await reference(service, photos)
        async with under_load(service, photos, inserts_in_four=4) as load:
            for _ in range(repetitions):
                await _some(load, generator)
                options = await asyncio.to_thread(database.stop, service, mode)
                await asyncio.sleep(generator.uniform(0, _LONGEST_OUTAGE_S))
                await asyncio.to_thread(database.start, service, options)
            await _some(load, generator)
        await judge(drill.tally, service, load.asked, right, ("store_unavailable",))
    finally:
        status = await asyncio.to_thread(service.stop)
    drill.facts |= {
        "exit_statuses": [status],
        "database_left_running": database.is_running(service),
    }
    return drill


async def _some(load: Load, generator: np.random.Generator) -> None:
    """Wait for some answers and a random moment more."""
    await load.more(int(generator.integers(_MOST_BETWEEN // 4, _MOST_BETWEEN)))
    await asyncio.sleep(generator.uniform(0, 0.05))


async def _started(folder: Path) -> ServiceProcess:
    return await asyncio.to_thread(ServiceProcess(folder, MODELS, _QUIET).start)


def _configure(folder: Path, precision: str) -> None:
    text = f'[inference]\nprecision = "{precision}"\n'
    (folder / "config.toml").write_text(text, encoding="utf-8")


async def _reload(service: ServiceProcess, precision: str) -> None:
    """Reload it with another precision, and wait for the result in its log."""

    def reloads() -> float:
        found = scrape(service)
        return found[_RELOADED] + found[_RELOAD_FAILED]

    def wait_for_another() -> None:
        deadline = time.monotonic() + _RELOAD_TIMEOUT_S
        while reloads() == before:
            if time.monotonic() > deadline:
                raise TimeoutError("the service did not reload")
            time.sleep(0.05)

    before = await asyncio.to_thread(reloads)
    _configure(service.folder, precision)
    psutil.Process(service.pid).send_signal(signal.SIGHUP)
    await asyncio.to_thread(wait_for_another)
