"""The choice of the blob store: a folder, or a bucket of an S3-compatible store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.domain.errors import ConfigError
from service.store.blob.folder import FolderBlobStore
from service.store.blob.names import S3Settings
from service.usecases.ports import BlobStore


async def open_blob_store(where: Path | S3Settings) -> BlobStore:
    """The store in a folder, which is created if it is missing, or in an existing bucket.

    Raises:
        ConfigError: the store cannot be used; the message names the setting.
    """
    if isinstance(where, S3Settings):
        try:
            # Imported on demand: obstore is large, and optional.
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
