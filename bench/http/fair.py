"""Two tenants: latencies of one while the other floods the service."""

from __future__ import annotations

import asyncio
import statistics

from bench import load
from bench.common.harness import default_settings
from bench.common.photos import LONG_SIDE
from bench.common.photos import load as load_photos
from bench.common.result import Effort, Result
from bench.http.service import (
    CONNECTIONS,
    INSERT,
    describe_service,
    measure,
    measure_capacity,
    photo_calls,
    running_service,
)
from bench.load import Outcome, Phase, merged

_CAPACITY_SECONDS = 12.0
_SECONDS = 15.0
_QUICK_SECONDS = 1.5
_QUICK_CAPACITY_SECONDS = 3.0
_WARMUP_S = 2.0
_QUICK_WARMUP_S = 0.5
# Photos of the quiet tenant to be expected of a round, however slow the machine is.
_FEWEST = 6
# Of the capacity. Half of it is the share of each; the flood is ten times that.
_QUIET, _FLOOD = 0.2, 5.0
_ALLOWED = 1.5


async def run(effort: Effort) -> Result:
    """Measure one tenant's latencies alone and beside a flood, in alternating pairs."""
    seconds = _QUICK_SECONDS if effort.quick else _SECONDS
    warmup_s = _QUICK_WARMUP_S if effort.quick else _WARMUP_S
    settings = default_settings()
    photos = load_photos(LONG_SIDE, 4 if effort.quick else 24)
    alone: list[Outcome] = []
    flooded: list[Outcome] = []
    floods: list[Outcome] = []
    with running_service() as service:
        capacity = await measure_capacity(
            service,
            photo_calls(photos, form=False),
            seconds=_QUICK_CAPACITY_SECONDS if effort.quick else _CAPACITY_SECONDS,
        )
        print(f"  capacity {capacity:.1f}/s", flush=True)
        seconds = max(seconds, _FEWEST / (_QUIET * capacity))
        quiet_calls, flood_calls = (photo_calls(photos, form=False) for _ in range(2))

        def quiet(seed: int) -> Phase:
            # The same arrivals alone and flooded.
            return Phase(
                kind="open",
                rate=_QUIET * capacity,
                calls=quiet_calls,
                seconds=seconds,
                warmup_s=warmup_s,
                seed=seed,
                label="quiet tenant",
            )

        for number in range(effort.rounds):
            alone.append(await measure(service, quiet(number)))
            flood = Phase(
                kind="open",
                rate=_FLOOD * capacity,
                calls=flood_calls,
                seconds=seconds,
                warmup_s=warmup_s,
                seed=1000 + number,
                label="flooding tenant",
            )
            (beside,), (other,) = await asyncio.to_thread(
                load.run_together, service.url, [[quiet(number)], [flood]]
            )
            flooded.append(beside)
            floods.append(other)
            print(f"  round {number + 1} of {effort.rounds}: {_line(alone, flooded)}", flush=True)
        configuration = describe_service(service, settings)
    before, after = (merged(outcomes)["latency_ms"] for outcomes in (alone, flooded))
    over_alone = after["p99"] / before["p99"]
    return Result(
        unit="ms",
        rates={},
        compared={},
        other_ratios={
            "fair_p99_alone_vs_flooded": _ALLOWED / over_alone,
            # Refused photos are starvation, too, so their share is compared as well.
            "fair_served_flooded_vs_alone": _served(flooded) / _served(alone),
        },
        details={
            "latency_ms": {
                "quiet tenant, alone": before,
                "quiet tenant, beside the flood": after,
                "flooding tenant": merged(floods)["latency_ms"],
            },
            "fair_p99_flooded_over_alone": round(over_alone, 4),
            "fair_p99_by_round": [
                [a.latency_ms["p99"], b.latency_ms["p99"]]
                for a, b in zip(alone, flooded, strict=True)
            ],
            "tables": {
                "tenants": {
                    "head": ["tenant", "offered /s", "goodput /s", "refused", "client, of a core"],
                    "rows": [
                        _row("quiet, alone", alone),
                        _row("quiet, beside the flood", flooded),
                        _row("flooding", floods),
                    ],
                }
            },
        },
        configuration={
            "path": INSERT,
            "rounds": effort.rounds,
            "seconds": seconds,
            "capacity_per_s": round(capacity, 2),
            "long_side": LONG_SIDE,
            **configuration,
        },
        notes=[
            (
                f"One tenant inserts photos at {_QUIET:.0%} of the capacity of {capacity:.1f}/s "
                f"(closed loop, {CONNECTIONS} connections), alone and beside another that offers "
                f"{_FLOOD:.0%}, ten times its half; raw bodies, open loop, pairs of {seconds:g} s "
                "with the same arrivals."
            ),
            (
                f"The ratio is {_ALLOWED:g} times the p99 alone over that beside the flood, of all "
                f"rounds together: beside the flood it is {over_alone:.2f} times that alone. "
                "Served is the share of its photos that were taken."
            ),
        ],
    )


def _served(outcomes: list[Outcome]) -> float:
    return sum(each.ok for each in outcomes) / sum(each.sent for each in outcomes)


def _row(name: str, outcomes: list[Outcome]) -> list[str]:
    sent = sum(each.sent for each in outcomes)
    offered, goodput, client = (
        statistics.fmean(values)
        for values in (
            [each.offered for each in outcomes],
            [each.goodput_per_s for each in outcomes],
            [each.client_cpu_share for each in outcomes],
        )
    )
    refused = sum(each.refused for each in outcomes)
    return [name, f"{offered:.1f}", f"{goodput:.1f}", f"{refused / sent:.1%}", f"{client:.1%}"]


def _line(alone: list[Outcome], flooded: list[Outcome]) -> str:
    before, after = alone[-1].latency_ms, flooded[-1].latency_ms
    return f"p99 alone {before['p99']:.0f} ms, flooded {after['p99']:.0f} ms"
