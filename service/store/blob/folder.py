"""The blob store in a folder: durable files, named by tenant and image.

Keys come from rows, which may be damaged or forged. So each key is checked before it becomes a
path, and symbolic links are not followed. Files outside the folders of tenants are neither read nor
removed.
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
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

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
    thumbnail_key,
    with_thumbnails,
)

_logger = logging.getLogger(__name__)

# Bytes that are read in one call to a thread.
_PIECE_BYTES = 1 << 20
# Files that are listed in one call to a thread.
_LISTED_AT_ONCE = 1000
# Attempts to create a file in a folder that a deletion may remove again.
_TRIES = 5


class FolderBlobStore:
    """Blobs as files below one folder, with the names of service/store/blob/names.py.

    An invalid key is a missing blob for reads, and cannot be removed. A symbolic link in place of a
    tenant's folder is an error.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close(root)

    def key(self, tenant_id: TenantId, image_id: ImageId, suffix: str) -> str:
        """The key of an image; `suffix` is that of its format."""
        return image_key(tenant_id, image_id, suffix)

    def thumbnail_key(self, tenant_id: TenantId, image_id: ImageId, size: int) -> str:
        """The key of a thumbnail; `size` is one of `THUMBNAIL_SIZES`."""
        return thumbnail_key(tenant_id, image_id, size)

    async def put(self, key: str, data: bytes) -> str:
        """Write a blob durably; returns its SHA-256 in hex.

        Raises:
            ValueError: the key is invalid.
            StoreUnavailableError: the folder cannot be written, or the disk is full.
        """
        check_key(key)
        with _translated("written"):
            return await asyncio.to_thread(self._write, key, data)

    async def get(self, key: str) -> bytes:
        """Read a blob.

        Raises:
            NotFoundError: the blob is missing.
            StoreUnavailableError: the folder cannot be read.
        """
        if not is_ours(key):
            raise NotFoundError("image")
        try:
            with _translated("read", FileNotFoundError):
                return await asyncio.to_thread(self._read, key)
        except FileNotFoundError:
            raise NotFoundError("image") from None

    @asynccontextmanager
    async def stream(self, key: str, start: int, stop: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a blob from `start` to before `stop`, in pieces, while the block lasts.

        They are those of the file as it was when the block began, even if it is removed meanwhile.

        Raises:
            NotFoundError: the blob is missing, or ends before `stop`.
            StoreUnavailableError: the folder cannot be read, now or later in the block.
        """
        if not is_ours(key):
            raise NotFoundError("image")
        try:
            with _translated("read", FileNotFoundError):
                file = await asyncio.to_thread(self._open, key, start, stop)
        except FileNotFoundError:
            raise NotFoundError("image") from None
        try:
            yield _pieces(file, stop - start)
        finally:
            await asyncio.to_thread(file.close)

    async def delete(self, keys: Iterable[str]) -> list[str]:
        """Remove blobs, and with images their thumbnails. A missing blob is no error.

        Returns:
            The keys that could not be removed, or of whose thumbnails one could not.
        """
        return await asyncio.to_thread(self._remove, list(keys))

    async def find(self, key: str) -> StoredBlob | None:
        """Size and time of a blob; None where it is missing.

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
        """All blobs and unfinished files, in no order; other files are skipped.

        Args:
            folder: folder of a tenant; None for all tenants.

        Raises:
            StoreUnavailableError: the folder cannot be read.
        """
        files = self._files() if folder is None else self._files_of(folder)
        with _translated("listed"):
            while some := await asyncio.to_thread(lambda: list(islice(files, _LISTED_AT_ONCE))):
                for blob in some:
                    yield blob

    async def now(self) -> datetime:
        """The time of the clock that stamps the files, which may be that of a file server.

        Raises:
            StoreUnavailableError: the folder cannot be written.
        """
        with _translated("written"):
            return await asyncio.to_thread(self._stamp)

    async def owner(self) -> str | None:
        """The id of the database that owns the blobs; None where there is no mark.

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
        """Mark the folder as owned by a database, unless it has a mark.

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
        """The path of a valid key.

        Raises:
            OSError: the folder of the tenant is a link or a file.
        """
        path = self._root / key
        if path.parent != self._root:
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(path.parent.lstat().st_mode):
                    raise OSError(errno.ENOTDIR, "a tenant's folder is a link or a file")
        return path

    def _facts(self, key: str) -> os.stat_result:
        """The status of the file of a blob; a link or a folder counts as missing."""
        facts = self._path(key).lstat()
        if not stat.S_ISREG(facts.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        return facts

    def _read(self, key: str) -> bytes:
        self._facts(key)
        with os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            return stream.read()

    def _open(self, key: str, start: int, stop: int) -> BinaryIO:
        """The file of a blob at a place; one that ends before `stop` counts as missing."""
        self._facts(key)
        file = os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0)
        try:
            if os.fstat(file.fileno()).st_size < stop:
                raise FileNotFoundError(errno.ENOENT, "the file ends early")
            file.seek(start)
        except BaseException:
            file.close()
            raise
        return file

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
        """A new file in a folder, which is created if it is missing.

        The folder of a tenant is created for its first image, and removed with its last one. The
        removal may come between the creation of the folder and that of the file.
        """
        for _ in range(_TRIES):
            try:
                return tempfile.mkstemp(dir=folder, prefix=UNFINISHED)
            except FileNotFoundError:
                with suppress(FileExistsError):  # removed before mkdir checked its type
                    folder.mkdir(parents=True, exist_ok=True)
                _sync_folder(folder.parent)
        return tempfile.mkstemp(dir=folder, prefix=UNFINISHED)

    def _remove(self, keys: list[str]) -> list[str]:
        failed = []
        folders = set()
        for key in keys:
            try:
                check_key(key)
                for each in with_thumbnails(key):
                    path = self._path(each)
                    path.unlink(missing_ok=True)
                    folders.add(path.parent)
            except (OSError, ValueError) as error:
                _logger.error("blob %r not removed: %s", key, error)
                failed.append(key)
        for folder in folders - {self._root}:
            try:
                folder.rmdir()  # fails where it is not empty
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
                return  # a link, which may lead anywhere
            entries = os.scandir(self._root / folder)
        except FileNotFoundError:
            return  # removed with its last file
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


async def _pieces(file: BinaryIO, size: int) -> AsyncIterator[bytes]:
    """The next bytes of a file."""
    while size > 0:
        with _translated("read"):
            piece = await asyncio.to_thread(file.read, min(size, _PIECE_BYTES))
            if not piece:
                raise OSError(errno.EIO, "the file became shorter")
        size -= len(piece)
        yield piece


def _blob(entry: os.DirEntry[str], key: str) -> StoredBlob | None:
    """The blob of a file; None where the file is no blob, or was just removed."""
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
    """Make the entries of a folder durable."""
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
    """Remove the rights of other accounts on a folder that this account owns."""
    facts = root.stat()
    if facts.st_uid == os.geteuid() and facts.st_mode & 0o077:
        root.chmod(0o700)
