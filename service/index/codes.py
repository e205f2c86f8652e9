"""Binary codes of a tenant's faces, in memory: they say which few vectors are worth comparing.

A code is the signs of 512 numbers. Of an embedding of as many they are its own, as pgvector's
`binary_quantize` gives them; of another one they are those of its rotations. The share of the signs
in which two codes differ grows with the angle between the embeddings (Goemans and Williamson, JACM
1995), so that the codes of one person's faces are near by Hamming distance. A
graph may have no way to a person who is far from all others; here every person is looked at: one
code leads those that are near to it, and all that lead are compared.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from service.vision.vectors import intrinsic

Codes = NDArray[np.uint64]
Ids = NDArray[np.void]
_Scalar = TypeVar("_Scalar", bound=np.generic)

BITS = 512
_WORDS = BITS // 64
# So much of a code says who is worth a look at the whole of it: memory is slower than counting.
_WORDS_AT_FIRST = _WORDS // 2
_LOOKED_AT = 4  # times as many as are wanted
# A code leads those that differ from it in so many bits: embeddings with a cosine of 0.56 and more.
_RADIUS = 160
# Of the codes that lead in a cluster so many are compared, so that a huge one costs no more.
_COMPARED = 1024
# One that is to lead a new code may differ from it in so many bits of these first words: somewhat
# more than half of the radius.
_RADIUS_AT_FIRST = 90
_IN_CACHE = 8192  # codes that are compared with one after the other
_ID = np.dtype("V16")


@intrinsic
def _bit_count(typing: Any, word: Any) -> Any:
    """How many bits of a uint64 are set."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def _differing(codes: Codes, code: Codes) -> NDArray[np.int16]:
    """In how many bits each of `codes` differs from `code`, as far as they go."""
    bits = np.empty(len(codes), dtype=np.int16)
    for row in range(len(codes)):
        sum_of_words = np.uint64(0)
        for word in range(codes.shape[1]):
            sum_of_words += _bit_count(codes[row, word] ^ code[word])
        bits[row] = sum_of_words
    return bits


@njit(cache=True, nogil=True)
def _nearest(bits: NDArray[np.int16], wanted: int) -> NDArray[np.int64]:
    """Where the `wanted` smallest distances are, and those as large as the largest of them."""
    counts = np.zeros(BITS + 1, dtype=np.int64)
    for row in range(len(bits)):
        counts[bits[row]] += 1
    limit, total = 0, counts[0]
    while total < wanted and limit < BITS:
        limit += 1
        total += counts[limit]
    return np.flatnonzero(bits <= limit)


@njit(cache=True, nogil=True)
def _leaders(
    code: Codes, codes: Codes, leading: NDArray[np.int32], heads: Codes, wanted: int
) -> NDArray[np.int64]:
    """Numbers of the nearest codes that lead."""
    some = _nearest(_differing(heads, code), wanted * _LOOKED_AT)
    return some[_nearest(_differing(codes[leading[some]], code), wanted)]


@njit(cache=True, nogil=True)
def _led_by(codes: Codes, row: int, leading: NDArray[np.int32], some: NDArray[np.int64]) -> int:
    """The number of the one that leads a code, of some that might; -1 where none of them does."""
    bits = _differing(codes[leading[some]], codes[row])
    best, number = _RADIUS + 1, -1
    for nth in range(len(bits)):
        if bits[nth] < best:
            best, number = bits[nth], some[nth]
    return number


