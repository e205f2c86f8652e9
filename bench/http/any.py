"""Measures any HTTP server: a closed loop by connections, then open loops at shares of the best."""

from __future__ import annotations

import argparse
import mimetypes
from pathlib import Path
from typing import Any

from bench import load
from bench.http.tables import connections_table, load_row, loads_table
from bench.load import Call, Phase
from bench.load.wire import multipart
from bench.report import tables

_WARMUP_S = 1.0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the server of `--url`, print its tables, return its figures.

    Raises:
        SystemExit: it answers nothing with 2xx.
    """
    call = _call(options)
    progress = True if options.progress else None
    closed = load.run(
        options.url,
        [
            Phase(
                kind="closed",
                connections=int(count),
                calls=[call],
                seconds=options.seconds,
                warmup_s=_WARMUP_S,
                label=f"{count:g} connections",
            )
            for count in options.connections
        ],
        progress=progress,
    )
    by_connections = dict(zip(options.connections, closed, strict=True))
    print(tables.table(connections_table(by_connections)), flush=True)
    best = max(by_connections, key=lambda count: by_connections[count].goodput_per_s)
    capacity = by_connections[best].goodput_per_s
    if not capacity:
        outcome = by_connections[best]
        raise SystemExit(f"no answer with 2xx: {outcome.statuses} {outcome.codes} {outcome.errors}")
    opened = load.run(
        options.url,
        [
            Phase(
                kind="open",
                rate=share * capacity,
                calls=[call],
                seconds=options.seconds,
                warmup_s=_WARMUP_S,
                seed=number + 1,
                label=f"{share:.0%} of {capacity:.1f}/s",
            )
            for number, share in enumerate(options.loads)
        ],
        progress=progress,
    )
    rows = [load_row(share, outcome) for share, outcome in zip(options.loads, opened, strict=True)]
    print(f"\n{tables.table(loads_table(options.path, rows))}", flush=True)
    return {
        "url": options.url,
        "path": options.path,
        "capacity_per_s": round(capacity, 3),
        "closed": [
            {"connections": count, **outcome.document()}
            for count, outcome in by_connections.items()
        ],
        "loads": rows,
    }


def _call(options: argparse.Namespace) -> Call:
    headers = [tuple(part.strip() for part in each.split(":", 1)) for each in options.header]
    if wrong := [each for each in headers if len(each) != 2 or not each[0]]:
        raise SystemExit(f"--header wants 'Name: value', not {':'.join(wrong[0])!r}")
    if options.token:
        headers.append(("Authorization", f"Bearer {options.token}"))
    body = b""
    if options.file:
        body = Path(options.file).read_bytes()
        content = mimetypes.guess_type(options.file)[0] or "application/octet-stream"
        header = ("Content-Type", content)
        if options.multipart:
            header, body = multipart(options.field, body, filename=Path(options.file).name)
        headers.append(header)
    method = options.method or ("POST" if options.file else "GET")
    return Call(method, options.path, tuple((name, value) for name, value in headers), body)
