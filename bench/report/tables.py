"""One measurement as Markdown: its figures, its ratios and its origin."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.common.measure import Samples, round_ratios
from bench.report.history import Record


def render(record: Record) -> str:
    """Every table of a measurement that it has figures for, its notes and its origin."""
    parts = [
        *(_rates(record) if record["rates"] else ()),
        *_other_ratios(record),
        *(_curve(curve) for curve in record["curves"].values()),
        *(_latencies(record["latency_ms"]) if "latency_ms" in record else ()),
        *(_memory(record["memory_mb"]) if "memory_mb" in record else ()),
        *((max_side(record["max_side"]),) if "max_side" in record else ()),
        *map(table, record.get("tables", {}).values()),
        "\n".join(f"- {note}" for note in record["notes"]),
        _origin(record),
    ]
    return "\n\n".join(parts) + "\n"


def max_side(found: Mapping[str, Any]) -> str:
    """Results of `bench max_side`: for each limit the faces found again, and milliseconds."""
    lower, upper = found["height_bins"]
    heights = (f"under {lower} px", f"{lower} to {upper} px", f"over {upper} px")
    rows = []
    for limit, row in found["limits"].items():
        photos, crowds = row["photos"], row["crowds"]
        rows.append(
            (
                "0, no limit" if limit == "0" else limit,
                f"{sum(photos['found'])} of {sum(photos['expected'])}",
                *_detection_times(photos),
                *(f"{a} of {b}" for a, b in zip(crowds["found"], crowds["expected"], strict=True)),
                *_detection_times(crowds),
            )
        )
    times = ("detect, ms", "all, ms")
    head = ("`max_side`", "photos: faces", *times, f"crowds: {heights[0]}", *heights[1:], *times)
    return _table(head, rows)


def _detection_times(row: Mapping[str, Any]) -> Iterable[str]:
    return (figure(row[key]["median"]) for key in ("detect_ms", "whole_ms"))


def _rates(record: Record) -> Iterable[str]:
    rows = [
        (name, figure(rate["median"]), f"{figure(rate['min'])} to {figure(rate['max'])}")
        for name, rate in record["rates"].items()
    ]
    yield _table(("", f"median, {record['unit']}", "slowest to fastest round"), rows)
    rows = []
    for key in record["compared"]:
        low, high = ratio_spread(record, key)
        rows.append((f"`{key}`", f"**{record['ratios'][key]:.2f}**", f"{low:.2f} to {high:.2f}"))
    yield _table(("ratio", "median over rounds", "smallest to largest"), rows)


def ratio_spread(record: Record, key: str) -> tuple[float, float]:
    """The smallest and the largest ratio over the rounds."""
    over, under = (_samples(record["rates"][name]) for name in record["compared"][key])
    return round_ratios(over, under).spread


def _other_ratios(record: Record) -> Iterable[str]:
    """Ratios of figures that are not rates."""
    others = record["ratios"].keys() - record["compared"].keys()
    if others:
        rows = [(f"`{key}`", f"**{record['ratios'][key]:.2f}**") for key in sorted(others)]
        yield _table(("ratio", ""), rows)


def _curve(curve: Mapping[str, Any]) -> str:
    columns = sorted({point["x"] for points in curve["lines"].values() for point in points})
    rows = []
    for line, points in curve["lines"].items():
        medians = {point["x"]: figure(point["median"]) for point in points}
        rows.append((line, *(medians.get(x, "") for x in columns)))
    return _table((f"{curve['y_label']}, by {curve['x_label']}", *map(_number, columns)), rows)


def _latencies(latencies: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    shares = list(next(iter(latencies.values())))
    rows = [(who, *map(figure, values.values())) for who, values in latencies.items()]
    yield _table(("latency, ms", *shares), rows)


def _memory(memory: Mapping[str, float]) -> Iterable[str]:
    yield _table(("memory", "MB"), [(name, f"{value:.0f}") for name, value in memory.items()])


def _origin(record: Record) -> str:
    machine, configuration = record["machine"], record["configuration"]
    settings = configuration["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    precisions = ", ".join(
        f"{name} {model['precision']} ({model['provider'].removesuffix('ExecutionProvider')})"
        for name, model in configuration["models"].items()
    )
    workers = f"; {settings['workers']} workers" if "workers" in settings else ""
    return (
        f"{_rounds(record)}commit {record['commit']}, {record['measured_at'][:10]}; "
        f"{machine['processor']}, {machine['usable_cores']} cores "
        f"({', '.join(machine['flags'])}); {versions}{workers}{precisions and '; '}{precisions}."
    )


def _rounds(record: Record) -> str:
    points = (
        point
        for curve in record["curves"].values()
        for points in curve["lines"].values()
        for point in points
    )
    first = next(itertools.chain(record["rates"].values(), points), None)
    rounds = len(first["samples"]) if first else record["configuration"].get("rounds")
    return f"{rounds} round{'s' * (rounds > 1)}; " if rounds else ""


def drills(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The requests of each drill by their end, for `table`."""
    counts = (
        *("missing", "wrong", "unanswered", "broken"),
        *("refused_but_stored", "unacknowledged", "repeated"),
    )
    return {
        "head": [
            *("drill", "times", "requests", "answered 200", "other answers"),
            *("acknowledged and missing", "wrongly answered"),
            *("cut off unanswered", "broken off amid the answer"),
            *("refused but stored", "stored, not acknowledged", "stored twice", "exit", "kept"),
        ],
        "rows": [
            [
                row["drill"],
                str(row["repetitions"]),
                str(row["sent"]),
                str(row["ok"]),
                ", ".join(f"{count} {code}" for code, count in row["errors"].items()) or "none",
                *(str(row[count]) for count in counts),
                ", ".join(map(str, sorted(set(row["exit_statuses"])))),
                f"{row['kept']:.4g}",
            ]
            for row in rows
        ],
    }


