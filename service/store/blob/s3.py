"""The blob store in a bucket of an S3-compatible store, with the names of the folder store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from service.domain.errors import ConfigError, NotFoundError, StoreUnavailableError
from service.domain.types import THUMBNAIL_SIZES, ImageId, StoredBlob, TenantId
from service.store.blob.names import (
    OWNER_MARK,
    UNFINISHED,
    S3Settings,
    check_key,
    image_key,
    is_ours,
    marked_owner,
    owner_mark,
    thumbnail_key,
    with_thumbnails,
)

if TYPE_CHECKING:
    from obstore import BytesStream, ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config

_logger = logging.getLogger(__name__)

# Keys that one S3 request can list or delete.
_AT_ONCE = 1000
# Keys of images, each with its thumbnails, that one S3 request can delete.
_IMAGES_AT_ONCE = _AT_ONCE // (1 + len(THUMBNAIL_SIZES))
# Bytes of a piece of a stream, at least.
_PIECE_BYTES = 1 << 18
# The client retries a refused or dropped connection; longer outages are left to the caller.
_RETRIES = 3
_LONGEST_PAUSE_S = 1.0
# The client reports a missing object or bucket as FileNotFoundError, and a bad value as ValueError.
_FAILURES = (BaseError, OSError, ValueError)


class S3BlobStore:
    """Blobs as objects below a prefix, with the names of service/store/blob/names.py.

    Writes of an object are atomic, and durable once they are answered. The client has its own
    threads, and does not block the event loop. Keys come from rows, which may be damaged or forged:
    an invalid key is a missing blob for reads, and is not removed.
    """

    def __init__(self, client: S3Store) -> None:
        self._client = client

    @classmethod
    async def open(cls, settings: S3Settings) -> S3BlobStore:
        """Open the store, and check the settings by writing and removing a small object.

        Raises:
            ConfigError: a setting is wrong, or the store does not answer.
        """
        store = cls(_client(settings))
        try:
            await store._stamp()
        except FileNotFoundError:
            raise ConfigError(f"blobs.url: there is no bucket {_bucket(settings)[0]}") from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise ConfigError(
                "blobs.access_key_id, blobs.secret_access_key: they do not allow reading, writing "
                f"and deleting in {settings.url}: {_brief(error)}"
            ) from None
        except _FAILURES as error:
            raise ConfigError(
                f"blobs.endpoint, blobs.region: {settings.url} cannot be used: {_brief(error)}"
            ) from None
        return store

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
            StoreUnavailableError: the store does not confirm the write, which may have happened.
        """
        check_key(key)
        with _translated("written"):
            await self._client.put_async(key, data, use_multipart=False)
        return (await asyncio.to_thread(hashlib.sha256, data)).hexdigest()

    async def get(self, key: str) -> bytes:
        """Read a blob.

        Raises:
            NotFoundError: the blob is missing.
            StoreUnavailableError: the store does not answer.
        """
        if not is_ours(key):
            raise NotFoundError("image")
        return await self._read(key)

    @asynccontextmanager
    async def stream(self, key: str, start: int, stop: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a blob from `start` to before `stop`, in pieces, while the block lasts.

        Raises:
            NotFoundError: the blob is missing, or ends before `stop`.
            StoreUnavailableError: the store does not answer, now or later in the block.
        """
        if not is_ours(key):
            raise NotFoundError("image")
        try:
            with _translated("read", FileNotFoundError):
                answer = await self._client.get_async(key, options={"range": (start, stop)})
        except FileNotFoundError:
            raise NotFoundError("image") from None
        if answer.meta["size"] < stop:
            raise NotFoundError("image")
        yield _pieces(answer.stream(min_chunk_size=_PIECE_BYTES))

    async def delete(self, keys: Iterable[str]) -> list[str]:
        """Remove blobs, and with images their thumbnails. A missing blob is no error.

        Returns:
            The keys that may not be removed. When a request fails for some keys, all its keys are
            returned.
        """
        failed: list[str] = []
        wanted: list[str] = []
        for key in keys:
            (wanted if is_ours(key) else failed).append(key)
        if failed:
            _logger.error("%d invalid keys not removed, the first is %r", len(failed), failed[0])
        for start in range(0, len(wanted), _IMAGES_AT_ONCE):
            some = wanted[start : start + _IMAGES_AT_ONCE]
            try:
                await self._client.delete_async(
                    [each for key in some for each in with_thumbnails(key)]
                )
            except _FAILURES as error:
                _logger.error("%d blobs not removed: %s", len(some), _brief(error))
                failed += some
        return failed

    async def find(self, key: str) -> StoredBlob | None:
        """Size and time of a blob; None where it is missing.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        if not is_ours(key):
            return None
        try:
            with _translated("found", FileNotFoundError):
                return _blob(await self._client.head_async(key))
        except FileNotFoundError:
            return None

    async def listing(self, folder: str | None = None) -> AsyncIterator[StoredBlob]:
        """All blobs and unfinished objects, in no order; other objects are skipped.

        Args:
            folder: folder of a tenant; None for all tenants.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        with _translated("listed"):
            async for some in self._client.list(folder, chunk_size=_AT_ONCE):
                for each in some:
                    if is_ours(each["path"]):
                        yield _blob(each)

    async def now(self) -> datetime:
        """The time of the clock of the store, which stamps the objects.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        with _translated("written"):
            return await self._stamp()

    async def owner(self) -> str | None:
        """The id of the database that owns the blobs; None where there is no mark.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        try:
            return marked_owner(await self._read(OWNER_MARK))
        except NotFoundError:
            return None

    async def claim(self, database_id: str) -> None:
        """Mark the prefix as owned by a database, unless it has a mark.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        mark = owner_mark(database_id)
        with _translated("written"):
            try:
                await self._client.put_async(OWNER_MARK, mark, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return
            except NotSupportedError:  # the store has no conditional writes
                if await self.owner() is None:
                    await self._client.put_async(OWNER_MARK, mark, use_multipart=False)

    async def _read(self, key: str) -> bytes:
        try:
            with _translated("read", FileNotFoundError):
                return bytes(await (await self._client.get_async(key)).bytes_async())
        except FileNotFoundError:
            raise NotFoundError("image") from None

    async def _stamp(self) -> datetime:
        key = f"{UNFINISHED}{uuid4().hex}"
        await self._client.put_async(key, b"", use_multipart=False)
        stamped = (await self._client.head_async(key))["last_modified"]
        await self._client.delete_async([key])
        return stamped


async def _pieces(stream: BytesStream) -> AsyncIterator[bytes]:
    with _translated("read"):
        async for piece in stream:
            yield bytes(piece)


def _blob(facts: ObjectMeta) -> StoredBlob:
    return StoredBlob(facts["path"], facts["last_modified"], facts["size"])


def _client(settings: S3Settings) -> S3Store:
    if settings.endpoint:
        parts = urlsplit(settings.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("blobs.endpoint: it must be like https://host or http://host:port")
        if parts.scheme == "http" and not settings.allow_http:
            raise ConfigError(
                "blobs.allow_http: blobs.endpoint begins with http://, so photos would travel "
                "unencrypted; true allows that"
            )
    if bool(settings.access_key_id) != bool(settings.secret_access_key):
        raise ConfigError("blobs.access_key_id, blobs.secret_access_key: set both or none")
    # The client takes missing values from the AWS_ variables of the environment.
    given: S3Config = {}
    if settings.endpoint:
        given["endpoint"] = settings.endpoint
    if settings.region:
        given["region"] = settings.region
    if settings.access_key_id:
        given["access_key_id"] = settings.access_key_id
        given["secret_access_key"] = settings.secret_access_key
    bucket, prefix = _bucket(settings)
    timeout = timedelta(seconds=settings.timeout_s)
    options: ClientConfig = {
        "allow_http": settings.allow_http,
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "timeout": timeout,
    }
    retries: RetryConfig = {
        "max_retries": _RETRIES,
        "retry_timeout": timeout,
        "backoff": {"max_backoff": timedelta(seconds=_LONGEST_PAUSE_S)},
    }
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=given,
            client_options=options,
            retry_config=retries,
        )
    except _FAILURES as error:
        raise ConfigError(f"[blobs]: {_brief(error)}") from None


def _bucket(settings: S3Settings) -> tuple[str, str]:
    """Bucket and prefix; the prefix is empty where there is none."""
    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def _brief(error: Exception) -> str:
    """The first line of a client error, which is followed by pages of causes."""
    text = str(error).partition("\n")[0].strip()
    return text[:300] or type(error).__name__


@contextmanager
def _translated(done: str, *but: type[Exception]) -> Iterator[None]:
    try:
        yield
    except but:
        raise
    except _FAILURES as error:
        _logger.error("blob not %s: %s", done, _brief(error))
        raise StoreUnavailableError(
            "The image store does not answer at the moment; try again shortly."
        ) from error
