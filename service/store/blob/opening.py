"""The blob store that is configured: a folder, or a bucket of an S3-compatible store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.domain.errors import ConfigError
from service.store.blob.folder import FolderBlobStore
from service.store.blob.names import S3Settings
from service.usecases.ports import BlobStore


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
