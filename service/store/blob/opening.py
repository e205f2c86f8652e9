"""The blob store that is configured: a folder, or a bucket of an S3-compatible store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from service.domain.errors import ConfigError
from service.store.blob.folder import FolderBlobStore
from service.usecases.ports import BlobStore


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach a bucket.

    url: s3://bucket or s3://bucket/prefix. endpoint: http(s)://host[:port]; empty for AWS.
    access_key_id, secret_access_key: empty for what the environment or the machine's role gives.
    """

    url: str
    endpoint: str
    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    allow_http: bool
    connect_timeout_s: float
    timeout_s: float


async def open_blob_store(where: Path | S3Settings) -> BlobStore:
    """The store in a folder, which is made if need be, or in a bucket, which must be there.

    Raises:
        ConfigError: it cannot be used; the message names the setting.
    """
    if isinstance(where, S3Settings):
        try:
            # A large library that a folder can do without, both on disk and in memory.
            from service.store.blob.s3 import S3BlobStore
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("obstore"):
                raise
            raise ConfigError("blobs.url needs the extra s3: pip install 'facette[s3]'") from error
        return await S3BlobStore.open(where)
    try:
        return await asyncio.to_thread(FolderBlobStore, where)
    except OSError as error:
        raise ConfigError(f"paths.upload_dir: {where} cannot be used: {error.strerror}") from error
