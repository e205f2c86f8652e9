"""The models in use: loaded, warmed up, and shared by the generations that use them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.analysis.analyzer import AnalysisSettings, Analyzer
from service.app.generations import Shared
from service.app.settings import analysis_settings, first_model
from service.batching import FairShare
from service.config import Config
from service.domain.errors import StoreUnavailableError
from service.domain.types import ModelSpace
from service.machine.memory import release_free_memory, settle_heap
from service.runtime.catalogue import (
    ModelSet,
    model_set_of_space,
    model_sets,
    named_model_set,
)
from service.runtime.manifest import MANIFEST_NAME, file_sha256
from service.runtime.sessions import available_providers
from service.store.database.active_model import ActiveModel, active_model, adopt_model
from service.store.database.database import Database
from service.telemetry import Metrics

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """An analyzer, and the fair share of its workers.

    made_of: settings, hash of the manifest, and space. An engine made of equal values is the same.
    """

    analyzer: Analyzer
    fair: FairShare
    made_of: tuple[AnalysisSettings, str, str]

    @property
    def space(self) -> ModelSpace:
        """The space of the embeddings."""
        return ModelSpace(self.analyzer.embedding.space)


def check_models(models: Path) -> list[str]:
    """Check that a directory has models, and that a runtime for them is installed.

    Returns:
        The names of the sets of models.

    Raises:
        ModelError: either is missing.
    """
    found = model_sets(models)
    available_providers()
    return [each.name for each in found]


class Engines:
    """Opens engines. The caller holds each one; it is closed when its last holder releases it."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._has_closed_one = False

    async def first(self, config: Config) -> Shared[Engine]:
        """The engine to start with. It has the models of the active space of the database.

        A new database gets the configured model as its active one.

        Raises:
            ConfigError: the models of the active space are missing.
            ModelError: models or a manifest cannot be used.
            StoreUnavailableError: the database does not answer.
        """
        sets = await asyncio.to_thread(model_sets, config.paths.models_dir)
        async with self._database.maintenance() as connection:
            active = await active_model(connection)
            if active is None or active.space not in [each.space for each in sets]:
                wanted = await asyncio.to_thread(
                    named_model_set, config.paths.models_dir, first_model(config)
                )
                first = ActiveModel(ModelSpace(wanted.space), wanted.name)
                active = await adopt_model(connection, first, instead_of=active)
        if active.name != first_model(config):
            _logger.info(
                "the database keeps its active model; the configured one is for new databases",
                extra={"fields": {"model": active.name, "a_new_one_has": first_model(config)}},
            )
        return await self._open(config, active.space, active.name)

    async def following(self, config: Config, running: Shared[Engine]) -> Shared[Engine]:
        """The engine after a reload: the running one where the models and settings are the same.

        The space stays the same while the database does not answer.

        Raises:
            ConfigError: the models of the active space are missing.
            ModelError: models or a manifest cannot be used.
        """
        space, name = running.value.space, ""
        try:
            async with self._database.maintenance() as connection:
                if (active := await active_model(connection)) is not None:
                    space, name = active.space, active.name
        except StoreUnavailableError:
            _logger.warning("the database does not answer: the running model is kept")
        return await self._open(config, space, name, running)

    def free_closed(self) -> None:
        """Free the memory of closed engines now.

        They are part of reference cycles with few objects and many megabytes, which the garbage
        collector would find late: it counts objects, not bytes.
        """
        if self._has_closed_one:
            self._has_closed_one = False
            asyncio.get_running_loop().run_in_executor(None, _free_unused)

    async def _open(
        self,
        config: Config,
        space: ModelSpace,
        name: str,
        running: Shared[Engine] | None = None,
    ) -> Shared[Engine]:
        models: ModelSet = await asyncio.to_thread(
            model_set_of_space, config.paths.models_dir, space, name
        )
        settings = analysis_settings(config)
        manifest_sha256 = await asyncio.to_thread(_manifest_sha256, models.folder)
        made_of = (settings, manifest_sha256, models.space)
        if running is not None and running.value.made_of == made_of:
            return running.hold()
        analyzer = await asyncio.to_thread(
            Analyzer, models.folder, settings, self._metrics, models.space
        )

        async def close() -> None:
            await analyzer.aclose()
            self._has_closed_one = True

        engine = Shared(Engine(analyzer, FairShare(), made_of), close).hold()
        try:
            await analyzer.warm_up()
        except BaseException:
            await engine.release()
            raise
        return engine


def _free_unused() -> None:
    settle_heap()
    release_free_memory()


def _manifest_sha256(models: Path) -> str:
    """The hash of the manifest, which holds the hash of each model; empty where it is missing."""
    try:
        return file_sha256(models / MANIFEST_NAME)
    except OSError:  # the analyzer raises an error with a better message
        return ""


_logger = logging.getLogger(__name__)

_INTERVAL_S = 5.0


class ModelWatch:
    """Loads the models of the active space after another process has changed it.

    Args:
        active: the active space of the database; None before there is one.
        running: the space of the running models.
        follow: loads the models of the active space; returns whether that succeeded.
        interval_s: time between two checks, and after a failed attempt.
    """

    def __init__(
        self,
        active: Callable[[], Awaitable[ModelSpace | None]],
        running: Callable[[], ModelSpace],
        follow: Callable[[], Awaitable[bool]],
        *,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._active = active
        self._running = running
        self._follow = follow
        self._interval_s = interval_s
        self._called = asyncio.Event()

    def look(self) -> None:
        """Check now, since the store refused an insert because of its space."""
        self._called.set()

    async def run(self) -> None:
        """Check periodically, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._called.wait()
            if not await self._is_right() and not await self._follow():
                # Each refused insert calls `look`: models that cannot be loaded are not tried again
                # for every call.
                await asyncio.sleep(self._interval_s)
            self._called.clear()

    async def _is_right(self) -> bool:
        try:
            return await self._active() in (None, self._running())
        except StoreUnavailableError:  # logged by the database
            return True
        except Exception:  # the store refuses inserts of another space without this check
            _logger.exception("the active model of the database could not be read")
            return True
