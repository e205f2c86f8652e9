"""Settings of the parts, derived from the configuration, the machine and the other processes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from service.analysis.analyzer import AnalysisSettings
from service.config import Config, MatchConfig, VectorIndexConfig
from service.domain.matching import MatchRule
from service.machine.cpu import usable_cores
from service.machine.memory import usable_memory_bytes
from service.runtime.catalogue import COMPATIBLE_NAME, DEFAULT_NAME
from service.runtime.manifest import EmbeddingFacts
from service.runtime.matching import match_rule
from service.runtime.sessions import SessionSettings
from service.store.blob.names import S3Settings
from service.store.database.database import ACQUIRE_TIMEOUT_S, DatabaseSettings
from service.store.embedded.server import embedded_server
from service.store.embedded.settings import EmbeddedSettings
from service.store.face.indexer import IndexSettings
from service.vision.cascade import CascadeSettings

# A request needs one connection, and /readyz must not wait for it.
_FEWEST_CONNECTIONS = 2
_MIB = 1 << 20
_CONNECT_TIMEOUT_S = 3.0  # to the bucket's endpoint


def analysis_settings(config: Config) -> AnalysisSettings:
    """The analyzer's settings, with what is left to the machine filled in."""
    detection, inference = config.detection, config.inference
    workers = share(inference.workers or usable_cores(), config)
    return AnalysisSettings(
        cascade=CascadeSettings(
            detection.min_face_size, detection.thresholds, max_side=detection.max_side
        ),
        sessions=SessionSettings(inference.provider, inference.precision, workers),
        min_confidence=detection.min_confidence,
        compatible=detection.compatible,
        max_detections=detection.max_detections,
        max_pixels=config.images.max_pixels,
        max_photos=share(inference.max_photos_in_work, config)
        if inference.max_photos_in_work
        else 3 * workers,
        max_decoded_bytes=share(
            inference.max_decoded_mb * _MIB or usable_memory_bytes() // 4, config
        ),
        screen=inference.screen == "auto",
        workers=workers,
    )


def rule_of(match: MatchConfig, facts: EmbeddingFacts) -> MatchRule:
    """By which rule faces join clusters.

    Raises:
        ModelError: a rate is asked for that the manifest does not know.
    """
    return match_rule(
        facts,
        max_distance=match.max_distance,
        max_fmr=match.max_fmr,
        max_wrong_joins=match.max_wrong_joins,
    )


def first_model(config: Config) -> str:
    """The name of the model set that a new database begins with."""
    if not config.detection.compatible:
        return config.inference.model
    if config.inference.model == DEFAULT_NAME:
        return COMPATIBLE_NAME
    return f"{config.inference.model}-{COMPATIBLE_NAME}"


def database_settings(config: Config, stack: AsyncExitStack) -> DatabaseSettings:
    """Where the database is; without a configured one the embedded server runs with the stack."""
    pool = config.database_pool
    connections = min(
        pool.max_connections, max(_FEWEST_CONNECTIONS, share(pool.max_connections, config))
    )
    limits = (connections, ACQUIRE_TIMEOUT_S, pool.statement_timeout_s)
    if config.database is not None:
        server = config.database
        return DatabaseSettings(
            server.host, server.port, server.dbname, server.user, server.password, *limits
        )
    embedded = EmbeddedSettings(
        config.embedded_database.shared_buffers_mb,
        connections=(connections + 1) * config.server.processes,  # and one each that listens
    )
    address = stack.enter_context(embedded_server(config.paths.data_dir, embedded))
    return DatabaseSettings(
        address.socket_dir, address.port, address.dbname, address.user, "", *limits
    )


def index_settings(match: MatchConfig, index: VectorIndexConfig) -> IndexSettings:
    """When a tenant has an HNSW index, and how it is built."""
    return IndexSettings(
        exact_max_faces=match.exact_search_max_faces,
        max_waiting=1000,
        m=16,
        ef_construction=64,
        build_memory_mb=index.build_memory_mb,
        build_workers=1,
        interval_s=index.check_interval_s,
    )


def code_memory_bytes(config: Config) -> int:
    """Memory that the binary codes may take in this process."""
    return share(config.vector_index.max_memory_mb * _MIB or usable_memory_bytes() // 10, config)


def blob_place(config: Config) -> Path | S3Settings:
    """The folder that the bytes of photos go into, or how to reach their bucket."""
    blobs = config.blobs
    if not blobs.url:
        return config.paths.upload_dir
    return S3Settings(
        blobs.url,
        blobs.endpoint,
        blobs.region,
        blobs.access_key_id,
        blobs.secret_access_key,
        blobs.allow_http,
        _CONNECT_TIMEOUT_S,
        blobs.timeout_s,
    )


def share(total: int, config: Config) -> int:
    """What one of the service's processes gets of a number that is meant for all of them."""
    return max(1, total // config.server.processes)
