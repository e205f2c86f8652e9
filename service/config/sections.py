"""Every setting, with its default, unit and meaning."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Section(BaseModel):
    """Part of the configuration: frozen, and closed to unknown keys.

    A text loses the white space around it, which comes from files and secret stores and which no
    host, URL, key or token can have. The fields of `_keep_blanks` lose line breaks alone: blanks
    are legal at the ends of a path, and of a name or password in PostgreSQL.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    _keep_blanks: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="before")
    @classmethod
    def _trimmed(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        text = value.strip("\r\n") if info.field_name in cls._keep_blanks else value.strip()
        if _CONTROL.search(text):
            raise ValueError("must not have control characters, such as line breaks")
        return text


def _bucket_url(value: str) -> str:
    if value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+[a-z0-9](/[^/?#\s]+)*/?", value):
        raise ValueError("must be s3://bucket or s3://bucket/prefix, or empty")
    return value


class BlobsConfig(Section):
    """Where the bytes of photos go, and what becomes of those that no row names."""

    store_images: bool = Field(
        True,
        description="keep the bytes of photos; false = keep none, only faces, vectors and a hash",
    )
    url: Annotated[str, AfterValidator(_bucket_url)] = Field(
        "",
        description="s3://bucket or s3://bucket/prefix, of one service alone; needs the extra s3. "
        "Empty = the folder paths.upload_dir",
    )
    endpoint: str = Field(
        "", description="address of an S3-compatible store, like https://host:port; empty = AWS"
    )
    region: str = Field(
        "", description="the bucket's region; empty = AWS_REGION of the environment, or us-east-1"
    )
    access_key_id: str = Field(
        "",
        description="name of the key; empty = what the AWS_ variables of the environment or the "
        "machine's role give",
    )
    secret_access_key: str = Field(
        "", repr=False, description="the key's secret; never shown or logged"
    )
    allow_http: bool = Field(False, description="allow an endpoint that begins with http://")
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="seconds that one request to the endpoint may take"
    )
    sweep_interval_s: float = Field(
        3600.0,
        ge=0,
        description="seconds between sweeps, the first at start, which remove files that no row "
        "names: what a crash or a failed deletion left. 0 = never",
    )
    orphan_grace_s: float = Field(
        900.0,
        ge=1,
        description="seconds for which a file that no row names is left alone; the same for every "
        "service on the database, and longer than a write of the blob store takes",
    )


class DatabaseConfig(Section):
    """The PostgreSQL server. Leave the whole section out to use the embedded one."""

    _keep_blanks = frozenset({"dbname", "user", "password"})

    host: str = Field(
        "localhost", min_length=1, description="host name, or the folder of a unix socket"
    )
    port: int = Field(5432, ge=1, le=65535, description="TCP port")
    dbname: str = Field("facette", description="database; it needs the pgvector extension")
    user: str = Field("facette", description="login; it owns the tables")
    password: str = Field("", description="the login's password")


class DatabasePoolConfig(Section):
    """Connections to the database, embedded or not."""

    max_connections: int = Field(8, ge=1, le=1000, description="most connections held at once")
    statement_timeout_s: float = Field(30.0, gt=0, description="longest one statement may run")
    retry_s: float = Field(
        10.0,
        ge=0,
        le=600,
        description="seconds that storing an analysed photo is tried again while the database does "
        "not answer, within the request's deadline; 0 = answer 503 at once",
    )


class EmbeddedDatabaseConfig(Section):
    """The embedded PostgreSQL, where no [database] is configured."""

    shared_buffers_mb: int = Field(
        0,
        ge=0,
        le=1_048_576,
        description="its cache, in MB; 0 = a quarter of the memory that the service may use, at "
        "least 128, at most 2048",
    )


class MatchConfig(Section):
    """When two faces are one person."""

    max_distance: float = Field(
        0.0,
        ge=0,
        le=2,
        description="largest distance at which a face joins a cluster, in tenants of all sizes; 0 "
        "= by the two rates below. For two faces it is their cosine distance, moved a little where "
        "faces look like many people's",
    )
    max_fmr: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="in the place of max_distance: the largest share of strangers' pairs within "
        "it, by the curve of the model's manifest; 0 = what the manifest recommends",
    )
    max_wrong_joins: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="largest chance that a stranger is within the limit of somebody in the tenant: "
        "the limit falls as people come; 0 = what the manifest recommends, or with max_fmr given a "
        "limit that stays",
    )
    exact_search_max_faces: int = Field(
        5_000,
        ge=0,
        description="tenants with at most so many faces are searched exactly, larger ones through "
        "an HNSW index of their own",
    )
    rejoin: Literal["ask", "auto"] = Field(
        "ask",
        description="ask: two people who may be one are a question, always. auto: those far within "
        "the limit are joined, where no person said anything that speaks against it; each joining "
        "is in the history, and can be undone",
    )
    ask_interval_s: float = Field(
        60,
        ge=0,
        description="how often questions are looked for, about people who changed meanwhile; 0 = "
        "never, so that only inserts ask",
    )


