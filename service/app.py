"""The one composition root: configuration in, ASGI application out."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.routing import Router

from service.analysis.analyzer import AnalysisSettings, Analyzer
from service.analysis.stages import StageSettings
from service.api.auth import TokenGuard
from service.api.boundary import Boundary, PermitOffice
from service.api.routes import ApiServices, build_routes
from service.config import Config
from service.domain.types import ModelSpace
from service.runtime.cpu import usable_cores
from service.runtime.sessions import SessionSettings
from service.store.blobs import FolderBlobStore
from service.store.database import Database, DatabaseSettings
from service.store.embedded import embedded_server
from service.store.repository import Repository
from service.store.writes import SearchSettings
from service.telemetry import Metrics
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from service.vision.cascade import CascadeSettings

_logger = logging.getLogger(__name__)


def create_app(config: Config) -> Boundary:
    """The ASGI application of one configuration; everything it needs starts with its lifespan."""
    metrics = Metrics()
    running: list[ApiServices] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            running.append(await _start(config, metrics, stack))
            _logger.info("ready")
            try:
                yield
            finally:
                running.clear()
        _logger.info("stopped")

    return Boundary(
        Router(build_routes(lambda: running[0]), redirect_slashes=False),
        lifespan=lifespan,
        metrics=metrics,
        max_body_bytes=config.server.max_body_bytes,
    )


async def _start(config: Config, metrics: Metrics, stack: AsyncExitStack) -> ApiServices:
    """Bring everything up in order; the stack takes it down in reverse."""
    analyzer = Analyzer(config.paths.models_dir, analysis_settings(config), metrics)
    stack.push_async_callback(analyzer.aclose)
    await analyzer.warm_up()
    database = await Database.open(database_settings(config, stack))
    stack.push_async_callback(database.close)
    match = config.match
    repository = Repository(
        database, SearchSettings(match.exact_search_max_faces, match.hnsw_ef_search)
    )
    blobs = FolderBlobStore(config.paths.upload_dir)
    ingest = IngestPhoto(
        analyzer,
        repository,
        blobs,
        space=ModelSpace(analyzer.embedding.space),
        max_distance=match.max_distance or analyzer.embedding.recommended_max_distance,
        on_face=lambda matched: metrics.faces.labels("matched" if matched else "new").inc(),
    )
    return ApiServices(
        ingest=ingest,
        curate=Curate(repository, blobs, on_orphans=metrics.orphan_blobs.inc),
        guard=TokenGuard(config.auth.token),
        permits=PermitOffice(config.server.max_requests_in_flight, metrics),
        metrics=metrics,
        upload_timeout_s=config.server.upload_timeout_s,
        ready=database.ping,
    )


def analysis_settings(config: Config) -> AnalysisSettings:
    """The analyzer's settings, with what is left to the machine filled in."""
    detection, inference = config.detection, config.inference
    workers = inference.workers or max(1, usable_cores() // inference.intra_op_threads)
    return AnalysisSettings(
        cascade=CascadeSettings(
            detection.min_face_size,
            detection.thresholds,
            detection.factor,
            detection.max_side,
            detection.max_candidates,
        ),
        sessions=SessionSettings(
            inference.provider, inference.precision, workers, inference.intra_op_threads
        ),
        min_confidence=detection.min_confidence,
        max_detections=detection.max_detections,
        max_pixels=config.images.max_pixels,
        max_photos=inference.max_photos_in_work or 3 * workers,
        screen=inference.screen == "auto",
        workers=workers,
        stages={
            name: StageSettings(
                stage.max_batch_size, stage.max_queue_delay_ms / 1e3, stage.max_queue_size
            )
            for name, stage in (
                ("rnet", config.stage_rnet),
                ("onet", config.stage_onet),
                ("facenet", config.stage_facenet),
            )
        },
        latency_objective_s=inference.latency_objective_ms / 1e3,
    )


def database_settings(config: Config, stack: AsyncExitStack) -> DatabaseSettings:
    """Where the database is; without a configured one the embedded server runs with the stack."""
    pool = config.database_pool
    limits = (pool.max_connections, pool.acquire_timeout_s, pool.statement_timeout_s)
    if config.database is not None:
        server = config.database
        return DatabaseSettings(
            server.host, server.port, server.dbname, server.user, server.password, *limits
        )
    address = stack.enter_context(embedded_server(config.paths.data_dir))
    return DatabaseSettings(
        address.socket_dir, address.port, address.dbname, address.user, "", *limits
    )
