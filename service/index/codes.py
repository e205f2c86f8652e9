"""Binary codes of a tenant's faces, in memory: they say which few vectors are worth comparing.

A code is the signs of 512 numbers. Of an embedding of as many they are its own, as pgvector's
`binary_quantize` gives them; of another one they are those of its rotations. The share of the signs
in which two codes differ grows with the angle between the embeddings (Goemans and Williamson, JACM
1995), so that the codes of one person's faces are near by Hamming distance.

Some codes are pivots. Every other code belongs to the pivot that was nearest when it came, and the
codes of one pivot form a chain. A search compares the query with all pivots, and then with the
codes of the nearest ones. A graph may have no way to a person who is far from all others; here no
person is left out, since each has a pivot.

A code says little of a person who is far: to have the ten nearest strangers among 60,000 people, a
hundred must be compared in full. So the chain of a pivot may have the sum of its faces' vectors
beside it, rounded to bytes, which tells them almost as well as the vectors do. A chain that a face
joins or leaves has no sum any more, and is measured by its codes.

Writers run one at a time and never block a search: a search reads a `Snapshot`, whose arrays are
replaced when they grow, and in which a row beyond its count is passed over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from numba import types
from numpy.typing import NDArray

from service.index.sums import RoundedSums
from service.vision.compiled import kernel
from service.vision.intrinsics import intrinsic

Codes = NDArray[np.uint64]
Ids = NDArray[np.void]
_Ints = NDArray[np.int32]
_Scalar = TypeVar("_Scalar", bound=np.generic)
ChooseSums = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.int64]]
"""Chooses among sums, float32 [n, dimension], of so many vectors, [n]: positions, [m]."""

BITS = 512
_WORDS = BITS // 64
# The first words of a pivot's code, its head, choose the pivots that are compared as a whole:
# memory is slower than counting.
_HEAD_WORDS = _WORDS // 2
_HEADS_PER_PIVOT = 4  # heads that are chosen for each pivot wanted
# A code joins a pivot within this distance, in bits: a cosine of 0.56 and more.
_RADIUS = 160
# The same for their heads, where all pivots are compared: somewhat more than half of the radius.
_HEAD_RADIUS = 90
# New pivots of one cluster that a code is compared with, so that a huge cluster costs no more.
_MAX_OWN_PIVOTS = 1024
_HEADS_IN_CACHE = 8192
# The mean over n codes says the more the larger n is: it is taken to be smaller by
# sqrt(n / (n + this)).
_DOUBT_OF_A_CODE = 0.5
# That mean, of chains that are near, and the cosine to their sum: measured on made-up people of two
# networks, whose signs and numbers give this ratio within 3 %.
_COSINE_OF_CODES = 1.14
# An embedding as whole numbers is so long: the sums of products with bytes stay below 2^31.
_LENGTH = 1 << 14
_ID = np.dtype("V16")
BYTES_PER_FACE = _WORDS * 8 + _ID.itemsize + 2 * 4
"""Memory of one face's code, without what a pivot takes beside it."""
_NO_SUM = -1
# Sums that are compared for each person wanted; their codes choose them.
_SUMS_PER_PERSON = 4


