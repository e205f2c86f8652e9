"""What the in-process benches share: the models, and work spread over callers or threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from service.analysis.analyzer import AnalysisSettings, Analyzer
from service.app import analysis_settings
from service.config import AuthConfig, Config
from service.runtime.manifest import ModelName, load_manifest
from service.runtime.sessions import ModelSession, open_sessions
from service.telemetry import Metrics

MODELS = Path(__file__).resolve().parents[1] / "models"

T = TypeVar("T")


def default_settings() -> AnalysisSettings:
    """The analyzer's settings of an untouched configuration on this machine."""
    return analysis_settings(Config(auth=AuthConfig(token="unused-here")))  # noqa: S106


def sessions(settings: AnalysisSettings) -> dict[ModelName, ModelSession]:
    """The models as the service opens them."""
    return open_sessions(MODELS, load_manifest(MODELS), settings.sessions)


@asynccontextmanager
async def running_analyzer(settings: AnalysisSettings) -> AsyncIterator[Analyzer]:
    """A warm analyzer for the time of the block."""
    analyzer = Analyzer(MODELS, settings, Metrics())
    await analyzer.warm_up()
    try:
        yield analyzer
    finally:
        await analyzer.aclose()


async def by_callers(
    items: Sequence[T], act: Callable[[T], Awaitable[object]], callers: int
) -> int:
    """Let `callers` coroutines work through the items; returns how many there were."""
    waiting = iter(items)

    async def caller() -> None:
        for item in waiting:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return len(items)


async def by_threads(items: Sequence[T], act: Callable[[T], object], threads: int) -> int:
    """Let `threads` threads work through the items; returns how many there were."""

    def run() -> int:
        with ThreadPoolExecutor(threads) as executor:
            return len(list(executor.map(act, items)))

    return await asyncio.to_thread(run)
