"""The request to a bench, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.common.measure import Samples, ratio


@dataclass(frozen=True, slots=True)
class Effort:
    """The effort of a bench.

    rounds: measured rounds. quick: a small load that only shows that the bench runs; its figures
        mean nothing. seed: of what is drawn, where a bench can be repeated; None = a new one.
        scale: of the stored faces, where a bench stores many.
    """

    rounds: int
    quick: bool = False
    seed: int | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure against one quantity, for several lines of a plot.

    points: line -> quantity -> samples.
    """

    x_label: str
    y_label: str
    points: Mapping[str, Mapping[float, Samples]]

    def document(self) -> dict[str, Any]:
        """The same for a file."""
        return {
            "x_label": self.x_label,
            "y_label": self.y_label,
            "lines": {
                line: [{"x": x, **samples.document()} for x, samples in sorted(points.items())]
                for line, points in self.points.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one bench.

    unit: of the rates. compared: for each ratio the contestant on top and the one below.
    configuration: what was run, and how. details: figures that are no rates, by name.
    other_ratios: of figures that are no rates; higher is better.
    """

    unit: str
    rates: Mapping[str, Samples]
    compared: Mapping[str, tuple[str, str]]
    configuration: Mapping[str, Any]
    notes: Sequence[str]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    other_ratios: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The same for a file, with the ratios: medians over rounds, higher is better."""
        return {
            "unit": self.unit,
            "ratios": {
                key: round(ratio(self.rates[over], self.rates[under]), 4)
                for key, (over, under) in self.compared.items()
            }
            | {key: round(value, 4) for key, value in self.other_ratios.items()},
            "compared": {key: list(pair) for key, pair in self.compared.items()},
            "rates": {name: samples.document() for name, samples in self.rates.items()},
            "curves": {name: curve.document() for name, curve in self.curves.items()},
            **self.details,
            "configuration": dict(self.configuration),
            "notes": list(self.notes),
        }
