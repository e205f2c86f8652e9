"""What inflating costs: blocks that give no pixel are known by their likeness to each other.

RFC 1951. A block begins with its tables, which take a microsecond to build, and may end at once: in
eleven bytes. Compressed pixels cannot be compressed again; such blocks, which have room for few
differences, can.
"""

from __future__ import annotations

import random
import zlib
from typing import Final

# Microseconds of a core for each byte, measured: see `MAX_WORK_US`.
_BYTE_US: Final = 0.015
_EMPTY_BYTE_US: Final = 0.08
# Fewer bytes are never costly.
_FEW_BYTES: Final = 4 << 20
_SAMPLES: Final = 12
_SAMPLE_BYTES: Final = 8192
_MOST_ALIKE: Final = 0.4
"""The size of a sample of such blocks, compressed again, as a share of the sample."""


def inflating_us(data: bytes, start: int, stop: int, size: int) -> float:
    """Predicted processor time of inflating, in microseconds.

    Args:
        data: the file; its compressed pixels lie from `start` to `stop`.
        size: the bytes to inflate.
    """
    alike = _share_alike(data, start, min(stop, len(data))) if size > _FEW_BYTES else 0.0
    return size * (_BYTE_US + alike * (_EMPTY_BYTE_US - _BYTE_US))


def _share_alike(data: bytes, start: int, stop: int) -> float:
    """The share of samples that can be compressed, at places that no file can foresee."""
    last = max(start, stop - _SAMPLE_BYTES)
    found = 0
    for _ in range(_SAMPLES):
        place = random.randint(start, last)  # noqa: S311
        sample = data[place : place + _SAMPLE_BYTES]
        found += len(zlib.compress(sample, 1)) < _MOST_ALIKE * len(sample)
    return found / _SAMPLES
