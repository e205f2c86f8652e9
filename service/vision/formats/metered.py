"""A file in memory that a decoder may read from for a limited time."""

from __future__ import annotations

import io
from typing import Final

from service.domain.errors import ImageTooComplexError

# Reads by Pillow, of a part or a run each time. What libraries in C decode takes a few hundred.
MAX_READS: Final = 1 << 18


class MeteredFile(io.BytesIO):
    """A file for Pillow, which may read from it `MAX_READS` times.

    Raises:
        ImageTooComplexError: on the next `read`.
    """

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As `BytesIO.read` does."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise ImageTooComplexError
        return super().read(size)
