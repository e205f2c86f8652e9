"""Outcomes of load as tables: a head and rows of text, for `bench.report.tables.table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.load import Outcome
from bench.load.plan import REFUSED


def load_row(share: float, outcome: Outcome) -> dict[str, Any]:
    """An outcome for a file, with its load as a share of the capacity."""
    return {"load": share, **outcome.document()}


def connections_table(outcomes: dict[float, Outcome]) -> dict[str, Any]:
    """Outcomes by connections."""
    shares = ("p50", "p90", "p99", "max")
    return {
        "head": ["connections", "answers /s", *(f"{s}, ms" for s in shares), "client, of a core"],
        "rows": [
            [
                f"{count:g}",
                f"{outcome.goodput_per_s:.1f}",
                *(f"{outcome.latency_ms[s]:.2f}" if outcome.latency_ms else "" for s in shares),
                f"{outcome.client_cpu_share:.1%}",
            ]
            for count, outcome in outcomes.items()
        ],
    }


def loads_table(path: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A route's outcomes by load."""

    def ms(latencies: Mapping[str, float], share: str) -> str:
        return f"{latencies[share]:.1f}" if latencies else ""

    return {
        "head": [
            f"{path} at",
            *("offered /s", "goodput /s", "refused", "other errors"),
            *("p50, ms", "p90", "p99", "refused p99", "lag p99", "client, of a core"),
        ],
        "rows": [
            [
                f"{row['load']:.0%}",
                f"{row['offered']:.1f}",
                f"{row['goodput_per_s']:.1f}",
                f"{_refused(row) / row['sent']:.1%}" if row["sent"] else "",
                str(row["sent"] - _good(row) - _refused(row)),
                *(ms(row["latency_ms"], name) for name in ("p50", "p90", "p99")),
                ms(row["refused_ms"], "p99"),
                ms(row["lag_ms"], "p99"),
                f"{row['client_cpu_share']:.1%}",
            ]
            for row in rows
        ],
    }


def _refused(row: Mapping[str, Any]) -> int:
    return sum(row["statuses"].get(status, 0) for status in REFUSED)


def _good(row: Mapping[str, Any]) -> int:
    return sum(count for status, count in row["statuses"].items() if 200 <= status < 300)
