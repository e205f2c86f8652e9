"""Load from half to twice the capacity: goodput, latencies, refusals and memory."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from bench.common.harness import default_settings
from bench.common.photos import LONG_SIDE, load
from bench.common.result import Effort, Result
from bench.common.server import ServiceProcess
from bench.http.service import (
    CONNECTIONS,
    EMBED,
    INSERT,
    crop_calls,
    describe_service,
    measure,
    measure_capacity,
    photo_calls,
    running_service,
)
from bench.http.tables import load_row, loads_table
from bench.load import Call, Outcome, Phase

LOADS = (0.5, 0.7, 0.9, 1.1, 2.0)
_NEAR, _OVER = 0.9, 2.0
_QUICK_LOADS = (_NEAR, _OVER)
_SECONDS = 20.0
_OVER_SECONDS = 60.0
_CAPACITY_SECONDS = 10.0
_QUICK_SECONDS = 2.0
_QUICK_CAPACITY_SECONDS = 3.0
_WARMUP_S = 2.0
_QUICK_WARMUP_S = 0.5
# Longer than the service waits before it gives free memory back.
_SETTLE_S = 3.0
_REFUSED_WITHIN_MS = 50.0


async def run(effort: Effort) -> Result:
    """Measure both routes, each with a service of its own."""
    settings = default_settings()
    seconds, full_s = _lengths(effort)
    photos = load(LONG_SIDE, 4 if effort.quick else 24)
    routes: dict[str, tuple[str, Callable[[], list[Call]]]] = {
        # A new tenant for every stretch of load: none grows large.
        INSERT: ("", lambda: photo_calls(photos)),
        EMBED: ("embed_", crop_calls),
    }
    ratios: dict[str, float] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    capacities: dict[str, float] = {}
    memory: dict[str, int] = {}
    notes: list[str] = []
    configuration: Mapping[str, Any] = {}
    for path, (prefix, calls) in routes.items():
        with running_service() as service:
            capacity, outcomes, (before_mb, after_mb) = await _load(service, path, calls, effort)
            configuration = describe_service(service, settings)
        capacities[path] = capacity
        rows[path] = [load_row(share, outcome) for share, outcome in outcomes.items()]
        memory |= {f"{path}, before 200 %": round(before_mb), f"{path}, after": round(after_mb)}
        found = {
            "goodput_at_200_vs_capacity": outcomes[_OVER].goodput_per_s / capacity,
            "memory_before_vs_after_overload": before_mb / after_mb,
            **_latency_ratios(outcomes),
        }
        ratios |= {f"{prefix}{key}": value for key, value in found.items()}
        if not outcomes[_OVER].refused:
            notes.append(f"{path} refused nothing, so that there is no latency of refusals.")
    return Result(
        unit="requests/s",
        rates={},
        compared={},
        other_ratios=ratios,
        details={
            "loads": rows,
            "capacity_per_s": capacities,
            "memory_mb": memory,
            "tables": {path: loads_table(path, found) for path, found in rows.items()},
        },
        configuration={
            "seconds": seconds,
            "seconds_at_200": full_s,
            "connections": CONNECTIONS,
            "long_side": LONG_SIDE,
            **configuration,
        },
        notes=[
            (
                f"Capacity is a closed loop over {CONNECTIONS} connections, before and after the "
                "others: "
                + ", ".join(f"{path} {value:.1f}/s" for path, value in capacities.items())
                + ". Loads are shares of it, sent at the times of a Poisson process, independent "
                "of earlier answers, and timed from the intended send. Latencies are those of "
                "accepted requests; refusals are 429 and 503."
            ),
            (
                f"Twice the capacity for {full_s:g} s, the others {seconds:g} s. "
                "Memory is that of the service's process at rest."
            ),
            *notes,
        ],
    )


def _lengths(effort: Effort) -> tuple[float, float]:
    """Seconds of a load, and of that of twice the capacity."""
    return (_QUICK_SECONDS, _QUICK_SECONDS) if effort.quick else (_SECONDS, _OVER_SECONDS)


async def _load(
    service: ServiceProcess, path: str, calls: Callable[[], list[Call]], effort: Effort
) -> tuple[float, dict[float, Outcome], tuple[float, float]]:
    """Capacity, an outcome for each load, and memory before and after twice the capacity."""
    seconds, full_s = _lengths(effort)
    capacity_s = _QUICK_CAPACITY_SECONDS if effort.quick else _CAPACITY_SECONDS
    warmup_s = _QUICK_WARMUP_S if effort.quick else _WARMUP_S
    settle_s = 0.0 if effort.quick else _SETTLE_S

    async def capacity() -> float:
        return await measure_capacity(service, calls(), seconds=capacity_s, warmup_s=warmup_s)

    at_first = await capacity()
    print(f"  {path}: {at_first:.1f}/s over {CONNECTIONS} connections", flush=True)
    outcomes: dict[float, Outcome] = {}
    before_mb = service.resident_mb
    for number, share in enumerate(_QUICK_LOADS if effort.quick else LOADS):
        await asyncio.sleep(settle_s)
        before_mb = service.resident_mb
        phase = Phase(
            kind="open",
            rate=share * at_first,
            calls=calls(),
            seconds=full_s if share == _OVER else seconds,
            warmup_s=warmup_s,
            seed=number + 1,
            label=f"{path} at {share:.0%}",
        )
        outcomes[share] = await measure(service, phase, answered=False)
        print(f"  {phase.label}: {_line(outcomes[share])}", flush=True)
    await asyncio.sleep(settle_s)
    after_mb = service.resident_mb
    both = statistics.fmean((at_first, await capacity()))
    return both, outcomes, (before_mb, after_mb)


def _latency_ratios(outcomes: Mapping[float, Outcome]) -> dict[str, float]:
    """The ratios of latencies, if there are any; both should be 1 or more."""
    near, over = outcomes[_NEAR], outcomes[_OVER]
    found = {}
    if near.latency_ms and over.latency_ms:
        found["p99_at_90_twice_over_p99_at_200"] = (
            2 * near.latency_ms["p99"] / over.latency_ms["p99"]
        )
    if over.refused_ms:
        found["refused_50ms_over_p99"] = _REFUSED_WITHIN_MS / over.refused_ms["p99"]
    return found


def _line(outcome: Outcome) -> str:
    text = f"{outcome.goodput_per_s:.1f}/s of {outcome.offered:.1f}/s"
    if outcome.latency_ms:
        text += f", p50 {outcome.latency_ms['p50']:.0f} ms, p99 {outcome.latency_ms['p99']:.0f} ms"
    if outcome.refused_ms:
        text += f", {outcome.refused} refused with p99 {outcome.refused_ms['p99']:.1f} ms"
    others = outcome.codes | outcome.errors
    return f"{text}, {others}" if others else text
