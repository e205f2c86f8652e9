"""Sums of vectors in memory, each number of them a byte: nearly as exact as the vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGEST = 127


@dataclass(frozen=True, slots=True, eq=False)
class RoundedSums:
    """Sums of unit vectors.

    Attributes:
        numbers: int8 [n, dimension], each sum as a multiple of its unit.
        units: float32 [n]. lengths: float32 [n], of the sums in these units.
        counts: int32 [n], the number of vectors in each sum.
    """

    numbers: NDArray[np.int8]
    units: NDArray[np.float32]
    lengths: NDArray[np.float32]
    counts: NDArray[np.int32]

    @classmethod
    def none(cls) -> RoundedSums:
        """No sums."""
        return cls.rounded(np.empty((0, 0), np.float32), np.empty(0, np.int32))

    @classmethod
    def rounded(cls, totals: NDArray[np.float32], counts: NDArray[np.int32]) -> RoundedSums:
        """Round sums, float32 [n, dimension]."""
        units = np.abs(totals).max(axis=1, initial=0) / np.float32(_LARGEST)
        units[units == 0] = 1
        whole = np.round(totals / units[:, np.newaxis])
        lengths = np.maximum(np.linalg.norm(whole, axis=1), 1)
        return cls(whole.astype(np.int8), units, lengths.astype(np.float32), counts)

    @classmethod
    def together(cls, parts: Sequence[RoundedSums]) -> RoundedSums:
        """All sums of one or more parts, one after the other."""
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.units for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def nbytes(self) -> int:
        """The memory of all sums."""
        return sum(array.nbytes for array in (self.numbers, self.units, self.lengths, self.counts))

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Some sums, float32 [n, dimension], and the numbers of their vectors, int64 [n]."""
        totals = self.numbers[rows] * self.units[rows, np.newaxis]
        return totals, self.counts[rows].astype(np.int64)