class VectorIndexConfig(Section):
    """How the HNSW indexes of large tenants are built, in the background."""

    build_memory_mb: int = Field(
        2048, ge=1, description="memory of PostgreSQL for one build, at most"
    )
    check_interval_s: float = Field(
        600, gt=0, description="how often the tenants' sizes and the indexes are looked at"
    )
    max_memory_mb: int = Field(
        0,
        ge=0,
        le=1_048_576,
        description="memory, in MB, that the binary codes of large tenants may take, over all "
        "processes; those asked for least recently are dropped first, and their tenants searched "
        "through their indexes. 0 = a tenth of the memory that the service may use",
    )


def _words(value: object) -> object:
    """Let the environment give a list as words separated by commas."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",")] if value.strip() else []


def _origin(value: str) -> str:
    if value != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#,*A-Z]+", value):
        raise ValueError("must be like https://app.example.com, in lower case, without a path")
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError("must be an address or a network, like 10.0.0.0/8") from None


class ServerConfig(Section):
    """Where the service listens, and how much it takes on."""

    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; 0.0.0.0 = all addresses"
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on")
    operations_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="TCP port that answers /healthz, /readyz and /metrics, and nothing else, in "
        "the place of the other one; 0 = they are answered there",
    )
    operations_host: str = Field(
        "", description="address of server.operations_port; empty = that of server.host"
    )
    max_connections: int = Field(
        1024,
        ge=16,
        description="connections open at once; beyond it a new one takes the place of the one "
        "that has been silent longest, or is refused with 429. File descriptors may allow fewer: "
        "a quarter of them and 128 are kept for files and the database",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        description="the same for one address, or one /64 network of IPv6; 0 = three quarters of "
        "them. Behind a proxy all of them are of one address",
    )
    head_timeout_s: float = Field(
        10.0,
        gt=0,
        description="seconds that a request's head may take to arrive, the first one of a "
        "connection from its opening on",
    )
    keep_alive_s: int = Field(
        95,
        ge=1,
        description="seconds that a connection is kept for another request; longer than callers "
        "and proxies keep it (60 to 90 s are usual), so that no request meets a closing one",
    )
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_words)
    ] = Field(
        (),
        description="origins of web pages whose scripts may call the service from a browser, like "
        "https://app.example.com; * = every page. Empty = none. A script holds the token, and "
        "whoever opens the page can read it there",
    )
    trusted_proxies: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_words)
    ] = Field(
        (),
        description="addresses or networks of proxies, like 10.0.0.0/8, whose X-Forwarded-For "
        "names the client: limits per address then count clients, except "
        "server.max_connections_per_address. Empty = no proxy is believed",
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        description="largest request body, in bytes; of a photo as base64 the text counts. A body "
        "without a photo may have 1 MiB",
    )
    max_requests_in_flight: int = Field(
        256,
        ge=1,
        description="requests worked on or waiting at once; beyond it a request is refused "
        "with 429 before its body is read. One tenant gets at most three quarters of them, one "
        "address seven eighths",
    )
    max_bytes_in_flight: int = Field(
        768 * 1024 * 1024,
        ge=1024,
        description="bytes of request bodies that have arrived and are held at once, at least "
        "server.max_body_bytes; beyond it a request is refused with 429. One tenant gets at most "
        "three quarters of them, one address seven eighths. Of each body at most 1 MiB is in "
        "memory, and a larger one in a file in the temporary folder (TMPDIR)",
    )
    max_wait_ms: float = Field(
        5000.0,
        gt=0,
        description="milliseconds of predicted waiting that a burst of photos may build up; beyond "
        "it a photo is refused with 429",
    )
    standing_wait_ms: float = Field(
        500.0,
        gt=0,
        description="the same once waiting has not fallen below this for half a second: under "
        "lasting overload photos are refused early instead of all being late. Sixteen photos for "
        "each worker are always taken",
    )
    bulk_wait_ms: float = Field(
        60_000.0, gt=0, description="the same for requests with 'X-Priority: bulk', at any time"
    )
    request_timeout_ms: int = Field(
        60_000,
        ge=1,
        description="milliseconds from a request's head to its answer, unless it says another "
        "number in X-Request-Timeout-Ms; what cannot be done in time is answered with 504",
    )
    upload_timeout_s: float = Field(
        60.0,
        gt=0,
        description="seconds that a request's body may take to arrive; after 10 s one that arrives "
        "at less than 1 KiB/s on average is given up",
    )
    processes: int = Field(
        1,
        ge=1,
        le=256,
        description="service processes on the port, each with its own models; workers and limits "
        "are divided among them",
    )
    shutdown_delay_s: float = Field(
        0.0,
        ge=0,
        description="seconds between SIGTERM and closing the port, while /readyz answers 503, for "
        "a load balancer to notice",
    )
    shutdown_timeout_s: int = Field(
        30, ge=1, description="seconds that requests in flight get to finish on shutdown"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least serious log line written: debug, info, warning or error"
    )
    log_json: bool = Field(False, description="write log lines as JSON objects")


def _header_value(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("must have printable ASCII characters only, since HTTP headers carry it")
    return value


_LEAST_MASTER_SECRET = 32


def _master_secret(value: str) -> str:
    if value and len(value) < _LEAST_MASTER_SECRET:
        raise ValueError(f"must have at least {_LEAST_MASTER_SECRET} characters, or none")
    return value


class AuthConfig(Section):
    """Who may call."""

    _keep_blanks = frozenset({"master_secret_file"})

    token: Annotated[str, AfterValidator(_header_value)] = Field(
        min_length=8,
        description="the secret that every caller sends, as 'Authorization: Bearer <token>' or in "
        "a 'token' header; at least 8 printable ASCII characters",
    )
    master_secret: Annotated[str, AfterValidator(_master_secret)] = Field(
        "",
        repr=False,
        description="the secret from which those of access keys are derived, at least 32 random "
        "characters, the same for every service on the database. Empty = the embedded database has "
        "one in a file beside it, and with [database] there are no keys",
    )
    former_master_secret: Annotated[str, AfterValidator(_master_secret)] = Field(
        "",
        repr=False,
        description="the master secret before auth.master_secret: keys that were made with it stay "
        "valid for as long as it is set",
    )
    master_secret_file: str = Field(
        "",
        description="where auth.master_secret is empty: an existing file of the form that the "
        "embedded database's has, which `facette keys rotate-master` replaces. Empty = none",
    )

    @model_validator(mode="after")
    def _former_after_current(self) -> AuthConfig:
        if self.former_master_secret and not self.master_secret:
            raise ValueError("former_master_secret needs master_secret")
        return self


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("must not be empty")
    return value


_Folder = Annotated[Path, BeforeValidator(_not_empty)]


class PathsConfig(Section):
    """Where things lie; relative paths start at the configuration file's folder."""

    _keep_blanks = frozenset({"data_dir", "upload_dir", "models_dir"})

    data_dir: _Folder = Field(Path("data"), description="folder of the embedded database")
    upload_dir: _Folder = Field(
        Path("data/uploads"), description="folder of the stored image files"
    )
    models_dir: _Folder = Field(Path("models"), description="folder of the exported models")