def kills(found: Mapping[str, Any]) -> dict[str, Any]:
    """Data after each kind of kill, for `table`."""
    counts = {
        "kills": "kills",
        "requests": "requests",
        "inserts_acknowledged": "inserts acknowledged",
        "deletions_acknowledged": "deletions acknowledged",
        "found": "inserts found as acknowledged",
        "lost": "lost",
        "undeleted": "deleted and there",
        "halves": "there in part",
        "unacknowledged": "stored, not acknowledged",
        "orphans_before_sweep": "files without an image before the sweep",
    }
    rows = [
        [row["kind"], *(str(row[name]) for name in counts), figure(_median(row["back_s"]))]
        for row in found["kinds"]
    ]
    totals = [str(sum(row[name] for row in found["kinds"])) for name in counts]
    every = [taken for row in found["kinds"] for taken in row["back_s"]]
    after = found["orphans"]["after_sweep"]
    left = "not swept" if after is None else str(after)
    return {
        "head": ["killed", *counts.values(), "serves again, s (median)", "after it"],
        "rows": [*([*row, ""] for row in rows), ["all", *totals, figure(_median(every)), left]],
    }


def disconnects(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Traces of clients that hung up, for `table`."""
    names = {
        "clients": "clients that hung up",
        "answered_before_they_went": "answered before they went",
        "counted_as_gone": "counted as gone",
        "photos_decoded": "photos decoded in all",
        "photos_decoded_after_they_went": "of them after the last had gone",
        "faces_embedded": "faces embedded in all",
        "faces_embedded_after_they_went": "of them after the last had gone",
        "stored": "images stored",
        "stored_whole": "of them with every part",
        "files_without_row": "files without an image",
    }
    rows = [[text, f"{seen[name]:g}"] for name, text in names.items()]
    rows += [
        [f"`{gauge}` afterwards", f"{value:g}"] for gauge, value in seen["left_in_gauges"].items()
    ]
    times = {
        "quiet_after_s": ("all at rest after the last had gone, s", "{:.2f}"),
        "a_lone_request_before_ms": ("a lone request before, ms", "{:.1f}"),
        "a_lone_request_after_ms": ("a lone request afterwards, ms", "{:.1f}"),
    }
    rows += [[text, form.format(seen[name])] for name, (text, form) in times.items()]
    return {"head": ["disconnects", ""], "rows": rows}


def table(described: Mapping[str, Any]) -> str:
    """A table that a bench made itself: its `head` and its `rows`, all text."""
    return _table(described["head"], described["rows"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _samples(rate: Mapping[str, Any]) -> Samples:
    return Samples(tuple(rate["samples"]))


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def figure(value: float) -> str:
    """A number with three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float) -> str:
    return f"{value:g}"
