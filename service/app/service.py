"""The composition root: configuration in, ASGI application out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.api.boundary import Boundary
from service.api.cors import CrossOrigin
from service.api.routes import (
    build_routes,
    caller_routes,
    console_routes,
    operations_routes,
)
from service.api.routing import ShapedRouter
from service.api.services import ApiServices
from service.api.shared_call import SharedCall
from service.api.v1.operations import OPERATIONS
from service.api.v1.serving import bodies_of
from service.app.engines import Engines, check_models
from service.app.generations import Generations
from service.app.keys import prepare_keys
from service.app.running import Running
from service.app.settings import (
    blob_place,
    database_settings,
    master_secret_place,
    place_in_words,
)
from service.config import Config
from service.config.changes import changes
from service.domain.addresses import TrustedProxies
from service.domain.errors import FacetteError, StoppingError
from service.store.blob.opening import open_blob_store
from service.store.database.database import Database
from service.telemetry import Metrics, configure_logging, open_tracing
from service.vision.compiled import check_compilation

_logger = logging.getLogger(__name__)


class Service:
    """The ASGI application. Its lifespan starts and stops everything that it needs.

    Args:
        config: the configuration to start with.
        load: reads the configuration again, for `reload`.
        say: takes each step of the start in words, before it begins.

    Attributes:
        config: the configuration of the current generation.
        operations: the application of the operations port, which has no lifespan of its own.
        start_failed: whether the lifespan could not begin; the reason is in the log.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        say: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.config = config
        self._load = load
        self._say = say
        self._metrics = Metrics()
        self._generations: Generations[ApiServices] = Generations(self._free_closed_models)
        self._running: Running | None = None
        self._reloading = asyncio.Lock()
        self._stopping = False
        self.start_failed = False
        self._tracing = open_tracing(config.tracing.endpoint, config.tracing.sample_ratio)
        # Rendering takes milliseconds, and runs once for all callers of one moment, off the loop.
        self._exposition = SharedCall(partial(asyncio.to_thread, self._metrics.exposition))
        apart = bool(config.server.operations_port)
        lease = self._generations.lease
        for_callers = caller_routes(lease) if apart else build_routes(lease)
        self._boundary = self._bounded([*for_callers, *console_routes(lease)])
        self._front = CrossOrigin(self._boundary, self._metrics, config.server.cors_origins)
        self.operations = self._bounded(operations_routes(lease))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        await self._front(scope, receive, send)

    @property
    def metrics(self) -> Metrics:
        """The metrics of the service."""
        return self._metrics

    def begin_stopping(self) -> None:
        """Answer /readyz with an error from now on; other requests are served as before."""
        self._stopping = True
        if self._running is not None:
            self._running.end_streams()

    async def reload(self) -> bool:
        """Apply changes of the configuration and the models; returns whether that succeeded.

        A request ends with the services that it began with. When the new configuration or the new
        models cannot be used, the current ones stay, and the log says why. Reloads run one at a
        time.
        """
        return await self._reload(self._load)

    async def _follow_models(self) -> bool:
        """Load the models of the database's active space; returns whether that succeeded."""
        _logger.info("the database is searched by another model, which is loaded now")
        return await self._reload(lambda: self.config)

    async def _reload(self, load: Callable[[], Config]) -> bool:
        async with self._reloading:
            if self._running is None or self._stopping:
                return False
            try:
                found = changes(self.config, await asyncio.to_thread(load))
                exchanged = await self._running.exchange(found.config)
            except FacetteError as error:
                _logger.error(
                    "reload failed, all stays as it was: %s", error.message.replace("\n", "; ")
                )
            except Exception:
                _logger.exception("reload failed, all stays as it was")
            else:
                self.config = found.config
                self._boundary.limit_bodies(found.config.server.max_body_bytes)
                for each in (self._boundary, self.operations):
                    each.trust(TrustedProxies(found.config.server.trusted_proxies))
                self._front.allow(found.config.server.cors_origins)
                self._metrics.reloads.labels("ok").inc()
                if {"server.log_level", "server.log_json"} & set(found.applied):
                    server = self.config.server
                    configure_logging(server.log_level, as_json=server.log_json)
                _logger.info(
                    "reloaded",
                    extra={
                        "fields": {
                            "changed": ",".join(found.applied) or "nothing",
                            "models": "exchanged" if exchanged else "kept",
                            "needs_restart": ",".join(found.waiting) or "nothing",
                        }
                    },
                )
                return True
            self._metrics.reloads.labels("failed").inc()
            return False

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        """Start everything in order; the stack stops it in reverse order."""
        started = False
        try:
            async with AsyncExitStack() as stack:
                await self._start(stack)
                started = True
                _logger.info("ready")
                yield
        except Exception as error:
            if not started:  # logged after the stack has unwound, so that the reason comes last
                self._note_failed_start(error)
            raise
        _logger.info("stopped")

    def _note_failed_start(self, error: Exception) -> None:
        self.start_failed = True
        if isinstance(error, FacetteError):
            _logger.error(error.message)
        else:
            _logger.error("the service could not start", exc_info=error)

    async def _start(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(asyncio.to_thread, self._tracing.close)
        if not check_compilation():
            _logger.warning(
                "compiled kernels cannot be kept, and are compiled at each start: set "
                "NUMBA_CACHE_DIR to a folder that this account can write"
            )
        # Missing models are reported before the database is started, which takes seconds.
        models_dir = self.config.paths.models_dir
        names = await asyncio.to_thread(check_models, models_dir)
        self._say(f"models in {models_dir}: {', '.join(names)}")
        self._say(f"starting {place_in_words(self.config)}")
        database = await Database.open(database_settings(self.config, stack))
        stack.push_async_callback(database.close)
        await prepare_keys(database, master_secret_place(self.config))
        self._running = await self._run(database)
        stack.push_async_callback(self._end_generations)
        self._running.start_background()
        stack.push_async_callback(self._running.stop_background)

    async def _run(self, database: Database) -> Running:
        # A place that cannot be used is reported before the models are loaded, which takes seconds.
        blobs = await open_blob_store(blob_place(self.config))
        self._say("loading the models, which takes longer at the first start")
        engines = Engines(database, self._metrics)
        engine = await engines.first(self.config)
        try:
            return Running(
                self.config,
                database,
                engines,
                engine,
                blobs,
                metrics=self._metrics,
                generations=self._generations,
                exposition=self._exposition,
                check_serving=self._check_serving,
                follow_models=self._follow_models,
            )
        except BaseException:
            await engine.release()
            raise

    async def _end_generations(self) -> None:
        self._stopping = True
        async with self._reloading:  # a reload under way sees that the service stops
            await self._generations.aclose()

    def _check_serving(self) -> None:
        if self._stopping:
            raise StoppingError("The service is shutting down.")

    def _free_closed_models(self) -> None:
        if self._running is not None and not self._stopping:
            self._running.free_closed_models()

    def _bounded(self, routes: Sequence[Route]) -> Boundary:
        return Boundary(
            ShapedRouter(routes),
            lifespan=self._lifespan,
            metrics=self._metrics,
            max_body_bytes=self.config.server.max_body_bytes,
            proxies=TrustedProxies(self.config.server.trusted_proxies),
            tracing=self._tracing,
            bodies=bodies_of(OPERATIONS),
        )