@intrinsic
def _bit_count(typing: Any, word: Any) -> Any:
    """The number of set bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@kernel
def _distances(codes: Codes, code: Codes) -> NDArray[np.int16]:
    """The number of bits in which each of `codes` differs from `code`, over the words it has."""
    bits = np.empty(len(codes), dtype=np.int16)
    for row in range(len(codes)):
        sum_of_words = np.uint64(0)
        for word in range(codes.shape[1]):
            sum_of_words += _bit_count(codes[row, word] ^ code[word])
        bits[row] = sum_of_words
    return bits


@kernel
def _nearest(bits: NDArray[np.int16], wanted: int) -> NDArray[np.int64]:
    """Where the `wanted` smallest distances are, and those as large as the largest of them."""
    counts = np.zeros(BITS + 1, dtype=np.int64)
    for row in range(len(bits)):
        counts[bits[row]] += 1
    limit, total = 0, counts[0]
    while total < wanted and limit < BITS:
        limit += 1
        total += counts[limit]
    near, found = np.empty(total, dtype=np.int64), 0
    for row in range(len(bits)):
        if bits[row] <= limit:
            near[found] = row
            found += 1
    return near


@kernel
def hamming_nearest(code: Codes, codes: Codes, wanted: int) -> NDArray[np.int64]:
    """Rows of the `wanted` nearest of some codes, and of those as near as the last of them."""
    return _nearest(_distances(codes, code), wanted)


@kernel
def _nearest_pivots(
    code: Codes, codes: Codes, pivot_rows: _Ints, heads: Codes, wanted: int
) -> NDArray[np.int64]:
    """Numbers of the nearest pivots."""
    some = hamming_nearest(code, heads, wanted * _HEADS_PER_PIVOT)
    return some[hamming_nearest(code, codes[pivot_rows[some]], wanted)]


@kernel
def _pivot_within_radius(codes: Codes, row: int, pivot_rows: _Ints, some: NDArray[np.int64]) -> int:
    """The nearest of some pivots, where it is within the radius of a row's code; else -1."""
    bits = _distances(codes[pivot_rows[some]], codes[row])
    best, number = _RADIUS + 1, -1
    for nth in range(len(bits)):
        if bits[nth] < best:
            best, number = bits[nth], some[nth]
    return number


