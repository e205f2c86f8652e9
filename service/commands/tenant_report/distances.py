"""Distances of faces of one person and of two people, by the match rule, on a sample."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.domain.matching import MatchRule
from service.store.face.census import SampledFaces

BIN_WIDTH: Final = 0.02
FARTHEST: Final = 1.4
"""A distance beyond it is counted in the last bin; one below 0, which dense regions have, in the
first."""

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Distances:
    """Distances of pairs of faces, counted in bins of `BIN_WIDTH` from 0 to `FARTHEST`.

    same, different: the number of pairs of one person, and of two people, in each bin.
    limit: of the match rule, for good faces in this tenant.
    same_beyond: pairs of one person beyond the limit. different_within: pairs of two people within.
    people, faces: the size of the sample.
    """

    same: tuple[int, ...]
    different: tuple[int, ...]
    limit: float
    same_beyond: int
    different_within: int
    people: int
    faces: int

    @property
    def same_pairs(self) -> int:
        """The number of pairs of one person."""
        return sum(self.same)

    @property
    def different_pairs(self) -> int:
        """The number of pairs of two people."""
        return sum(self.different)


class _Histogram:
    """Counts distances in bins, and those within a limit."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.bins = np.zeros(round(FARTHEST / BIN_WIDTH), np.int64)
        self.within = 0

    def add(self, distances: NDArray[np.float32]) -> None:
        places = np.clip(distances / BIN_WIDTH, 0, len(self.bins) - 1).astype(np.int64)
        self.bins += np.bincount(places, minlength=len(self.bins))
        self.within += int(np.count_nonzero(distances <= self._limit))


def measure_distances(rule: MatchRule, limit: float, sample: SampledFaces) -> Distances:
    """Compare all faces of each person, and one face of each person with one of all others."""
    same, different = _Histogram(limit), _Histogram(limit)
    firsts: list[int] = []
    for _, group in groupby(range(len(sample.people)), key=sample.people.__getitem__):
        places = list(group)
        firsts.append(places[0])
        if len(places) > 1:
            distances = _between_faces(rule, sample.vectors[places], sample.vectors[places])
            same.add(distances[np.triu_indices(len(places), 1)])
    singles = sample.vectors[firsts]
    for start in range(0, len(firsts), _ROWS_AT_ONCE):
        rows = singles[start : start + _ROWS_AT_ONCE]
        distances = _between_faces(rule, rows, singles[start:])
        different.add(distances[np.triu_indices(len(rows), 1, distances.shape[1])])
    return Distances(
        tuple(same.bins.tolist()),
        tuple(different.bins.tolist()),
        limit,
        int(same.bins.sum()) - same.within,
        different.within,
        len(firsts),
        len(sample.faces),
    )


def _between_faces(
    rule: MatchRule, some: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The distances of faces to people of one face each: float32 [m, n]."""
    return rule.all_distances(some, others, np.ones(len(others), np.float32))
