"""The tables of the bench of searching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def search_table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Recall and milliseconds of each way of searching, a row for each tenant."""
    figures = ("recall_at_1", "recall_at_10", "p50_ms", "p99_ms")
    return {
        "head": [
            *("faces of the tenant", "path"),
            *("recall@1", "recall@10", "p50, ms", "p99, ms"),
            *("matching: recall@1", "p50, ms", "p99, ms"),
            *("plain: path", "recall@1", "recall@10", "p50, ms", "p99, ms"),
            "exact: p50, ms",
        ],
        "rows": [
            [
                f"{row['faces']:,}",
                row["path"],
                *(f"{row['ours'][key]:.4g}" for key in figures),
                *(f"{row['matching'][key]:.4g}" for key in (figures[0], *figures[2:])),
                row["plain_path"],
                *(f"{row['plain'][key]:.4g}" for key in figures),
                f"{row['exact_p50_ms']:.4g}",
            ]
            for row in rows
        ],
    }


def builds_table(builds: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Seconds and megabytes of indexes and codes."""
    return {
        "head": ["", "tenants", "build, s", "size, MB"],
        "rows": [
            [name, f"{row['indexes']:g}", f"{row['seconds']:.0f}", f"{row['mb']:.0f}"]
            for name, row in builds.items()
        ],
    }