AUDIT_WORDS = ("log", "off")
"""Values of audit.destination that are no path."""


class TenantsConfig(Section):
    """How tenants come into being."""

    create_on_first_photo: bool = Field(
        True,
        description="a photo for a tenant that does not exist makes it; false = it is answered "
        "with 404, and tenants are made by POST /v1/tenants alone",
    )


class HistoryConfig(Section):
    """How long the history of a tenant is kept."""

    days: int = Field(
        90,
        ge=0,
        le=36_500,
        description="for how many days changes are kept: an older one is not listed, cannot be "
        "undone, and is no event any more. Decisions that hold stay. 0 = for ever",
    )


class AuditConfig(Section):
    """The record of every write, and of every picture that was read."""

    _keep_blanks = frozenset({"destination"})

    destination: str = Field(
        "log",
        min_length=1,
        description="where its lines go: log = to the service's log, off = nowhere, else the path "
        "of a file, which only its owner can read. Each line has time, request id, key id, tenant, "
        "action and ids, and never a name or a picture",
    )


class DetectionConfig(Section):
    """What counts as a face. The cascade's defaults are facenet-pytorch's."""

    min_face_size: int = Field(
        20, ge=12, le=4096, description="smallest face looked for, in pixels of the photo"
    )
    thresholds: Annotated[
        tuple[
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
        ],
        BeforeValidator(_words),
    ] = Field((0.6, 0.7, 0.7), description="smallest face probability after P-Net, R-Net and O-Net")
    max_side: int = Field(
        2048,
        ge=0,
        description="photos with a longer side, in pixels, are not searched for their smallest "
        "faces: the smallest found grows with the photo, by up to 1.41 times their ratio; 0 = no "
        "limit, as in facenet-pytorch",
    )
    min_confidence: float = Field(
        0.90, ge=0, le=1, description="smallest final probability of what is stored as a face"
    )
    max_detections: int = Field(
        256, ge=1, description="most faces taken from one photo, the most probable ones"
    )
    compatible: bool = Field(
        False,
        description="find the very faces that facenet-pytorch finds: no second look for faces at "
        "the photo's edge, no photo is turned; and a new database begins with facenet-pytorch's "
        "vectors, for which a face at the edge is stretched",
    )


