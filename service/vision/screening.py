"""What the screens of P-Net and R-Net have in common: weights, buffers, and the margin."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Weights = TypeVar("_Weights", bound="DataclassInstance")

SPARE_BYTES = 64
"""Padding behind the last pixel for a compiled loop."""


@dataclass(frozen=True, slots=True)
class Margin:
    """How far below a network's threshold its screen keeps an input.

    logits: that far below. threshold: the probability for which this was measured.
    """

    logits: float
    threshold: float

    def holds_for(self, threshold: float) -> bool:
        """Whether the screen may choose for a network with this threshold.

        Of inputs between a lower threshold and the measured one nothing is known.
        """
        return threshold >= self.threshold

    def least(self) -> np.float32:
        """The smallest logit of an input that is kept, whatever the threshold is.

        Large activations do not fit into bytes: the logits of inputs far above the measured
        threshold may be too small by more than those near it.
        """
        return np.float32(math.log(self.threshold / (1 - self.threshold)) - self.logits)


class Buffers(threading.local):
    """Buffers of a thread, reused for every tile or batch of crops."""

    def __init__(self) -> None:
        self._made: dict[str, NDArray[np.uint8]] = {}

    def bytes(self, name: str, size: int) -> NDArray[np.uint8]:
        """uint8 [size or more], with the contents of the last use."""
        if name not in self._made or self._made[name].size < size:
            self._made[name] = np.zeros(size, dtype=np.uint8)
        return self._made[name]


def read_weights(kind: type[_Weights], path: Path) -> _Weights:
    """Read the file of the export program.

    Raises:
        KeyError, OSError, ValueError: the file is missing or has another format.
    """
    with np.load(path, allow_pickle=False) as file:
        return kind(**{field.name: file[field.name] for field in fields(kind)})
