"""The one composition root: configuration in, ASGI application out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import time

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.auth import TokenGuard
from service.api.boundary import Boundary
from service.api.door import Door
from service.api.routes import build_routes, caller_routes, operations_routes
from service.api.services import ApiServices
from service.api.shared_call import SharedCall
from service.app.engines import Engine, Engines, ModelWatch, check_models
from service.app.generations import Generations, Kept, Shared
from service.app.settings import (
    blob_place,
    code_memory_bytes,
    database_settings,
    index_settings,
    rule_of,
    share,
)
from service.batching import Admission, AdmissionLimits
from service.config import Config
from service.config.changes import changes
from service.domain.errors import FacetteError, StoppingError
from service.domain.types import Swept
from service.store.blob.index import DatabaseSweepTurns
from service.store.blob.opening import open_blob_store
from service.store.database.database import Database
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import Metrics, configure_logging, open_tracing
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from service.usecases.ports import BlobStore
from service.usecases.recognize import Recognize
from service.usecases.sweep import SweepBlobs, SweepSchedule

_logger = logging.getLogger(__name__)


class Service:
    """The ASGI application; everything it needs starts with its lifespan, much can be exchanged.

    Args:
        load: reads the configuration again, for `reload`.

    Attributes:
        operations: the application of the operations port alone, without a lifespan of its own.
    """

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self.config = config
        self._load = load
        self._metrics = Metrics()
        self._generations: Generations[ApiServices] = Generations(self._tidy_up)
        self._doors: Kept[Door] = Kept()
        self._admissions: Kept[Admission] = Kept()
        self._sweeps = SweepSchedule(
            on_swept=self._count_swept, on_failure=self._metrics.sweep_failures.inc
        )
        self._reloading = asyncio.Lock()
        self._model_watch = ModelWatch(
            lambda: self._database.active_space(),
            lambda: self._engine.value.space,
            self._follow_models,
        )
        self._stopping = False
        self._tracing = open_tracing(config.tracing.endpoint, config.tracing.sample_ratio)
        # Both cost the service something, and anyone may ask, as often as he likes.
        self._ping = SharedCall(lambda: self._database.ping())
        # Milliseconds of rendering, which other requests need not wait for.
        self._exposition = SharedCall(partial(asyncio.to_thread, self._metrics.exposition))
        apart = bool(config.server.operations_port)
        lease = self._generations.lease
        self._boundary = self._bounded(caller_routes(lease) if apart else build_routes(lease))
        self.operations: ASGIApp = self._bounded(operations_routes(lease))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        await self._boundary(scope, receive, send)

    @property
    def metrics(self) -> Metrics:
        """What is counted."""
        return self._metrics

    def begin_stopping(self) -> None:
        """Say at /readyz that the service stops; everything is served as before."""
        self._stopping = True

    async def reload(self) -> bool:
        """Take over what changed in the configuration and the models; returns whether it did.

        Requests go on under what they began with. When the new configuration or the new models
        cannot be used, all stays as it was, and one log line says why. Reloads wait for each other.
        """
        return await self._reload(self._load)

    async def _follow_models(self) -> bool:
        """Serve with the models that the database is searched by now; whether that worked."""
        _logger.info("the database is searched by another model: it is loaded")
        return await self._reload(lambda: self.config)

    async def _reload(self, load: Callable[[], Config]) -> bool:
        async with self._reloading:
            if self._stopping:
                return False
            try:
                found = changes(self.config, await asyncio.to_thread(load))
                exchanged = await self._exchange(found.config)
            except FacetteError as error:
                _logger.error(
                    "reload failed, all stays as it was: %s", error.message.replace("\n", "; ")
                )
            except Exception:
                _logger.exception("reload failed, all stays as it was")
            else:
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
        """Bring everything up in order; the stack takes it down in reverse."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._tracing.close)
            # Said before the database is started, which takes seconds.
            await asyncio.to_thread(check_models, self.config.paths.models_dir)
            self._database = await Database.open(database_settings(self.config, stack))
            stack.push_async_callback(self._database.close)
            self._indexer = self._open_indexer(stack)
            self._codes = CodeCache(self._database, on_size=self._metrics.code_bytes.set)
            stack.push_async_callback(_cancel, asyncio.create_task(self._codes.run()))
            self._engines = Engines(self._database, self._metrics)
            engine = await self._engines.first(self.config)
            try:
                self._serve(self.config, engine, await open_blob_store(blob_place(self.config)))
            except BaseException:
                await engine.release()
                raise
            stack.push_async_callback(self._end)
            stack.push_async_callback(_cancel, asyncio.create_task(self._sweeps.run()))
            stack.push_async_callback(_cancel, asyncio.create_task(self._model_watch.run()))
            _logger.info("ready")
            yield
        _logger.info("stopped")

    async def _end(self) -> None:
        self._stopping = True
        async with self._reloading:  # one that is under way notices
            await self._generations.aclose()

    async def _exchange(self, config: Config) -> bool:
        """Serve with another configuration; returns whether there are other models, too."""
        former = self._engine
        engine = await self._engines.following(config, former)
        try:
            blobs = await open_blob_store(blob_place(config))
            if self._stopping:
                raise StoppingError("The service is shutting down.")
            self._serve(config, engine, blobs)
        except BaseException:
            await engine.release()
            raise
        if engine is former:
            return False
        for labels in former.value.analyzer.placements - engine.value.analyzer.placements:
            self._metrics.model.labels(*labels).set(0)
        return True

    def _tidy_up(self) -> None:
        if not self._stopping:
            self._engines.free_closed()

    def _serve(self, config: Config, engine: Shared[Engine], blobs: BlobStore) -> None:
        """Make the services of one generation, and let requests have them from now on."""
        services = self._compose(config, engine.value, blobs)
        self._generations.replace(services, engine.release)
        self._indexer.settings = index_settings(config.match, config.vector_index)
        self._codes.max_bytes = code_memory_bytes(config)
        self.config, self._engine = config, engine
        turns, grace_s = DatabaseSweepTurns(self._database), config.blobs.orphan_grace_s
        self._sweeps.follow(
            SweepBlobs(blobs, turns, grace_s=grace_s), config.blobs.sweep_interval_s
        )
        self._boundary.max_body_bytes = config.server.max_body_bytes

    def _bounded(self, routes: Sequence[Route]) -> Boundary:
        return Boundary(
            Router(routes, redirect_slashes=False),
            lifespan=self._lifespan,
            metrics=self._metrics,
            max_body_bytes=self.config.server.max_body_bytes,
            tracing=self._tracing,
        )

    def _open_indexer(self, stack: AsyncExitStack) -> Indexer:
        """Look after the vector indexes for as long as the stack is open."""
        metrics = self._metrics
        indexer = Indexer(
            self._database,
            index_settings(self.config.match, self.config.vector_index),
            on_built=lambda built: metrics.index_builds.labels("ok" if built else "failed").inc(),
            on_taken=metrics.indexed_vectors.inc,
        )
        stack.push_async_callback(_cancel, asyncio.create_task(indexer.run()))
        return indexer

    def _compose(self, config: Config, engine: Engine, blobs: BlobStore) -> ApiServices:
        analyzer, metrics = engine.analyzer, self._metrics
        match, server = config.match, config.server
        repository = Repository(
            self._database,
            SearchSettings(),
            codes=self._codes,
            on_search=lambda path: metrics.searches.labels(path).inc(),
            on_insert=self._indexer.note_insert,
            on_delete=self._indexer.note_deletion,
            on_replaced=self._model_watch.look,
        )
        facts = analyzer.embedding
        space = engine.space
        return ApiServices(
            ingest=IngestPhoto(
                analyzer,
                repository,
                blobs if config.blobs.store_images else None,
                space=space,
                rule=rule_of(match, facts),
                min_quality=config.quality.min_for_matching,
                retry_s=config.database_pool.retry_s,
                orphan_grace_s=config.blobs.orphan_grace_s,
                on_face=lambda matched: metrics.faces.labels("matched" if matched else "new").inc(),
            ),
            recognize=Recognize(analyzer, space=space, dimension=facts.dimension),
            curate=Curate(repository, blobs, on_orphans=metrics.orphan_blobs.inc),
            guard=TokenGuard(config.auth.token),
            door=self._door(config),
            admission=self._admission(config, engine),
            metrics=metrics,
            upload_timeout_s=server.upload_timeout_s,
            request_timeout_s=server.request_timeout_ms / 1e3,
            ready=self._ready,
            exposition=self._exposition,
        )

    def _count_swept(self, swept: Swept) -> None:
        self._metrics.swept_blobs.inc(swept.removed)
        self._metrics.last_sweep.set(time())

    def _door(self, config: Config) -> Door:
        server = config.server
        # One process has room for the largest body, however many share the limit.
        most_bytes = min(server.max_bytes_in_flight, server.max_body_bytes)
        numbers = (
            share(server.max_requests_in_flight, config),
            max(share(server.max_bytes_in_flight, config), most_bytes),
            server.max_body_bytes,
        )
        requests, in_flight, body = numbers
        return self._doors.of(
            numbers,
            lambda: Door(
                max_requests=requests,
                max_bytes=in_flight,
                max_body_bytes=body,
                metrics=self._metrics,
            ),
        )

    def _admission(self, config: Config, engine: Engine) -> Admission:
        server, metrics = config.server, self._metrics
        limits = AdmissionLimits(
            max_wait_s=server.max_wait_ms / 1e3,
            standing_wait_s=server.standing_wait_ms / 1e3,
            bulk_wait_s=server.bulk_wait_ms / 1e3,
        )
        return self._admissions.of(
            (limits, engine),
            lambda: Admission(
                limits,
                workers=engine.made_of[0].workers,
                fair=engine.fair,
                on_refusal=lambda reason: metrics.refusals.labels(reason).inc(),
                on_backlog=metrics.backlog_seconds.set,
            ),
        )

    async def _ready(self) -> None:
        if self._stopping:
            raise StoppingError("The service is shutting down.")
        await self._ping()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