class ImagesConfig(Section):
    """What is accepted as an image."""

    max_pixels: int = Field(
        256_000_000, ge=1, description="largest width x height, checked before decoding"
    )
    max_decoded_pixels: int = Field(
        32_000_000,
        ge=1,
        description="largest width x height that is decoded, which takes 16 bytes of memory a "
        "pixel. A JPEG, HEIC or AVIF with more is decoded at a half, a quarter or an eighth of its "
        "size; a file of another format is refused",
    )
    max_jpeg_scans: int = Field(
        100,
        ge=1,
        description="most scans of a JPEG: a progressive one usually has ten, and each passes all "
        "of its pixels",
    )
    keep_location: bool = Field(
        False,
        description="keep where a photo was taken, by its EXIF data, and show it with the image",
    )


class QualityConfig(Section):
    """Which faces others are matched against."""

    min_for_matching: float = Field(
        0.4,
        ge=0,
        le=1,
        description="smallest quality, 0 to 1, of a face that others are matched against; a face "
        "below it is stored and shown, and may join a cluster, but nobody joins it",
    )


class InferenceConfig(Section):
    """How the models run."""

    model: str = Field(
        "default",
        min_length=1,
        description="models that a new database begins with: default for those in "
        "paths.models_dir, or the name of a folder in it. A database keeps the model that it has "
        "until `facette reembed`",
    )
    precision: Literal["auto", "fp32", "int8", "fp16"] = Field(
        "auto",
        description="of the embedder: fp32, int8 or fp16; auto measures at start which of those "
        "that suit the processor is fastest. Vectors of all precisions can be compared",
    )
    provider: Literal["auto", "cpu", "cuda", "openvino"] = Field(
        "auto",
        description="cpu, cuda or openvino; auto takes CUDA where it works, else what is measured "
        "to be fastest at start. openvino leaves P-Net to the cpu",
    )
    screen: Literal["auto", "off"] = Field(
        "auto",
        description="auto lets 8-bit copies of P-Net and R-Net choose what these networks "
        "themselves judge, where the processor has AVX512-VNNI: the same faces in less time; off "
        "lets them judge everything",
    )
    workers: int = Field(
        0, ge=0, le=1024, description="threads that decode and run models; 0 = the usable cores"
    )
    max_photos_in_work: int = Field(
        0,
        ge=0,
        description="photos in work at once, so that those begun are soon done; 0 = five for each "
        "worker. One tenant gets all but one of them",
    )
    max_decoded_mb: int = Field(
        0,
        ge=0,
        le=1_048_576,
        description="memory, in MB, that the photos in work may take decoded, all together; 0 = "
        "192 for each worker, at least 512, at most a quarter of the memory that the service may "
        "use. One tenant gets three quarters of it. A photo that needs more than all of it is in "
        "work alone",
    )


class TracingConfig(Section):
    """OpenTelemetry traces; they need the extra facette[tracing]."""

    endpoint: str = Field(
        "",
        description="where spans go by OTLP over HTTP, e.g. http://localhost:4318/v1/traces; empty "
        "= no tracing",
    )
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="share of the traces begun here that is kept"
    )


class Config(Section):
    """The whole configuration; `database` is None for the embedded server."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig
    audit: AuditConfig = AuditConfig()
    tenants: TenantsConfig = TenantsConfig()
    history: HistoryConfig = HistoryConfig()
    paths: PathsConfig = PathsConfig()
    blobs: BlobsConfig = BlobsConfig()
    database: DatabaseConfig | None = None
    database_pool: DatabasePoolConfig = DatabasePoolConfig()
    embedded_database: EmbeddedDatabaseConfig = EmbeddedDatabaseConfig()
    detection: DetectionConfig = DetectionConfig()
    images: ImagesConfig = ImagesConfig()
    match: MatchConfig = MatchConfig()
    quality: QualityConfig = QualityConfig()
    vector_index: VectorIndexConfig = VectorIndexConfig()
    inference: InferenceConfig = InferenceConfig()
    tracing: TracingConfig = TracingConfig()


SECTIONS: dict[str, type[Section]] = {
    "server": ServerConfig,
    "auth": AuthConfig,
    "audit": AuditConfig,
    "tenants": TenantsConfig,
    "history": HistoryConfig,
    "paths": PathsConfig,
    "blobs": BlobsConfig,
    "database": DatabaseConfig,
    "database_pool": DatabasePoolConfig,
    "embedded_database": EmbeddedDatabaseConfig,
    "detection": DetectionConfig,
    "images": ImagesConfig,
    "match": MatchConfig,
    "quality": QualityConfig,
    "vector_index": VectorIndexConfig,
    "inference": InferenceConfig,
    "tracing": TracingConfig,
}
