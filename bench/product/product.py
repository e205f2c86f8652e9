"""Operations of the product, each beside what it is made of; a part for each module in `PARTS`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bench.common.harness import default_settings, describe, sessions
from bench.common.result import Effort, Result
from bench.product import deciding, listing, searching, serving
from bench.product.place import SERVER, Part, Place, open_place

PARTS: Mapping[str, Callable[[Place], Awaitable[Part]]] = {
    "serving": serving.measure,
    "listing": listing.measure,
    "searching": searching.measure,
    "deciding": deciding.measure,
}
"""What is measured, in this order, in one database."""


async def run(effort: Effort) -> Result:
    """Measure every part; `effort.scale` makes the stored tenants smaller."""
    parts: list[Part] = []
    async with open_place(effort) as place:
        for name, measure in PARTS.items():
            print(f"  {name}", flush=True)
            parts.append(await measure(place))
        scale = place.scale
    settings = default_settings()
    described = describe(settings, sessions(settings))
    details: dict[str, Any] = {}
    for part in parts:
        details |= part.details
    return Result(
        unit="a second",
        rates={name: samples for part in parts for name, samples in part.rates.items()},
        compared={key: pair for part in parts for key, pair in part.compared.items()},
        other_ratios={key: value for part in parts for key, value in part.other_ratios.items()},
        details=details,
        configuration={
            **described,
            "scale": scale,
            "shared_buffers_mb": SERVER.shared_buffers_mb,
        },
        notes=[note for part in parts for note in part.notes],
    )