@njit(cache=True, nogil=True)
def _may_lead(codes: Codes, heads: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For some codes at once the numbers of those that may lead them: whose, and which."""
    whose, which = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for start in range(0, len(heads), _IN_CACHE):
        for nth in range(len(codes)):
            near = _differing(heads[start : start + _IN_CACHE], codes[nth]) <= _RADIUS_AT_FIRST
            found = start + np.flatnonzero(near)
            whose = np.concatenate((whose, np.full(len(found), nth)))
            which = np.concatenate((which, found))
    return whose, which


@njit(cache=True, nogil=True)
def _join(
    codes: Codes,
    start: int,
    clusters: NDArray[np.int64],
    leading: NDArray[np.int32],
    heads: Codes,
    leaders: int,
    last_led: NDArray[np.int32],
    before: NDArray[np.int32],
) -> int:
    """Give each code from `start` on its place; returns how many lead then.

    clusters: int64, a number for each of them; the same ones follow each other, and are compared
    with one another alone. Empty: each is compared with all that lead.
    """
    whose, which = _may_lead(codes[start:] if len(clusters) == 0 else codes[:0], heads[:leaders])
    first = leaders
    for nth in range(len(codes) - start):
        row = start + nth
        if len(clusters) > 0 and nth > 0 and clusters[nth] != clusters[nth - 1]:
            first = leaders
        some = np.arange(first, min(leaders, first + _COMPARED))
        if len(clusters) == 0:
            some = np.concatenate((which[whose == nth], some))
        number = _led_by(codes, row, leading, some)
        if number < 0:
            number = leaders
            leading[number] = row
            heads[number] = codes[row, :_WORDS_AT_FIRST]
            last_led[number] = -1
            leaders += 1
        before[row] = last_led[number]
        last_led[number] = row
    return leaders


@njit(cache=True, nogil=True)
def _led(
    leaders: NDArray[np.int64], last_led: NDArray[np.int32], before: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Rows of all codes that some lead, which lead themselves."""
    rows, count = np.empty(1024, dtype=np.int64), 0
    for leader in leaders:
        row = last_led[leader]
        while row >= 0:
            if count == len(rows):
                rows = np.concatenate((rows, np.empty_like(rows)))
            rows[count] = row
            count += 1
            row = before[row]
    return rows[:count]


@njit(cache=True, nogil=True)
def _search(
    code: Codes,
    codes: Codes,
    leading: NDArray[np.int32],
    heads: Codes,
    last_led: NDArray[np.int32],
    before: NDArray[np.int32],
    leaders: int,
    wanted: int,
) -> NDArray[np.int64]:
    """Rows of the `wanted` nearest codes among those led by the `leaders` nearest that lead."""
    rows = _led(_leaders(code, codes, leading, heads, leaders), last_led, before)
    return rows[_nearest(_differing(codes[rows], code), wanted)]


class FaceCodes:
    """The codes of one tenant's faces of one model.

    last_seq: the `seq` of the face that was added last; all faces up to it are held, and some that
    were deleted since.
    """

    def __init__(self) -> None:
        self.last_seq = 0
        self._count = 0
        self._leaders = 0
        # Of each face, and the face that its leader led before it (-1: it was the first).
        self._codes: Codes = np.empty((0, _WORDS), np.uint64)
        self._ids: Ids = np.empty(0, _ID)
        self._before: NDArray[np.int32] = np.empty(0, np.int32)
        # Of each that leads: its row, the first words of its code, the last face that it leads.
        self._leading: NDArray[np.int32] = np.empty(0, np.int32)
        self._heads: Codes = np.empty((0, _WORDS_AT_FIRST), np.uint64)
        self._last_led: NDArray[np.int32] = np.empty(0, np.int32)

    def __len__(self) -> int:
        return self._count

    @property
    def leaders(self) -> int:
        """How many codes lead."""
        return self._leaders

    @property
    def size_bytes(self) -> int:
        """Memory that is used; the room for more is not touched before."""
        of_faces = (self._codes, self._ids, self._before)
        of_leaders = (self._leading, self._heads, self._last_led)
        return sum(array[: self._count].nbytes for array in of_faces) + sum(
            array[: self._leaders].nbytes for array in of_leaders
        )

    def add(self, face_ids: Ids, codes: Codes, clusters: NDArray[np.int64] | None = None) -> None:
        """Hold more faces.

        Args:
            face_ids: void of 16 bytes [n], the bytes of their UUIDs.
            codes: uint64 [n, 8], as `code_of` gives them.
            clusters: int64 [n], a number for each face's cluster, the same ones one after the
                other. It saves comparing each code with all that lead; where faces lie is all the
                same, whatever becomes of the clusters.
        """
        start, count, most = self._count, self._count + len(codes), self._leaders + len(codes)
        self._codes = _with_room(self._codes, start, count)
        self._ids = _with_room(self._ids, start, count)
        self._before = _with_room(self._before, start, count)
        self._leading = _with_room(self._leading, self._leaders, most)
        self._heads = _with_room(self._heads, self._leaders, most)
        self._last_led = _with_room(self._last_led, self._leaders, most)
        self._codes[start:count] = codes
        self._ids[start:count] = face_ids
        self._leaders = _join(
            self._codes[:count],
            start,
            np.empty(0, np.int64) if clusters is None else clusters,
            self._leading,
            self._heads,
            self._leaders,
            self._last_led,
            self._before,
        )
        self._count = count

    def nearest(self, code: Codes, leaders: int, wanted: int) -> Ids:
        """Ids of the faces whose codes are nearest, in no order: `wanted` of them or some more.

        Args:
            code: uint64 [8].
            leaders: the faces are looked for where so many of the nearest codes lead.

        Returns:
            Void of 16 bytes [n].
        """
        rows = _search(
            code,
            self._codes[: self._count],
            self._leading[: self._leaders],
            self._heads[: self._leaders],
            self._last_led,
            self._before,
            leaders,
            wanted,
        )
        return self._ids[rows]


def compile_kernels() -> None:
    """Compile what the methods above call: seconds the first time, from a file from then on."""
    codes = FaceCodes()
    nothing = np.zeros((1, _WORDS), np.uint64)
    codes.add(np.zeros(1, _ID), nothing, np.zeros(1, np.int64))
    codes.nearest(nothing[0], 1, 1)


def code_of(embedding: NDArray[np.float32]) -> Codes:
    """The code of an embedding, as it is made of the stored half-precision vector.

    Args:
        embedding: float32 [dimension].

    Returns:
        uint64 [8].
    """
    code: Codes = codes_of(embedding.astype(np.float16)[np.newaxis])[0]
    return code


def codes_of(stored: NDArray[np.float16]) -> Codes:
    """The codes of stored vectors.

    Args:
        stored: float16 [n, dimension].

    Returns:
        uint64 [n, 8].
    """
    seen, dimension = stored, stored.shape[1]
    if dimension != BITS:
        seen = stored.astype(np.float32) @ _views(dimension)
    return np.packbits(seen > 0, axis=1).view(np.uint64)


@cache
def _views(dimension: int) -> NDArray[np.float32]:
    """The 512 directions that vectors of another dimension are looked at from.

    They are those of as many rotated systems of axes as are needed: within one they are at right
    angles, so that they say more of a vector than directions that are drawn singly. Each process
    may have its own, since codes are in no other's hands.

    Returns:
        float32 [dimension, 512], in columns.
    """
    rng = np.random.default_rng(dimension)
    systems = [
        np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
        for _ in range(-(-BITS // dimension))
    ]
    return np.concatenate(systems, axis=1)[:, :BITS].astype(np.float32)


def _with_room(array: NDArray[_Scalar], used: int, wanted: int) -> NDArray[_Scalar]:
    """The array, or one with what is used of it and a quarter more room than is wanted."""
    if len(array) >= wanted:
        return array
    larger = np.empty((wanted + wanted // 4, *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger
