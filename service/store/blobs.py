"""Image bytes in a folder: written durably, named by tenant and image."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from service.domain.errors import StoreUnavailableError
from service.domain.types import ImageId, TenantId

_logger = logging.getLogger(__name__)

_UNFINISHED = ".part-"


class FolderBlobStore:
    """Blobs as files below one folder: `<tenant>/<image>.<format>`.

    A tenant's folder is named by a hash, since a tenant's id may hold any character.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def key(self, tenant_id: TenantId, image_id: ImageId, suffix: str) -> str:
        """Where the bytes of an image lie; the suffix is that of its format."""
        folder = hashlib.sha256(tenant_id.encode()).hexdigest()[:32]
        return f"{folder}/{image_id}.{suffix}"

    async def put(self, key: str, data: bytes) -> str:
        """Write a blob so that it survives a crash once this returns its SHA-256 in hex.

        Raises:
            StoreUnavailableError: the folder cannot be written, or the disk is full.
        """
        try:
            return await asyncio.to_thread(self._write, self._root / key, data)
        except OSError as error:
            _logger.error("blob not written: %s", error)
            raise StoreUnavailableError(
                "The image cannot be stored at the moment; try again shortly."
            ) from error

    async def delete(self, keys: Iterable[str]) -> list[str]:
        """Remove blobs; returns the keys that could not be removed (a missing one is gone)."""
        return await asyncio.to_thread(self._remove, list(keys))

    def _write(self, path: Path, data: bytes) -> str:
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
        except FileNotFoundError:  # the tenant's first image, or its first after the last went
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(path.parent.parent)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
        return hashlib.sha256(data).hexdigest()

    def _remove(self, keys: list[str]) -> list[str]:
        failed = []
        folders = set()
        for key in keys:
            path = self._root / key
            try:
                path.unlink(missing_ok=True)
                folders.add(path.parent)
            except OSError as error:
                _logger.error("blob %s not removed: %s", key, error)
                failed.append(key)
        for folder in folders:
            try:
                folder.rmdir()  # only an empty one goes
            except OSError:
                continue
        return failed


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
