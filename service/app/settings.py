"""The settings of each part, made of the configuration, the machine and the process count."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
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
from service.store.access.master import (
    MASTER_FILE,
    ConfiguredMasterSecret,
    MasterSecretFile,
    MasterSecretPlace,
    NoMasterSecret,
)
from service.store.blob.names import S3Settings
from service.store.database.database import ACQUIRE_TIMEOUT_S, DatabaseSettings
from service.store.embedded.server import EmbeddedAddress, embedded_server
from service.store.embedded.settings import EmbeddedSettings
from service.store.face.indexer import IndexSettings
from service.vision.cascade import CascadeSettings
from service.vision.formats.base import DecodeLimits

# One for requests, and one so that /readyz does not wait behind them.
_FEWEST_CONNECTIONS = 2
_MIB = 1 << 20
# Photos in work: with three a worker both cores of a machine were idle for a tenth of the time, and
# faces were embedded one by one; more than five gain nothing.
_PHOTOS_A_WORKER = 5
# A photo of 32 million pixels, and for each worker one of 12 million.
_DECODED_BYTES = 512 * _MIB
_DECODED_BYTES_PER_WORKER = 192 * _MIB
_CONNECT_TIMEOUT_S = 3.0  # to the bucket's endpoint


def analysis_settings(config: Config) -> AnalysisSettings:
    """The settings of the analyzer; automatic ones get their values from the machine."""
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
        decoding=decode_limits(config),
        max_photos=share(inference.max_photos_in_work, config)
        if inference.max_photos_in_work
        else _PHOTOS_A_WORKER * workers,
        max_decoded_bytes=share(inference.max_decoded_mb * _MIB, config)
        if inference.max_decoded_mb
        else _decoded_bytes(workers, config),
        screen=inference.screen == "auto",
        keep_location=config.images.keep_location,
        workers=workers,
    )


def _decoded_bytes(workers: int, config: Config) -> int:
    """The memory for the decoded photos of one process, where none is configured."""
    wanted = max(_DECODED_BYTES, workers * _DECODED_BYTES_PER_WORKER)
    return min(wanted, share(usable_memory_bytes() // 4, config))


def decode_limits(config: Config) -> DecodeLimits:
    """The limits of one photo."""
    images = config.images
    return DecodeLimits(images.max_pixels, images.max_decoded_pixels, images.max_jpeg_scans)


def rule_of(match: MatchConfig, facts: EmbeddingFacts) -> MatchRule:
    """The rule by which faces join clusters.

    Raises:
        ModelError: the manifest has no threshold for a configured rate.
    """
    return match_rule(
        facts,
        max_distance=match.max_distance,
        max_fmr=match.max_fmr,
        max_wrong_joins=match.max_wrong_joins,
    )


def first_model(config: Config) -> str:
    """The name of the model set of a new database."""
    if not config.detection.compatible:
        return config.inference.model
    if config.inference.model == DEFAULT_NAME:
        return COMPATIBLE_NAME
    return f"{config.inference.model}-{COMPATIBLE_NAME}"


def place_in_words(config: Config) -> str:
    """The database that a service starts with, for people to read."""
    if config.database is None:
        return f"the embedded PostgreSQL in {config.paths.data_dir}"
    return f"with the database at {config.database.host}, port {config.database.port}"


@dataclass(frozen=True, slots=True)
class EmbeddedPlace:
    """The embedded database of a data folder, and the limits of its clients.

    server: the size of the server. The limits are those of `DatabaseSettings`.
    """

    data_dir: Path
    server: EmbeddedSettings
    max_connections: int
    acquire_timeout_s: float
    statement_timeout_s: float

    def settings_at(self, address: EmbeddedAddress) -> DatabaseSettings:
        """The settings of a client of the server at this address."""
        return DatabaseSettings(
            address.socket_dir,
            address.port,
            address.dbname,
            address.user,
            "",
            self.max_connections,
            self.acquire_timeout_s,
            self.statement_timeout_s,
            embedded=True,
        )


DatabasePlace = DatabaseSettings | EmbeddedPlace
"""A database server, or the data folder of the embedded one."""


def database_place(config: Config) -> DatabasePlace:
    """The configured database server, or the embedded one where none is configured."""
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
    return EmbeddedPlace(config.paths.data_dir, embedded, *limits)


def database_at(place: DatabasePlace, stack: ExitStack | AsyncExitStack) -> DatabaseSettings:
    """The settings of a client; an embedded server runs for as long as the stack is open.

    Raises:
        ConfigError: the embedded server does not start.
    """
    if isinstance(place, DatabaseSettings):
        return place
    return place.settings_at(stack.enter_context(embedded_server(place.data_dir, place.server)))


def database_settings(config: Config, stack: AsyncExitStack) -> DatabaseSettings:
    """The settings of a client of the configured database, as `database_at` gives them."""
    return database_at(database_place(config), stack)


def master_secret_place(config: Config) -> MasterSecretPlace:
    """Where the master secret of access keys comes from: settings, a file, or nowhere."""
    auth = config.auth
    if auth.master_secret:
        return ConfiguredMasterSecret(auth.master_secret, auth.former_master_secret)
    if auth.master_secret_file:
        return MasterSecretFile(Path(auth.master_secret_file), may_create=False)
    if config.database is None:
        return MasterSecretFile(config.paths.data_dir / MASTER_FILE, may_create=True)
    return NoMasterSecret()


def session_settings(config: Config) -> SessionSettings:
    """The settings of model sessions, without a number of workers."""
    return SessionSettings(config.inference.provider, config.inference.precision)


def index_settings(match: MatchConfig, index: VectorIndexConfig) -> IndexSettings:
    """The settings of the indexer: which tenants get an HNSW index, and how it is built."""
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


BlobPlace = Path | S3Settings
"""The folder of the photos, or the bucket."""


def blob_place(config: Config) -> BlobPlace:
    """The configured folder or bucket of the photos."""
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
    """The part of a service-wide limit that one process gets; at least 1."""
    return max(1, total // config.server.processes)
