"""`python -m bench`: measures, prints, and records in bench/results."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import accuracy, detect, embed, insert
from bench.machine import describe
from bench.measure import Rate

_BENCHES: dict[str, ModuleType] = {"embed": embed, "detect": detect, "insert": insert}
_RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one bench, or all that take time; `accuracy` needs the reference photos."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("bench", choices=[*_BENCHES, "accuracy", "all"], nargs="?", default="all")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default: 7)")
    parser.add_argument("--json", type=Path, help="write the results there, not to bench/results")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds starts at 1")
    if options.bench == "accuracy":
        found = asyncio.run(accuracy.run())
        print(accuracy.render_table(found))
        if options.json:
            _write(options.json, {"machine": describe(), **found})
        else:
            (_RESULTS / "accuracy.md").write_text(accuracy.render_table(found), encoding="utf-8")
        return 0
    names = list(_BENCHES) if options.bench == "all" else [options.bench]
    results: dict[str, Any] = {}
    for name in names:
        print(f"{name}:", flush=True)
        found = asyncio.run(_BENCHES[name].run(options.rounds))
        results[name] = {"unit": _BENCHES[name].UNIT, **_plain(found)}
        _print(results[name])
    machine = describe()
    ratios = {key: value for found in results.values() for key, value in found["ratios"].items()}
    if options.json:
        _write(options.json, {"machine": machine, "ratios": ratios, "results": results})
    else:
        for name, found in results.items():
            _write(_RESULTS / f"{name}.json", {"machine": machine, **found})
    return 0


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    rates: dict[str, Rate] = found.pop("rates")
    table = {
        name: {
            "median": round(rate.median, 2),
            "min": round(rate.spread[0], 2),
            "max": round(rate.spread[1], 2),
            "samples": [round(sample, 3) for sample in rate.samples],
        }
        for name, rate in rates.items()
    }
    return {"rates": table, **found}


def _print(result: dict[str, Any]) -> None:
    print(f"\n  {'':<42} {'median':>9} {'min':>9} {'max':>9}   {result['unit']}")
    for name, rate in result["rates"].items():
        print(f"  {name:<42} {rate['median']:>9.2f} {rate['min']:>9.2f} {rate['max']:>9.2f}")
    for name, value in result["ratios"].items():
        print(f"  {name} = {value:.3f}")
    for clients, values in result.get("latency_ms", {}).items():
        shown = ", ".join(f"{name} {value:.0f} ms" for name, value in values.items())
        print(f"  latency, {clients}: {shown}")
    for name, value in result.get("memory_mb", {}).items():
        print(f"  resident memory, {name}: {value:.0f} MB")
    print(f"  {result['notes']}\n", flush=True)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
