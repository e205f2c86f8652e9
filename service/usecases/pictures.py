"""Stored photos and their pictures: the file itself, thumbnails, and crops of faces.

A thumbnail is made once and kept beside its photo. It never survives the photo: a deletion removes
both after its commit, and a thumbnail that was just put is removed again where its image has no row
any more. In either order, one of the two sees the other. What a killed process leaves behind goes
with the next sweep.

Pictures that were just shown are in memory too. Each request asks the database for the image or
face first, whatever is in memory, so that one that was erased is not found at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from typing import Final

from service.batching import Ticket
from service.batching.failures import own_instance
from service.domain.errors import (
    DeadlineError,
    FacetteError,
    NotFoundError,
    ParameterError,
    WithdrawnError,
)
from service.domain.types import (
    CROP_SIZES,
    MAX_CROP_MARGIN,
    THUMBNAIL_SIZES,
    FaceId,
    ImageId,
    StoredFile,
    TenantId,
)
from service.usecases.ports import BlobStore, FileFinder, PictureRenderer
from service.usecases.shown import ShownPictures

_MEDIA_TYPES: Final = {
    "jpeg": "image/jpeg",
    "mpo": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "heic": "image/heic",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "gif": "image/gif",
}
_OTHER_MEDIA_TYPE: Final = "application/octet-stream"
# A part of the tags of all pictures: clients ask again for those that they have when it changes. It
# belongs to what service/vision/pictures.py makes of a photo.
_LOOK: Final = "1"
_TAG_DIGITS: Final = 32

Admit = Callable[[], AbstractAsyncContextManager[Ticket]]
"""Admits a request when it turns out what it needs. Raises OverloadedError, DeadlineError."""


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """The file of a stored image.

    sha256: of the bytes, in hex.
    stream: opens the bytes from a place to before another one, piece by piece, for a block. Raises
        NotFoundError where the file is gone, and StoreUnavailableError.
    """

    media_type: str
    size_bytes: int
    sha256: str
    stream: Callable[[int, int], AbstractAsyncContextManager[AsyncIterator[bytes]]]


@dataclass(frozen=True, slots=True)
class SmallPicture:
    """A JPEG file made of a photo.

    tag: another one for whatever looks different, in hex. It is known before the picture is made.
    read: gives the bytes. Raises what `Admit` raises where the picture does not exist and making it
        is not admitted; InputError where the photo cannot be decoded; WithdrawnError or
        DeadlineError where the ticket failed before it was made; StoreUnavailableError, and
        NotFoundError where the file is gone.
    """

    tag: str
    read: Callable[[Admit], Awaitable[bytes]]


class Pictures:
    """Gives back photos and pictures of them.

    Every method raises NotFoundError for an id that the tenant does not have, and for an image
    whose bytes are not kept, with the kind "file". They raise StoreUnavailableError where the
    database or the blob store does not answer.
    """

    def __init__(self, files: FileFinder, blobs: BlobStore, renderer: PictureRenderer) -> None:
        self._files = files
        self._blobs = blobs
        self._renderer = renderer
        # By key, the thumbnails that are being made, and who waits for each.
        self._making: dict[str, list[asyncio.Future[bytes | None]]] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self._shown = ShownPictures()

    async def file(self, tenant_id: TenantId, image_id: ImageId) -> PhotoFile:
        """The file of an image, as it was sent."""
        file = await self._files.image_file(tenant_id, image_id)
        key = _key_of(file)

        @asynccontextmanager
        async def stream(start: int, stop: int) -> AsyncIterator[AsyncIterator[bytes]]:
            async with AsyncExitStack() as stack:
                try:
                    pieces = await stack.enter_async_context(self._blobs.stream(key, start, stop))
                except NotFoundError:
                    raise NotFoundError("file") from None
                yield pieces

        media_type = _MEDIA_TYPES.get(file.format, _OTHER_MEDIA_TYPE)
        return PhotoFile(media_type, file.size_bytes, file.sha256, stream)

    async def thumbnail(self, tenant_id: TenantId, image_id: ImageId, size: int) -> SmallPicture:
        """A small upright JPEG file of an image; one that exists needs no ticket.

        Args:
            size: pixels of the longest side, one of `THUMBNAIL_SIZES`; a photo with fewer is not
                enlarged.

        Raises:
            ParameterError: another size.
        """
        if size not in THUMBNAIL_SIZES:
            sizes = ", ".join(map(str, THUMBNAIL_SIZES))
            raise ParameterError("size", f"The size of a thumbnail is one of {sizes}.")
        with self._forgotten_if_missing(tenant_id, image_id):
            file = await self._files.image_file(tenant_id, image_id)
            _key_of(file)

        async def read(admit: Admit) -> bytes:
            key = self._blobs.thumbnail_key(tenant_id, image_id, size)
            with suppress(NotFoundError):
                return await self._blobs.get(key)
            async with admit() as ticket:
                return await self._made_once(
                    key, lambda: self._make(tenant_id, file, size, key, ticket), ticket
                )

        return self._shown_once(tenant_id, image_id, _tag(file.sha256, size), read)

    async def crop(
        self, tenant_id: TenantId, face_id: FaceId, size: int, margin: float
    ) -> SmallPicture:
        """A JPEG file of a face and what is around it, cut out of the upright photo.

        Args:
            size: pixels of the longest side, one of `CROP_SIZES`; a face with fewer is not
                enlarged.
            margin: the sides as multiples of those of the face's box, 1 to `MAX_CROP_MARGIN`. The
                crop ends at the edges of the photo.

        Raises:
            ParameterError: another size or margin.
        """
        if size not in CROP_SIZES:
            limits = f"{CROP_SIZES[0]} to {CROP_SIZES[-1]} pixels"
            raise ParameterError("size", f"The size of a crop is {limits}.")
        if not 1 <= margin <= MAX_CROP_MARGIN:
            raise ParameterError("margin", f"The margin is 1 to {MAX_CROP_MARGIN:g}.")
        with self._forgotten_if_missing(tenant_id, face_id):
            face = await self._files.face_on_file(tenant_id, face_id)
            _key_of(face.file)

        async def read(admit: Admit) -> bytes:
            async with admit() as ticket:
                photo = self._reader(face.file, ticket)
                return await self._renderer.crop(photo, face.box, size, margin, ticket)

        tag = _tag(face.file.sha256, face.box, size, margin)
        return self._shown_once(tenant_id, face_id, tag, read)

    def _shown_once(
        self,
        tenant_id: TenantId,
        of: ImageId | FaceId,
        tag: str,
        read: Callable[[Admit], Awaitable[bytes]],
    ) -> SmallPicture:
        """A picture that is taken from memory, or kept there once it is read."""

        async def read_once(admit: Admit) -> bytes:
            data = self._shown.take(tenant_id, of, tag)
            if data is None:
                data = await read(admit)
                self._shown.keep(tenant_id, of, tag, data)
            return data

        return SmallPicture(tag, read_once)

    @contextmanager
    def _forgotten_if_missing(self, tenant_id: TenantId, of: ImageId | FaceId) -> Iterator[None]:
        try:
            yield
        except NotFoundError:
            self._shown.forget(tenant_id, of)
            raise

    def _reader(self, file: StoredFile, ticket: Ticket) -> Callable[[], Awaitable[bytes]]:
        """Reads a file for a ticket, which gets to know how large it is."""
        key = _key_of(file)
        ticket.expect_input(file.size_bytes)

        async def read() -> bytes:
            try:
                return await self._blobs.get(key)
            except NotFoundError:
                raise NotFoundError("file") from None

        return read

    async def _make(
        self, tenant_id: TenantId, file: StoredFile, size: int, key: str, ticket: Ticket
    ) -> bytes:
        data = await self._renderer.thumbnail(self._reader(file, ticket), size, ticket)
        # A write to a folder goes on when its caller is cancelled, so the check after it has to.
        keeping = asyncio.create_task(self._keep(tenant_id, file.image_id, key, data))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._kept)
        await asyncio.shield(keeping)
        return data

    async def _keep(self, tenant_id: TenantId, image_id: ImageId, key: str, data: bytes) -> None:
        """Put a thumbnail, and remove it again unless its image has a row after that.

        Raises:
            NotFoundError: the image was deleted meanwhile.
        """
        try:
            await self._blobs.put(key, data)
            await self._files.image_file(tenant_id, image_id)
        except FacetteError:
            await self._blobs.delete([key])
            raise

    def _kept(self, keeping: asyncio.Task[None]) -> None:
        self._keeping.discard(keeping)
        if not keeping.cancelled():
            keeping.exception()  # retrieved, in case the caller was cancelled

    async def _made_once(
        self, key: str, make: Callable[[], Awaitable[bytes]], ticket: Ticket
    ) -> bytes:
        """What the first caller makes goes to all who ask for it meanwhile.

        If the ticket of the first one fails, the next one makes it.
        """
        while (waiting := self._making.get(key)) is not None:
            future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
            waiting.append(future)
            made = await ticket.wait(future)
            if made is not None:
                return made
        self._making[key] = []
        result: bytes | None = None
        failure: FacetteError | None = None
        try:
            result = await make()
        except (WithdrawnError, DeadlineError):
            raise
        except FacetteError as error:
            failure = error
            raise
        finally:
            for each in self._making.pop(key):
                if each.done():
                    continue
                if failure is not None:
                    each.set_exception(own_instance(failure))
                else:
                    each.set_result(result)
        return result


def _key_of(file: StoredFile) -> str:
    if file.blob_key is None:
        raise NotFoundError("file")
    return file.blob_key


def _tag(*facts: object) -> str:
    """The tag of a picture, by the hash of its photo and all that makes it look different."""
    return hashlib.sha256(repr((_LOOK, *facts)).encode()).hexdigest()[:_TAG_DIGITS]
