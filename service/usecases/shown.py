"""Small pictures that were shown a moment ago, in memory: they are often asked for again."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from service.domain.types import FaceId, ImageId, TenantId

# About 2,000 thumbnails of 256 pixels.
_MAX_BYTES: Final = 16 << 20
_MAX_AGE_S: Final = 60.0


@dataclass(slots=True)
class _Shown:
    """The pictures of one image or face, by their tags; the oldest was kept at `since`."""

    since: float
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.pictures.values()))


class ShownPictures:
    """Keeps pictures for a minute, and where they are too many, those that came last.

    A picture of an erased photo must not be shown again. So a caller takes one only after the
    database said that its image or face exists in the tenant, and has it forgotten where it does
    not. A picture that nobody asks for any more is gone after the minute as well.

    Args:
        max_bytes: bound on the bytes of all pictures.
        max_age_s: the time that the pictures of an image or face are kept from the first one on.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        max_bytes: int = _MAX_BYTES,
        max_age_s: float = _MAX_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        # Oldest first.
        self._shown: OrderedDict[tuple[TenantId, ImageId | FaceId], _Shown] = OrderedDict()
        self._size_bytes = 0
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def size_bytes(self) -> int:
        """The bytes of all pictures that are kept."""
        return self._size_bytes

    def take(self, tenant_id: TenantId, of: ImageId | FaceId, tag: str) -> bytes | None:
        """A picture of an image or face of a tenant, which exists; None where it is not kept.

        Args:
            tag: of the picture; another photo, place in it or size has another one.
        """
        shown = self._shown.get((tenant_id, of))
        if shown is None or self._clock() >= shown.since + self._max_age_s:
            return None
        return shown.pictures.get(tag)

    def keep(self, tenant_id: TenantId, of: ImageId | FaceId, tag: str, data: bytes) -> None:
        """Keep a picture that is shown now."""
        shown = self._shown.get((tenant_id, of))
        if shown is None:
            shown = self._shown[tenant_id, of] = _Shown(self._clock())
        self._size_bytes += len(data) - len(shown.pictures.get(tag, b""))
        shown.pictures[tag] = data
        while self._size_bytes > self._max_bytes:
            self._forget(next(iter(self._shown)))
        if self._expiry is None:
            self._expire_later(self._max_age_s)

    def forget(self, tenant_id: TenantId, of: ImageId | FaceId) -> None:
        """Keep no picture of an image or face, which does not exist any more."""
        if (tenant_id, of) in self._shown:
            self._forget((tenant_id, of))

    def expire(self) -> None:
        """Forget what is too old; a timer calls it while anything is kept."""
        self._expiry = None
        now = self._clock()
        while self._shown:
            key, oldest = next(iter(self._shown.items()))
            left_s = oldest.since + self._max_age_s - now
            if left_s > 0:
                self._expire_later(left_s)
                return
            self._forget(key)

    def _forget(self, key: tuple[TenantId, ImageId | FaceId]) -> None:
        self._size_bytes -= self._shown.pop(key).size_bytes

    def _expire_later(self, after_s: float) -> None:
        self._expiry = asyncio.get_running_loop().call_later(after_s, self.expire)
