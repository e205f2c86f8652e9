"""One measurement as Markdown: its figures, its ratios, and what they were measured with."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.history import Record
from bench.measure import Samples, round_ratios


def render(record: Record) -> str:
    """Every table of a measurement that it has figures for, its notes and its origin."""
    parts = [
        *(_rates(record) if record["rates"] else ()),
        *(_curve(curve) for curve in record["curves"].values()),
        *(_latencies(record["latency_ms"]) if "latency_ms" in record else ()),
        *(_memory(record["memory_mb"]) if "memory_mb" in record else ()),
        "\n".join(f"- {note}" for note in record["notes"]),
        _origin(record),
    ]
    return "\n\n".join(parts) + "\n"


def _rates(record: Record) -> Iterable[str]:
    rows = [
        (name, _figure(rate["median"]), f"{_figure(rate['min'])} to {_figure(rate['max'])}")
        for name, rate in record["rates"].items()
    ]
    yield _table(("", f"median, {record['unit']}", "slowest to fastest round"), rows)
    rows = []
    for key, (over, under) in record["compared"].items():
        found = round_ratios(*(_samples(record["rates"][name]) for name in (over, under)))
        low, high = found.spread
        rows.append((f"`{key}`", f"**{record['ratios'][key]:.2f}**", f"{low:.2f} to {high:.2f}"))
    yield _table(("ratio", "median over rounds", "smallest to largest"), rows)


def _curve(curve: Mapping[str, Any]) -> str:
    columns = sorted({point["x"] for points in curve["lines"].values() for point in points})
    rows = []
    for line, points in curve["lines"].items():
        medians = {point["x"]: _figure(point["median"]) for point in points}
        rows.append((line, *(medians.get(x, "") for x in columns)))
    return _table((f"{curve['y_label']}, by {curve['x_label']}", *map(_number, columns)), rows)


def _latencies(latencies: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    shares = list(next(iter(latencies.values())))
    rows = [(who, *map(_figure, values.values())) for who, values in latencies.items()]
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
    return (
        f"{_rounds(record)} rounds; commit {record['commit']}, {record['measured_at'][:10]}; "
        f"{machine['processor']}, {machine['usable_cores']} cores "
        f"({', '.join(machine['flags'])}); {versions}; {settings['workers']} workers; {precisions}."
    )


def _rounds(record: Record) -> int:
    points = (
        point
        for curve in record["curves"].values()
        for points in curve["lines"].values()
        for point in points
    )
    return len(next(itertools.chain(record["rates"].values(), points))["samples"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _samples(rate: Mapping[str, Any]) -> Samples:
    return Samples(tuple(rate["samples"]))


def _figure(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float) -> str:
    return f"{value:g}"
