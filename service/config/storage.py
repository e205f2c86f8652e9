"""Settings of what is stored, and of how stored faces are found."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from service.config.section import Section


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
    connect_timeout_s: float = Field(
        3.0, gt=0, le=600, description="seconds that connecting to the endpoint may take"
    )
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

    host: str = Field("localhost", description="host name, or the folder of a unix socket")
    port: int = Field(5432, ge=1, le=65535, description="TCP port")
    dbname: str = Field("facette", description="database; it needs the pgvector extension")
    user: str = Field("facette", description="login; it owns the tables")
    password: str = Field("", description="the login's password")


class DatabasePoolConfig(Section):
    """Connections to the database, embedded or not."""

    max_connections: int = Field(8, ge=1, le=1000, description="most connections held at once")
    acquire_timeout_s: float = Field(
        10.0, gt=0, description="seconds to wait for a free connection before answering 503"
    )
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
    max_wal_size_mb: int = Field(
        4096,
        ge=64,
        le=1_048_576,
        description="MB of its log between two checkpoints: more of it makes writing cheaper, and "
        "takes disk and time to recover after a crash",
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
    hnsw_ef_search: int = Field(
        200,
        ge=1,
        le=1000,
        description="candidates the HNSW index keeps while searching; twice as many as long as the "
        "binary codes of the faces are not in memory",
    )


class VectorIndexConfig(Section):
    """How the HNSW indexes of large tenants are built, in the background."""

    hnsw_m: int = Field(16, ge=2, le=100, description="neighbours of a vector in the graph")
    hnsw_ef_construction: int = Field(
        64, ge=4, le=1000, description="candidates for these neighbours; at least 2 x hnsw_m"
    )
    max_waiting_faces: int = Field(
        1000,
        ge=1,
        description="new faces of an indexed tenant are compared exactly, and taken into the index "
        "when there are so many",
    )
    build_memory_mb: int = Field(
        2048, ge=1, description="memory of PostgreSQL for one build, at most"
    )
    build_workers: int = Field(
        1, ge=0, le=64, description="processes of PostgreSQL that help with one build"
    )
    check_interval_s: float = Field(
        600, gt=0, description="how often the tenants' sizes and the indexes are looked at"
    )

    @model_validator(mode="after")
    def _looks_far_enough(self) -> Self:
        if self.hnsw_ef_construction < 2 * self.hnsw_m:
            raise ValueError("hnsw_ef_construction must be at least 2 x hnsw_m")
        return self
