"""The tables of `bench roofline`: peaks, networks under ceilings, and the limit of a photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.history import Record
from bench.report.tables import figure, table

_PEAKS = {
    "int8": "products of bytes (int8), 10^9 multiply-adds/s",
    "float32": "float32, 10^9 multiply-adds/s",
    "read": "memory, read, GB/s",
    "copy": "memory, copied, GB/s",
}
_NONE = "not measured"


def peaks(record: Record) -> str:
    """The peaks of one core and of all, as Markdown."""
    found = record["roofline"]["peaks"]
    places = {"one core": "one core", "all cores": f"{record['roofline']['cores']} cores"}
    rows = [
        (name, *(_rate(found.get(f"{key}, {where}")) for where in places))
        for key, name in _PEAKS.items()
    ]
    return _table(("best (slowest round)", *places.values()), rows)


def networks(record: Record) -> str:
    """Each network under its ceiling on one core, as Markdown."""
    head = (
        *("one core", "million multiply-adds an item"),
        *("kB an item: weights, input and output", "activations"),
        "multiply-adds a byte (with activations)",
        *("ceiling, 10^9/s", "reached (slowest round)", "share", "bound by"),
    )
    rows = [
        (
            row["network"],
            figure(row["multiply_adds"] / 1e6),
            figure((row["weight_bytes"] + row["data_bytes"]) / 1e3),
            figure(row["activation_bytes"] / 1e3),
            f"{figure(row['intensity'])} ({figure(row['intensity_with_activations'])})",
            _NONE if row["ceiling"] is None else figure(row["ceiling"]),
            _rate(row["reached"]),
            "" if row["share"] is None else f"{row['share']:.0%}",
            row["bound"] or "",
        )
        for row in record["roofline"]["networks"]
    ]
    return _table(head, rows)


def photo(record: Record) -> str:
    """The processor time of a photo by network, at the ceilings and as reached, as Markdown."""
    taken, parts = record["roofline"]["photo"], _parts(record)
    at_ceilings, reached = _total(parts, "ceiling_ms"), _total(parts, "reached_ms")
    rows = [
        (
            part["network"],
            figure(part["items"]),
            figure(part["multiply_adds"] / 1e6),
            _ms(part["ceiling_ms"]),
            _ms(part["reached_ms"]),
        )
        for part in parts
    ]
    everything = sum(part["multiply_adds"] for part in parts) / 1e6
    rows += [
        ("all networks", "", figure(everything), _ms(at_ceilings), _ms(reached)),
        ("everything else", "", "", "", figure(_rest_ms(record, parts))),
        ("the analysis, processor time", "", "", "", figure(taken["processor_ms"])),
    ]
    head = (
        *("a photo", "cells, tiles, crops, faces", "million multiply-adds"),
        *("ms of a core at the ceiling", "ms of a core as reached"),
    )
    return _table(head, rows)


def limits(newest: Mapping[str, Record]) -> str:
    """Photos and faces a second at the ceilings beside those reached, as Markdown."""
    record = newest["roofline"]
    found = record["roofline"]
    analysed, embedded = found["analysis"]["max"], found["raw_session"]["max"]
    analyze, embed = newest["analyze"], newest["embed"]
    recorded = analyze["rates"][analyze["compared"]["analyze_vs_facenet_pytorch"][0]]
    raw = embed["rates"][embed["compared"]["batcher_vs_raw_session"][1]]
    photos, kept, faces = _limits(record)
    rows = [
        _limit("photos/s, every network at its ceiling, nothing else", photos, analysed, recorded),
        _limit(
            "photos/s, every network at its ceiling, everything else as it is",
            *(kept, analysed, recorded),
        ),
        _limit(f"faces/s, {found['embedder']} a call", faces, embedded, raw),
    ]
    cores = f"{found['cores']} cores"
    head = (cores, "limit", "reached in this run", "share", "last run of `analyze` and `embed`")
    return f"{_table(head, rows)}\n{_in_words(record)}\n"


def _in_words(record: Record) -> str:
    """What stands between a photo and its limit."""
    parts, rows = _parts(record), record["roofline"]["networks"]
    taken = {part["network"] for part in parts}
    shares = sorted(
        (row["share"], row["network"])
        for row in rows
        if row["network"] in taken and row["share"] is not None
    )
    ceilings = _total(parts, "ceiling_ms")
    at_best = "" if ceilings is None else f", {figure(ceilings)} ms at their ceilings"
    text = (
        f"A photo takes {figure(record['roofline']['photo']['processor_ms'])} ms of a core: "
        f"{_ms(_total(parts, 'reached_ms'))} ms in the networks{at_best}; and "
        f"{figure(_rest_ms(record, parts))} ms in everything else."
    )
    if shares:
        (least, low), (most, high) = shares[0], shares[-1]
        text += (
            f" Farthest below its ceiling is {low}, at {least:.0%} of it; nearest is {high}, at "
            f"{most:.0%}."
        )
    return text


def _limits(record: Record) -> tuple[float | None, float | None, float | None]:
    """Photos a second by the networks alone and with everything else, and faces a second."""
    found, parts = record["roofline"], _parts(record)
    at_ceilings, together = _total(parts, "ceiling_ms"), _total(parts, "all_cores_ms")
    (served,) = (row for row in found["networks"] if row["network"] == found["embedder"])
    top = served["ceiling_all_cores"]
    return (
        None if together is None else 1e3 / together,
        None
        if at_ceilings is None
        else found["cores"] * 1e3 / (at_ceilings + _rest_ms(record, parts)),
        None if top is None else top * 1e9 / served["multiply_adds"],
    )


def _parts(record: Record) -> list[dict[str, Any]]:
    """The networks of a photo, each with its milliseconds at the ceiling and as reached.

    Those of all cores are the time that passes, not processor time.
    """
    rows = {row["network"]: row for row in record["roofline"]["networks"]}
    found = []
    for part in record["roofline"]["photo"]["parts"]:
        row, million = rows[part["network"]], part["multiply_adds"] / 1e6
        times = {
            "ceiling_ms": row["ceiling"],
            "all_cores_ms": row["ceiling_all_cores"],
            "reached_ms": row["reached"]["max"],
        }
        found.append(
            {**part, **{key: None if not rate else million / rate for key, rate in times.items()}}
        )
    return found


def _total(parts: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The sum over the networks; None where one of them has no ceiling."""
    values = [part[key] for part in parts]
    return None if None in values else float(sum(values))


def _rest_ms(record: Record, parts: Sequence[Mapping[str, Any]]) -> float:
    """Processor time of a photo in everything but its networks."""
    reached: float = sum(part["reached_ms"] for part in parts)
    return float(record["roofline"]["photo"]["processor_ms"]) - reached


def _limit(
    name: str, limit: float | None, reached: float, recorded: Mapping[str, float]
) -> Sequence[str]:
    share = "" if limit is None else f"{reached / limit:.0%}"
    shown = _NONE if limit is None else figure(limit)
    return (name, shown, figure(reached), share, figure(recorded["median"]))


def _rate(rate: Mapping[str, float] | None) -> str:
    return _NONE if rate is None else f"{figure(rate['max'])} ({figure(rate['min'])})"


def _ms(value: float | None) -> str:
    return _NONE if value is None else figure(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table({"head": list(head), "rows": [list(row) for row in rows]}) + "\n"
