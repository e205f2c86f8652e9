"""`python -m bench`: measures, prints, appends to bench/history.jsonl; renders the pages."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.common.machine import describe
from bench.common.result import Effort, Result
from bench.http import options as http
from bench.report import history, roofline, tables
from service.runtime.manifest import MANIFEST_NAME

MODELS = Path(__file__).resolve().parents[1] / "models"

_BENCHES = ("embed", "detect", "analyze", "scaling")
# They take minutes and their results change seldom, so `all` leaves them out.
_BY_NAME = (
    *("accuracy", "max_side", "soak", "http", "drills", "kills", "peers", "search", "product"),
    *("review", "setup", "ingest", "console", "roofline", "gpu"),
)
_MODULES = {
    "embed": "bench.inprocess.embed",
    "detect": "bench.inprocess.detect",
    "analyze": "bench.inprocess.analyze",
    "scaling": "bench.inprocess.scaling",
    "roofline": "bench.inprocess.roofline",
    "gpu": "bench.inprocess.gpu",
    "max_side": "bench.inprocess.max_side",
    "accuracy": "bench.accuracy.accuracy",
    "soak": "bench.http.soak",
    "kills": "bench.drills.kills",
    "peers": "bench.peers",
    "search": "bench.search.search",
    "product": "bench.product.product",
    "review": "bench.product.reviewing",
    "setup": "bench.inprocess.setup_size",
    "ingest": "bench.http.ingest",
    "console": "bench.console.console",
    **http.MODULES,
}
_ROUNDS = 7
_KILLS = 55


def main(argv: Sequence[str] | None = None) -> int:
    """Run one bench, or all; `accuracy` and `max_side` need the reference photos."""
    options = _options(argv)
    if options.bench == "report":
        from bench.report import page as report

        report.write(history.read(options.history))
    elif options.record:
        _record()
    elif options.url:
        _measure_url(options)
    else:
        _run(_names(options), _effort(options), options.history, options.json)
    return 0


def _names(options: argparse.Namespace) -> Sequence[str]:
    if options.bench == "http":
        return http.benches(options.only)
    if options.bench == "drills":
        return http.benches(["drills"])
    return _BENCHES if options.bench == "all" else (options.bench,)


def _effort(options: argparse.Namespace) -> Effort:
    if options.bench == "kills":
        return Effort(options.rounds or _KILLS, options.quick, options.seed)
    long = options.bench in ("http", "drills", "peers")
    rounds = options.rounds or (http.ROUNDS if long else _ROUNDS)
    return Effort(rounds, options.quick, scale=options.scale)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "bench",
        choices=[*_BENCHES, *_BY_NAME, "all", "report"],
        nargs="?",
        default="all",
        help=f"all leaves out {', '.join(_BY_NAME)} (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"measured rounds (default: {_ROUNDS}; http, drills and peers: {http.ROUNDS}; "
        f"kills: {_KILLS} of them)",
    )
    parser.add_argument("--seed", type=int, help="of the moments of kills (default: a new one)")
    parser.add_argument("--json", type=Path, help="write ratios and raw samples there as well")
    parser.add_argument(
        "--history",
        type=Path,
        default=history.PATH,
        help="the file to append to, or to report from (default: bench/history.jsonl)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small load, only to see that it runs"
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="with search, product and review: the size of their tenants, 1.0 for up to 500,000 "
        "faces (default); with ingest: of its folder, 1.0 for 2,000 photos; with console: of the "
        "photos to review, 1.0 for 1,000",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="with accuracy: measure centre, cohort and curve of every embedder anew, for the next "
        "export (some ten minutes)",
    )
    http.add_arguments(parser)
    options = parser.parse_args(argv)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds starts at 1")
    if options.scale <= 0:
        parser.error("--scale is above 0")
    if options.record and options.bench != "accuracy":
        parser.error("--record goes with accuracy")
    if options.url and options.bench != "http":
        parser.error("--url goes with http")
    return options


def _run(names: Sequence[str], effort: Effort, path: Path, document: Path | None) -> None:
    results: dict[str, history.Record] = {}
    origin = describe()
    for name in names:
        print(f"{name}:", flush=True)
        # A bench is imported when it runs: a report needs neither PyTorch nor the models.
        result: Result = asyncio.run(importlib.import_module(_MODULES[name]).run(effort))
        results[name] = history.record(name, result, describe(), quick=effort.quick)
        history.append(path, results[name])
        _print(results[name])
    print(f"appended to {path}")
    if document is not None:
        ratios = {key: value for each in results.values() for key, value in each["ratios"].items()}
        _write(document, {**origin, "ratios": ratios, "results": results})


def _measure_url(options: argparse.Namespace) -> None:
    found = importlib.import_module("bench.http.any").measure(options)
    if options.json is not None:
        _write(options.json, {**describe(), **found})


def _record() -> None:
    population = importlib.import_module("bench.accuracy.population")
    for models in (MODELS, MODELS / "sface"):
        if (models / MANIFEST_NAME).is_file():
            for path in asyncio.run(population.record(models)):
                print(f"wrote {path}")
    print("export the models again to use it")


def _print(record: history.Record) -> None:
    if record["rates"]:
        print(f"\n  {'':<56} {'median':>9} {'min':>9} {'max':>9}   {record['unit']}")
    for name, rate in record["rates"].items():
        print(f"  {name:<56} {rate['median']:>9.2f} {rate['min']:>9.2f} {rate['max']:>9.2f}")
    for curve in record["curves"].values():
        for line, points in curve["lines"].items():
            shown = ", ".join(f"{point['x']:g}: {point['median']:.1f}" for point in points)
            print(f"  {line}, {curve['y_label']} by {curve['x_label']}: {shown}")
    for name, value in record["ratios"].items():
        print(f"  {name} = {value:.3f}")
    for clients, values in record.get("latency_ms", {}).items():
        shown = ", ".join(f"{name} {value:.0f} ms" for name, value in values.items())
        print(f"  latency, {clients}: {shown}")
    for name, value in record.get("memory_mb", {}).items():
        print(f"  memory, {name}: {value:.0f} MB")
    if "max_side" in record:
        print(tables.max_side(record["max_side"]))
    if "roofline" in record:
        for part in (roofline.peaks, roofline.networks, roofline.photo):
            print(f"\n{part(record)}")
    for described in record.get("tables", {}).values():
        print(f"\n{tables.table(described)}\n")
    for note in record["notes"]:
        print(f"  - {note}")
    print(flush=True)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