@kernel
def _pivots_by_head(codes: Codes, heads: Codes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a code and a pivot whose head is near: numbers of the codes, and of the pivots."""
    whose, which = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for start in range(0, len(heads), _HEADS_IN_CACHE):
        for nth in range(len(codes)):
            near = _distances(heads[start : start + _HEADS_IN_CACHE], codes[nth]) <= _HEAD_RADIUS
            found = start + np.flatnonzero(near)
            whose = np.concatenate((whose, np.full(len(found), nth)))
            which = np.concatenate((which, found))
    return whose, which


@kernel
def _join(
    codes: Codes,
    start: int,
    clusters: NDArray[np.int64],
    before: _Ints,
    pivot_of: _Ints,
    pivot_rows: _Ints,
    heads: Codes,
    leads: Codes,
    chains: _Ints,
    sum_of: _Ints,
    pivots: int,
) -> int:
    """Chain each code from `start` on to a pivot; returns the number of pivots then.

    clusters: int64, a number for each of them; the same ones follow each other, and are compared
    with one another alone. Empty: each is compared with all pivots.
    """
    whose, which = _pivots_by_head(
        codes[start:] if len(clusters) == 0 else codes[:0], heads[:pivots]
    )
    first = pivots
    for nth in range(len(codes) - start):
        row = start + nth
        if len(clusters) > 0 and nth > 0 and clusters[nth] != clusters[nth - 1]:
            first = pivots
        some = np.arange(first, min(pivots, first + _MAX_OWN_PIVOTS))
        if len(clusters) == 0:
            some = np.concatenate((which[whose == nth], some))
        number = _pivot_within_radius(codes, row, pivot_rows, some)
        if number < 0:
            number = pivots
            pivot_rows[number] = row
            heads[number] = codes[row, :_HEAD_WORDS]
            chains[number] = -1
            pivots += 1
        sum_of[number] = _NO_SUM
        leads[number] = codes[pivot_rows[number]]
        pivot_of[row] = number
        before[row] = chains[number]
        chains[number] = row
    return pivots


@kernel
def _rows_of(ids: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Rows that have one of some ids: uint64 [n, 2] each, `wanted` ordered by its first column."""
    rows, count = np.empty(len(wanted), dtype=np.int64), 0
    firsts = wanted[:, 0]
    for row in range(len(ids)):
        nth = np.searchsorted(firsts, ids[row, 0])
        while nth < len(wanted) and firsts[nth] == ids[row, 0]:
            if wanted[nth, 1] == ids[row, 1] and count < len(rows):
                rows[count] = row
                count += 1
            nth += 1
    return rows[:count]


@kernel
def _leave(
    rows: NDArray[np.int64],
    codes: Codes,
    before: _Ints,
    pivot_of: _Ints,
    pivot_rows: _Ints,
    heads: Codes,
    leads: Codes,
    chains: _Ints,
    sum_of: _Ints,
    pivots: int,
) -> int:
    """Take rows off the chains of their pivots; returns the number of pivots then.

    A row that is left stays linked to its chain, for a search that has reached it. In the place of
    a pivot comes the nearest code of its chain.
    """
    for row in rows:
        number = pivot_of[row]
        if chains[number] == row:
            chains[number] = before[row]
        else:
            current = chains[number]
            while before[current] != row:
                current = before[current]
            before[current] = before[row]
        pivot_of[row] = -1
        sum_of[number] = _NO_SUM
        if chains[number] < 0:
            pivots -= 1
            pivot_rows[number] = pivot_rows[pivots]
            heads[number] = heads[pivots]
            leads[number] = leads[pivots]
            chains[number] = chains[pivots]
            sum_of[number] = sum_of[pivots]
            current = chains[number]
            while current >= 0:
                pivot_of[current] = number
                current = before[current]
            continue
        if pivot_rows[number] == row:
            best, current = BITS + 1, chains[number]
            while current >= 0:
                bits = _distances(codes[current : current + 1], codes[row])[0]
                if bits < best:
                    best = bits
                    pivot_rows[number] = current
                current = before[current]
            heads[number] = codes[pivot_rows[number], :_HEAD_WORDS]
        leads[number] = codes[pivot_rows[number]]
    return pivots


@kernel
def _rows_of_pivots(
    pivots: NDArray[np.int64], chains: _Ints, before: _Ints, count: int
) -> NDArray[np.int64]:
    """All rows below `count` in the chains of some pivots, the pivots' own among them."""
    rows, found = np.empty(1024, dtype=np.int64), 0
    for pivot in pivots:
        row = chains[pivot]
        while row >= 0:
            if row < count:
                if found == len(rows):
                    rows = np.concatenate((rows, np.empty_like(rows)))
                rows[found] = row
                found += 1
            row = before[row]
    return rows[:found]


@kernel
def _probe(
    code: Codes,
    codes: Codes,
    before: _Ints,
    pivot_rows: _Ints,
    heads: Codes,
    chains: _Ints,
    count: int,
    pivots: int,
    wanted: int,
) -> NDArray[np.int64]:
    """Rows of the `wanted` nearest codes among those of the `pivots` nearest pivots."""
    nearest = _nearest_pivots(code, codes, pivot_rows, heads, pivots)
    rows = _rows_of_pivots(nearest, chains, before, count)
    return rows[hamming_nearest(code, codes[rows], wanted)]


@kernel
def _table(projected: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each value of each byte of a code adds to its cosine: float32 [bytes, 256]."""
    table = np.empty((len(projected) // 8, 256), dtype=np.float32)
    for byte in range(len(table)):
        for value in range(256):
            total = np.float32(0)
            for bit in range(8):
                number = projected[8 * byte + bit]
                total += number if value & (128 >> bit) else -number
            table[byte, value] = total
    return table


@kernel
def _likeness(table: NDArray[np.float32], code: NDArray[np.uint8]) -> np.float32:
    """The dot product of a query with the signs of a code."""
    total = np.float32(0)
    for byte in range(len(code)):
        total += table[byte, code[byte]]
    return total


@kernel
def _product(numbers: NDArray[np.int8], whole: NDArray[np.int16]) -> np.int32:
    """The dot product of whole numbers, all in 32 bits: a processor adds many of those at once."""
    total = np.int32(0)
    for nth in range(len(numbers)):
        total = np.int32(total + np.int32(np.int32(numbers[nth]) * np.int32(whole[nth])))
    return total


@kernel
def _most_similar(
    table: NDArray[np.float32],
    sent: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    own: NDArray[np.uint64],
    before: _Ints,
    first: int,
    count: int,
) -> tuple[int, float, int]:
    """The most similar row of a chain, -1 without one; what all of them add up to; their number.

    The row with the id `own` is the most similar one only where there is no other.
    """
    row, shown, total, rows, best = np.int64(first), -1, 0.0, 0, -np.inf
    while row >= 0:
        if row < count:
            likeness = float(_likeness(table, sent[row]))
            rows += 1
            total += likeness
            if ids[row, 0] == own[0] and ids[row, 1] == own[1]:
                if shown < 0:
                    shown = int(row)
            elif likeness > best:
                best = likeness
                shown = int(row)
        row = np.int64(before[row])
    return shown, total, rows


@kernel
def _probe_people(
    whole: NDArray[np.int16],
    projected: NDArray[np.float32],
    code: Codes,
    sent: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    own: NDArray[np.uint64],
    before: _Ints,
    leads: Codes,
    sent_leads: NDArray[np.uint8],
    chains: _Ints,
    sum_of: _Ints,
    sums: NDArray[np.int8],
    lengths: NDArray[np.float32],
    count: int,
    pivots: int,
    wanted: int,
    of_codes: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of the `wanted` most similar chains: the first row, the number of the sum, and a row to show.

    Of the chains with the `pivots` nearest leading codes those are chosen whose sums are nearest by
    their cosine, or whose codes are nearest on average. The row is the most similar one of a chain
    without a sum, else -1.

    whole: int16 [dimension], the embedding. projected: float32 [512], the numbers of which `code`
    has the signs. sent, sent_leads: the bytes of the codes of all faces and of `leads`. ids, own:
    the ids of all faces, [n, 2], and the one that is shown last, [2]. of_codes: makes a cosine of
    what codes add up to.
    """
    nearest = hamming_nearest(code, leads, pivots)
    table = _table(projected)
    firsts, by_sum = np.empty(len(nearest), np.int64), np.empty(len(nearest), np.int64)
    scores, shown = np.empty(len(nearest), np.float32), np.full(len(nearest), -1)
    for nth in range(len(nearest)):
        firsts[nth], by_sum[nth] = chains[nearest[nth]], sum_of[nearest[nth]]
        if by_sum[nth] >= 0:
            scores[nth] = _likeness(table, sent_leads[nearest[nth]])
        else:
            shown[nth], total, rows = _most_similar(
                table, sent, ids, own, before, firsts[nth], count
            )
            scores[nth] = of_codes * _of_chain(total, rows) if rows > 0 else -np.inf
    summed = np.flatnonzero(by_sum >= 0)
    summed = summed[_largest(scores[summed], wanted * _SUMS_PER_PERSON)]
    for each in summed:
        scores[each] = _product(sums[by_sum[each]], whole) / lengths[by_sum[each]]
    chosen = np.concatenate((summed, np.flatnonzero(shown >= 0)))
    chosen = chosen[_largest(scores[chosen], wanted)]
    return firsts[chosen], by_sum[chosen], shown[chosen]


@kernel
def _largest(scores: NDArray[np.float32], wanted: int) -> NDArray[np.int64]:
    """Where the `wanted` largest of some numbers are, the largest first."""
    if len(scores) > wanted:
        some = np.flatnonzero(scores >= np.partition(scores, len(scores) - wanted)[-wanted])
    else:
        some = np.arange(len(scores))
    return some[np.argsort(-scores[some])[:wanted]]


@kernel
def _rows_to_show(
    projected: NDArray[np.float32],
    sent: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    own: NDArray[np.uint64],
    before: _Ints,
    firsts: NDArray[np.int64],
    count: int,
) -> NDArray[np.int64]:
    """The most similar row of each chain, by its first row; -1 where there is none."""
    table = _table(projected)
    rows = np.empty_like(firsts)
    for nth in range(len(firsts)):
        rows[nth], _, _ = _most_similar(table, sent, ids, own, before, firsts[nth], count)
    return rows


@kernel
def _of_chain(total: float, rows: int) -> float:
    """The mean of what the rows of a chain add up to, made smaller where they are few."""
    return total / np.sqrt(rows * (rows + _DOUBT_OF_A_CODE)) if rows > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The codes of one tenant's faces of one model, as they were at one moment.

    Arrays of faces have `count` rows in use, those of pivots `pivots`; more is room.

    Attributes:
        codes: uint64 [rows, 8].
        ids: void of 16 bytes [rows], the bytes of the faces' UUIDs.
        before: int32 [rows], the next row of the same chain, -1 at its end.
        pivot_of: int32 [rows], the number of the row's pivot, -1 of a face that was removed.
        pivot_rows: int32 [pivots], the row of each pivot.
        heads: uint64 [pivots, 4], the first words of each pivot's code.
        leads: uint64 [pivots, 8], the code of the sum of each pivot's chain; its own without one.
        chains: int32 [pivots], the first row of each pivot's chain.
        sum_of: int32 [pivots], the number of the sum of each pivot's chain, -1 without one.
        sums: the sums.
        removed: rows below `count` whose faces were removed.
        last_seq: the `seq` of the face that was added last; all faces up to it are held.
    """

    codes: Codes
    ids: Ids
    before: _Ints
    pivot_of: _Ints
    pivot_rows: _Ints
    heads: Codes
    leads: Codes
    chains: _Ints
    sum_of: _Ints
    sums: RoundedSums
    count: int = 0
    pivots: int = 0
    removed: int = 0
    last_seq: int = 0

    def __len__(self) -> int:
        return self.count - self.removed

    def nearest(self, code: Codes, pivots: int, wanted: int) -> Ids:
        """Ids of the faces whose codes are nearest, in no order: `wanted` of them or some more.

        It may run in a thread: it keeps no lock, and gives up the interpreter while it counts.

        Args:
            code: uint64 [8].
            pivots: the number of nearest pivots whose codes are compared.

        Returns:
            Void of 16 bytes [n].
        """
        rows = _probe(
            code,
            self.codes,
            self.before,
            self.pivot_rows[: self.pivots],
            self.heads[: self.pivots],
            self.chains,
            self.count,
            pivots,
            wanted,
        )
        return self.ids[rows]

    def near_people(
        self,
        embedding: NDArray[np.float32],
        pivots: int,
        wanted: int,
        choose: ChooseSums | None = None,
        own: UUID | None = None,
    ) -> Ids:
        """Ids of faces that show who is near, one of each person as far as codes tell them apart.

        The codes of a pivot are about those of one person, and their sum says most of that person.
        Without it their mean says more than the nearest of them does, and the numbers of the
        embedding say more than their signs. It may run in a thread, as `nearest`.

        Args:
            embedding: float32 [dimension], a unit vector.
            pivots: the number of nearest pivots whose sums or codes are compared.
            wanted: the number of those pivots of which the most similar face is returned.
            choose: of these, chooses among those with a sum; without it all are taken.
            own: the face that is searched; it shows its person only where no other face does.

        Returns:
            Void of 16 bytes [n].
        """
        projected = _projected(embedding.astype(np.float16)[np.newaxis])[0].astype(np.float32)
        ids = self.ids.view(np.uint64).reshape(-1, 2)
        own_id = np.frombuffer(bytes(16) if own is None else own.bytes, np.uint64)
        sent, leads = self.codes.view(np.uint8), self.leads[: self.pivots]
        firsts, by_sum, shown = _probe_people(
            np.round(embedding * _LENGTH).astype(np.int16),
            projected,
            code_of(embedding),
            sent,
            ids,
            own_id,
            self.before,
            leads,
            leads.view(np.uint8),
            self.chains,
            self.sum_of,
            self.sums.numbers,
            self.sums.lengths,
            self.count,
            pivots,
            wanted,
            _COSINE_OF_CODES * _LENGTH * np.sqrt(np.pi / 2 * len(embedding)) / BITS,
        )
        summed = np.flatnonzero(by_sum >= 0)
        if choose is not None:
            summed = summed[choose(*self.sums.of(by_sum[summed]))]
        rows = np.concatenate(
            (
                shown[by_sum < 0],
                _rows_to_show(
                    projected, sent, ids, own_id, self.before, firsts[summed], self.count
                ),
            )
        )
        return self.ids[rows[rows >= 0]]


class FaceCodes:
    """The codes of one tenant's faces of one model.

    `add` and `remove` take milliseconds where there are many codes, and may run in a thread.
    """

    def __init__(self) -> None:
        self._writing = threading.Lock()
        self._now = Snapshot(
            np.empty((0, _WORDS), np.uint64),
            np.empty(0, _ID),
            np.empty(0, np.int32),
            np.empty(0, np.int32),
            np.empty(0, np.int32),
            np.empty((0, _HEAD_WORDS), np.uint64),
            np.empty((0, _WORDS), np.uint64),
            np.empty(0, np.int32),
            np.empty(0, np.int32),
            RoundedSums.none(),
        )

    def __len__(self) -> int:
        return len(self._now)

    @property
    def snapshot(self) -> Snapshot:
        """The codes as they are now, for one search."""
        return self._now

    @property
    def last_seq(self) -> int:
        """The `seq` of the face that was added last."""
        return self._now.last_seq

    @property
    def pivots(self) -> int:
        """The number of pivots."""
        return self._now.pivots

    @property
    def removed(self) -> int:
        """The number of removed faces whose rows still take memory."""
        return self._now.removed

    @property
    def size_bytes(self) -> int:
        """Memory that is used; the room for more is not touched before."""
        now = self._now
        of_faces = (now.codes, now.ids, now.before, now.pivot_of)
        of_pivots = (now.pivot_rows, now.heads, now.leads, now.chains, now.sum_of)
        return (
            sum(array[: now.count].nbytes for array in of_faces)
            + sum(array[: now.pivots].nbytes for array in of_pivots)
            + now.sums.nbytes
        )

    def add(
        self,
        face_ids: Ids,
        codes: Codes,
        clusters: NDArray[np.int64] | None = None,
        *,
        last_seq: int = 0,
    ) -> None:
        """Hold more faces.

        Args:
            face_ids: void of 16 bytes [n], the bytes of their UUIDs.
            codes: uint64 [n, 8], as `code_of` gives them.
            clusters: int64 [n], a number for each face's cluster, the same ones one after the
                other. It saves comparing each code with all pivots; a search finds faces by their
                codes, whatever becomes of the clusters.
            last_seq: all faces up to this `seq` are held then.
        """
        with self._writing:
            now = _with_room(self._now, len(codes))
            start, count = now.count, now.count + len(codes)
            now.codes[start:count] = codes
            now.ids[start:count] = face_ids
            pivots = _join(
                now.codes[:count],
                start,
                np.empty(0, np.int64) if clusters is None else clusters,
                now.before,
                now.pivot_of,
                now.pivot_rows,
                now.heads,
                now.leads,
                now.chains,
                now.sum_of,
                now.pivots,
            )
            last_seq = max(now.last_seq, last_seq)
            self._now = replace(now, count=count, pivots=pivots, last_seq=last_seq)

    def remove(self, face_ids: Ids) -> None:
        """Hold some faces no longer; ids of others are passed over.

        Args:
            face_ids: void of 16 bytes [n], the bytes of their UUIDs.
        """
        with self._writing:
            now = self._now
            wanted = np.unique(face_ids.view(np.uint64).reshape(-1, 2), axis=0)
            ids = now.ids[: now.count].view(np.uint64).reshape(-1, 2)
            rows = _rows_of(ids, wanted)
            rows = rows[now.pivot_of[rows] >= 0]
            # Searches under way keep the arrays of pivots that they have.
            now = replace(
                now,
                pivot_rows=_enlarged(now.pivot_rows, now.pivots, now.pivots),
                heads=_enlarged(now.heads, now.pivots, now.pivots),
                leads=_enlarged(now.leads, now.pivots, now.pivots),
                chains=_enlarged(now.chains, now.pivots, now.pivots),
                sum_of=_enlarged(now.sum_of, now.pivots, now.pivots),
            )
            numbers = now.pivot_of[rows]
            summed = now.sum_of[numbers[numbers >= 0]]
            pivots = _leave(
                rows,
                now.codes,
                now.before,
                now.pivot_of,
                now.pivot_rows,
                now.heads,
                now.leads,
                now.chains,
                now.sum_of,
                now.pivots,
            )
            self._now = replace(now, pivots=pivots, removed=now.removed + len(rows))
            for array in (now.heads, now.leads):
                array[pivots : now.pivots] = 0
            now.codes[rows] = 0
            now.ids[rows] = np.zeros((), _ID)
            now.sums.numbers[summed[summed >= 0]] = 0

    def hold_sums(self, rows: NDArray[np.int64], sums: RoundedSums, codes: Codes) -> None:
        """Hold the sums of chains, instead of those that were held.

        Args:
            rows: int64 [n], of each chain a face, by its position among those that were added.
            sums: of the vectors of all faces of each chain.
            codes: uint64 [n, 8], of the directions of the sums.
        """
        with self._writing:
            now = self._now
            numbers = now.pivot_of[rows]
            sum_of = np.full_like(now.sum_of, _NO_SUM)
            held = numbers >= 0
            sum_of[numbers[held]] = np.flatnonzero(held)
            leads = np.empty_like(now.leads)
            leads[: now.pivots] = now.codes[now.pivot_rows[: now.pivots]]
            leads[numbers[held]] = codes[held]
            self._now = replace(now, sum_of=sum_of, leads=leads, sums=sums)

    def alone(self, begins: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of each run of faces whether they are all of one chain: bool [n].

        Args:
            begins: int64 [n], the positions at which the runs begin, ascending; the first is 0.
        """
        now = self._now
        numbers = now.pivot_of[: now.count]
        same: NDArray[np.bool_] = np.minimum.reduceat(numbers, begins) == np.maximum.reduceat(
            numbers, begins
        )
        return same


def compile_kernels() -> None:
    """Compile what the methods above call: seconds the first time, from a file from then on."""
    codes = FaceCodes()
    nothing = np.zeros((1, _WORDS), np.uint64)
    codes.add(np.zeros(1, _ID), nothing, np.zeros(1, np.int64))
    codes.snapshot.nearest(nothing[0], 1, 1)
    codes.snapshot.near_people(np.zeros(BITS, np.float32), 1, 1)
    codes.remove(np.zeros(1, _ID))


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
    return np.packbits(_projected(stored) > 0, axis=1).view(np.uint64)


def _projected(stored: NDArray[np.float16]) -> NDArray[np.floating[Any]]:
    """The numbers of which codes have the signs: [n, 512]."""
    dimension = stored.shape[1]
    return stored if dimension == BITS else stored.astype(np.float32) @ _directions(dimension)


@cache
def _directions(dimension: int) -> NDArray[np.float32]:
    """The 512 directions that vectors of another dimension are projected on.

    They are the axes of as many rotated systems as are needed: within one system they are at right
    angles, so that they say more of a vector than directions that are drawn singly. The seed is the
    dimension: codes of one process are never compared with those of another.

    Returns:
        float32 [dimension, 512], in columns.
    """
    rng = np.random.default_rng(dimension)
    systems = [
        np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
        for _ in range(-(-BITS // dimension))
    ]
    return np.concatenate(systems, axis=1)[:, :BITS].astype(np.float32)


def _with_room(now: Snapshot, more: int) -> Snapshot:
    """The same codes with room for more.

    The arrays of faces and of chains are replaced together: a search that has the former ones never
    reads a row number that they lack.
    """
    rows, pivots = now.count + more, now.pivots + more
    if rows > len(now.codes):
        now = replace(
            now,
            codes=_enlarged(now.codes, now.count, rows),
            ids=_enlarged(now.ids, now.count, rows),
            before=_enlarged(now.before, now.count, rows),
            pivot_of=_enlarged(now.pivot_of, now.count, rows),
            chains=_enlarged(now.chains, now.pivots, pivots),
        )
    of_pivots = (now.pivot_rows, now.heads, now.leads, now.chains, now.sum_of)
    if pivots > min(len(each) for each in of_pivots):
        now = replace(
            now,
            pivot_rows=_enlarged(now.pivot_rows, now.pivots, pivots),
            heads=_enlarged(now.heads, now.pivots, pivots),
            leads=_enlarged(now.leads, now.pivots, pivots),
            chains=_enlarged(now.chains, now.pivots, pivots),
            sum_of=_enlarged(now.sum_of, now.pivots, pivots),
        )
    return now


def _enlarged(array: NDArray[_Scalar], used: int, wanted: int) -> NDArray[_Scalar]:
    """A copy of the used part with a quarter more room than is wanted."""
    larger = np.empty((wanted + wanted // 4, *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger
