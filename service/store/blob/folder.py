"""Image bytes in a folder: written durably, named by tenant and image.

A key may come from a row that somebody else wrote. So each is looked at before it becomes a path,
and no link is followed: what does not lie in a folder of a tenant's is neither read nor removed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from service.domain.errors import NotFoundError, StoreUnavailableError
from service.domain.types import ImageId, StoredBlob, TenantId
from service.store.blob.names import (
    OWNER_MARK,
    UNFINISHED,
    check_key,
    image_key,
    is_folder,
    is_ours,
    marked_owner,
    owner_mark,
)

_logger = logging.getLogger(__name__)

# Files looked at in one visit to a thread.
_LISTED_AT_ONCE = 1000
# How often a folder may vanish between its making and the first file in it.
_TRIES = 5


class FolderBlobStore:
    """Blobs as files below one folder: `<tenant's folder>/<image>.<format>`.

    A key that is no blob's names nothing: there is no such blob, and it is not removed. A tenant's
    folder that is a link is a folder that cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(root)

    def key(self, tenant_id: TenantId, image_id: ImageId, suffix: str) -> str:
        """Where the bytes of an image lie; the suffix is that of its format."""
        return image_key(tenant_id, image_id, suffix)

    async def put(self, key: str, data: bytes) -> str:
        """Write a blob so that it survives a crash once this returns its SHA-256 in hex.

        Raises:
            ValueError: the key is no blob's.
            StoreUnavailableError: the folder cannot be written, or the disk is full.
        """
        check_key(key)
        with _translated("written"):
            return await asyncio.to_thread(self._write, key, data)

    async def get(self, key: str) -> bytes:
        """Read a blob.

        Raises:
            NotFoundError: there is none.
            StoreUnavailableError: the folder cannot be read.
        """
        if not is_ours(key):
            raise NotFoundError("image")
        try:
            with _translated("read", FileNotFoundError):
                return await asyncio.to_thread(self._read, key)
        except FileNotFoundError:
            raise NotFoundError("image") from None

    async def delete(self, keys: Iterable[str]) -> list[str]:
        """Remove blobs; returns the keys that could not be removed (a missing one is gone)."""
        return await asyncio.to_thread(self._remove, list(keys))

    async def find(self, key: str) -> StoredBlob | None:
        """What is known of a blob; None where there is none.

        Raises:
            StoreUnavailableError: the folder cannot be read.
        """
        if not is_ours(key):
            return None
        try:
            with _translated("found", FileNotFoundError):
                facts = await asyncio.to_thread(self._facts, key)
        except FileNotFoundError:
            return None
        return StoredBlob(key, _time(facts.st_mtime), facts.st_size)

    async def listing(self, folder: str | None = None) -> AsyncIterator[StoredBlob]:
        """Every blob and every unfinished file, in no order; never a file of somebody else.

        Args:
            folder: a tenant's, for those of this tenant alone.

        Raises:
            StoreUnavailableError: the folder cannot be read.
        """
        files = self._files() if folder is None else self._files_of(folder)
        with _translated("listed"):
            while some := await asyncio.to_thread(lambda: list(islice(files, _LISTED_AT_ONCE))):
                for blob in some:
                    yield blob

    async def now(self) -> datetime:
        """The time by the clock that stamps the files: a file server has one of its own.

        Raises:
            StoreUnavailableError: the folder cannot be written.
        """
        with _translated("written"):
            return await asyncio.to_thread(self._stamp)

    async def owner(self) -> str | None:
        """The id of the database that the blobs belong to; None where no mark says it.

        Raises:
            StoreUnavailableError: the folder cannot be read.
        """
        try:
            with _translated("read", FileNotFoundError):
                mark = await asyncio.to_thread((self._root / OWNER_MARK).read_bytes)
        except FileNotFoundError:
            return None
        return marked_owner(mark)

    async def claim(self, database_id: str) -> None:
        """Mark the folder as a database's, unless there is a mark already.

        Raises:
            StoreUnavailableError: the folder cannot be written, or the disk is full.
        """
        with _translated("written"):
            await asyncio.to_thread(self._mark, owner_mark(database_id))

    def _mark(self, mark: bytes) -> None:
        try:
            with (self._root / OWNER_MARK).open("xb") as stream:
                stream.write(mark)
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            return
        _sync_folder(self._root)

    def _path(self, key: str) -> Path:
        """The path of a key that was checked.

        Raises:
            OSError: its folder is a link, or a file.
        """
        path = self._root / key
        if path.parent != self._root:
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(path.parent.lstat().st_mode):
                    raise OSError(errno.ENOTDIR, "a tenant's folder is a link or a file")
        return path

    def _facts(self, key: str) -> os.stat_result:
        """Of a blob; a link or a folder in its place is none."""
        facts = self._path(key).lstat()
        if not stat.S_ISREG(facts.st_mode):
            raise FileNotFoundError(errno.ENOENT, "what is there is no file")
        return facts

    def _read(self, key: str) -> bytes:
        self._facts(key)
        with os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            return stream.read()

    def _write(self, key: str, data: bytes) -> str:
        path = self._path(key)
        handle, temporary = self._unfinished(path.parent)
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

    def _unfinished(self, folder: Path) -> tuple[int, str]:
        """A new file in a folder, which is made if need be.

        The folder is missing for a tenant's first image, and again once its last one went: that
        may happen between making it and using it.
        """
        for _ in range(_TRIES):
            try:
                return tempfile.mkstemp(dir=folder, prefix=UNFINISHED)
            except FileNotFoundError:
                with suppress(FileExistsError):  # there, and gone before mkdir looked what it is
                    folder.mkdir(parents=True, exist_ok=True)
                _sync_folder(folder.parent)
        return tempfile.mkstemp(dir=folder, prefix=UNFINISHED)

    def _remove(self, keys: list[str]) -> list[str]:
        failed = []
        folders = set()
        for key in keys:
            try:
                check_key(key)
                path = self._path(key)
                path.unlink(missing_ok=True)
                folders.add(path.parent)
            except (OSError, ValueError) as error:
                _logger.error("blob %r not removed: %s", key, error)
                failed.append(key)
        for folder in folders - {self._root}:
            try:
                folder.rmdir()  # only an empty one goes
            except OSError:
                continue
        return failed

    def _files(self) -> Iterator[StoredBlob]:
        with os.scandir(self._root) as entries:
            for entry in entries:
                if is_folder(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield from self._files_of(entry.name)
                elif (blob := _blob(entry, entry.name)) is not None:
                    yield blob

    def _files_of(self, folder: str) -> Iterator[StoredBlob]:
        try:
            if not stat.S_ISDIR((self._root / folder).lstat().st_mode):
                return  # a link to somebody else's
            entries = os.scandir(self._root / folder)
        except FileNotFoundError:
            return  # it went with its last file
        with entries:
            for entry in entries:
                if (blob := _blob(entry, f"{folder}/{entry.name}")) is not None:
                    yield blob

    def _stamp(self) -> datetime:
        handle, temporary = self._unfinished(self._root)
        try:
            return _time(os.fstat(handle).st_mtime)
        finally:
            os.close(handle)
            Path(temporary).unlink(missing_ok=True)


def _blob(entry: os.DirEntry[str], key: str) -> StoredBlob | None:
    """The blob that a file is; None for somebody else's, and for one that has just gone."""
    if not is_ours(key):
        return None
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        facts = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return StoredBlob(key, _time(facts.st_mtime), facts.st_size)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _translated(done: str, *but: type[OSError]) -> Iterator[None]:
    try:
        yield
    except but:
        raise
    except OSError as error:
        _logger.error("blob not %s: %s", done, error)
        raise StoreUnavailableError(
            "The image store does not answer at the moment; try again shortly."
        ) from error


def _close(root: Path) -> None:
    """Keep other accounts out of a folder of photos that is this process's own."""
    facts = root.stat()
    if facts.st_uid == os.geteuid() and facts.st_mode & 0o077:
        root.chmod(0o700)
