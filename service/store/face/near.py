"""Which parts a perceptual hash shares with those near to it: the values to look up in indexes.

A hash of 64 bits has four parts of 16. Of two hashes that differ in at most `d = 4 q + m` bits,
either one of the first `m + 1` parts differs in at most `q` bits, or one of the others in at most
`q - 1`: else all together would differ in more than `d`. So no near hash is missed (Norouzi,
Punjani and Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Final

_PARTS: Final = 4
_PART_BITS: Final = 16
_PART_DIGITS: Final = _PART_BITS // 4


def hash_parts(phash: str) -> tuple[int, ...]:
    """The parts of a hash of 16 hex digits, first to last."""
    return tuple(
        int(phash[start : start + _PART_DIGITS], 16)
        for start in range(0, _PARTS * _PART_DIGITS, _PART_DIGITS)
    )


def near_parts(parts: tuple[int, ...], max_distance: int) -> tuple[list[int], ...]:
    """For each part the values of which every near hash has one; none where others suffice.

    Args:
        max_distance: in bits, 0 to `MAX_HASH_DISTANCE`.
    """
    least, more = divmod(max_distance, _PARTS)
    radii = [least if place <= more else least - 1 for place in range(_PARTS)]
    return tuple(
        [part ^ flipped for flipped in _flips(radius)]
        for part, radius in zip(parts, radii, strict=True)
    )


@lru_cache
def _flips(radius: int) -> tuple[int, ...]:
    """All values of a part with at most so many bits set; none for a radius below 0."""
    return tuple(
        sum(1 << bit for bit in bits)
        for count in range(radius + 1)
        for bits in combinations(range(_PART_BITS), count)
    )
