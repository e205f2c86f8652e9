"""The ceilings of the networks on this machine, the rates that they reach, and what follows.

Williams et al., "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
CACM 2009: a program is bounded by the peak of its arithmetic, or by the bytes that have to come
from memory for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.common.harness import (
    by_callers,
    default_settings,
    describe,
    running_analyzer,
    sessions,
)
from bench.common.machine import OtherWork
from bench.common.measure import Rated, Samples, interleave_rated
from bench.common.photos import LONG_SIDE, Photo, load, source
from bench.common.result import Effort, Result
from bench.inprocess import peaks, photo_work
from bench.inprocess.networks import Kind, Network, all_networks
from bench.inprocess.operations import Work
from bench.inprocess.photo_work import Share
from service.analysis.analyzer import Analyzer
from service.batching import free_ticket
from service.domain.types import AnalyzedPhoto
from service.machine.cpu import cpu_flags, usable_cores
from service.telemetry import StageClock

_CALLERS = 16
_GIGA = 1e9
_SECONDS, _QUICK_SECONDS = 0.12, 0.01
_QUICK_ARRAY_BYTES = 1 << 24
_ONE, _ALL = "one core", "all cores"
_RAW, _ANALYSIS = "raw session, all cores", "analysis"


@dataclass(frozen=True, slots=True)
class Roofs:
    """Peaks of one core, or of all, in 10^9 a second: multiply-adds by kind, and bytes."""

    arithmetic: Mapping[Kind, float]
    bandwidth: float

    def ceiling(self, kind: Kind, work: Work) -> float | None:
        """The most 10^9 multiply-adds a second; None where that arithmetic has no measured peak."""
        if kind not in self.arithmetic:
            return None
        return min(self.arithmetic[kind], intensity(work) * self.bandwidth)

    def bound(self, kind: Kind, work: Work) -> str | None:
        """What the ceiling belongs to; None where there is none."""
        if kind not in self.arithmetic:
            return None
        peak = self.arithmetic[kind]
        if intensity(work) * self.bandwidth < peak:
            return "memory"
        if intensity(work, activations=True) * self.bandwidth < peak:
            return "arithmetic, with activations in a cache"
        return "arithmetic"


def intensity(work: Work, *, activations: bool = False) -> float:
    """Multiply-adds for each byte from or to memory.

    Args:
        activations: whether these go through memory too.
    """
    return work.multiply_adds / (work.memory_bytes + activations * work.activation_bytes)


async def run(effort: Effort) -> Result:
    """Measure peaks, networks and the analysis in turn."""
    others, settings = OtherWork(), default_settings()
    models, networks = sessions(settings), all_networks()
    photos = load(LONG_SIDE, 4 if effort.quick else 24)
    seconds = _QUICK_SECONDS if effort.quick else _SECONDS
    cores, size = usable_cores(), _QUICK_ARRAY_BYTES if effort.quick else peaks.array_bytes()
    embedder = _served(networks, models["embedder"].placement.precision)
    processor_ms: list[float] = []

    def rated(loop: peaks.Loop, amount: float) -> Rated:
        return lambda: asyncio.to_thread(peaks.best_rate, loop, amount, seconds)

    shares = dict(await photo_work.count(settings, [photo.pixels for photo in photos]))
    tops = dict(_peaks(cores, size))
    async with running_analyzer(settings) as analyzer:
        faces = sum([len((await _analyze(analyzer, photo)).faces) for photo in photos])
        rates = await interleave_rated(
            {
                **{name: rated(peak.loop, peak.amount / _GIGA) for name, peak in tops.items()},
                **{
                    each.label: rated(each.call, each.work.multiply_adds / _GIGA)
                    for each in networks
                },
                _RAW: rated(peaks.together([embedder.call] * cores), embedder.items * cores),
                _ANALYSIS: partial(_analysis, analyzer, photos, processor_ms),
            },
            effort.rounds,
        )
    shares[embedder.key] = Share(faces, faces * embedder.work.multiply_adds // embedder.items)
    roofs = {where: _roofs(rates, where) for where in (_ONE, _ALL)}
    return Result(
        unit="",
        rates={},
        compared={},
        details={
            "roofline": {
                "cores": cores,
                "peaks": {name: rates[name].document() for name in tops},
                "networks": [_row(each, rates[each.label], roofs) for each in networks],
                "photo": {
                    # The first one is the warm-up.
                    "processor_ms": round(min(processor_ms[1:]), 3),
                    "parts": [
                        _part(each, shares[each.key], len(photos))
                        for each in networks
                        if each.key in shares and (each.key != embedder.key or each is embedder)
                    ],
                },
                "embedder": embedder.label,
                "analysis": rates[_ANALYSIS].document(),
                "raw_session": rates[_RAW].document(),
                "other_work": round(others.share(), 3),
            }
        },
        configuration={
            "rounds": effort.rounds,
            "photos": len(photos),
            "faces": faces,
            "long_side": LONG_SIDE,
            "callers": _CALLERS,
            "array_bytes": size,
            **describe(settings, models),
        },
        notes=[
            (
                f"Every rate is that of the fastest call in {seconds:g} s, in the best of "
                f"{effort.rounds} rounds in which all take turns, beside the slowest round. Other "
                f"programs took {others.share():.0%} of the processor time meanwhile."
            ),
            (
                f"Memory: arrays of {size >> 20} MiB. The roofs have the faster of reading and "
                "copying, in which a byte counts when it is read and when it is written."
            ),
            (
                f"A photo: the mean of {len(photos)} photos with {faces} faces, longer side "
                f"{LONG_SIDE} px. Cells, tiles and crops of every pass are counted in a detection; "
                "a tile and a crop count with their own sizes."
            ),
            *_about_screens(networks),
            *_lacking(networks),
        ],
    )


def _served(networks: Sequence[Network], precision: str) -> Network:
    """The embedder in the service's precision, in its largest calls."""
    return max(
        (each for each in networks if each.key == f"embedder {precision}"),
        key=lambda each: each.items,
    )


def _peaks(cores: int, size: int) -> Iterator[tuple[str, peaks.Peak]]:
    """Every peak, on one core and on all."""
    for where, n in ((_ONE, 1), (_ALL, cores)):
        for kind, peak in peaks.arithmetic().items():
            loop = peaks.together([peak.loop] * n)
            yield f"{kind}, {where}", peaks.Peak(loop, peak.amount * n)
        for way, moved in peaks.memory(n, size).items():
            yield f"{way}, {where}", moved


def _roofs(rates: Mapping[str, Samples], where: str) -> Roofs:
    kinds: tuple[Kind, ...] = ("int8", "float32")
    return Roofs(
        {kind: _best(rates[name]) for kind in kinds if (name := f"{kind}, {where}") in rates},
        max(_best(rates[f"{way}, {where}"]) for way in ("read", "copy")),
    )


def _best(rates: Samples) -> float:
    return rates.spread[1]


def _row(network: Network, rates: Samples, roofs: Mapping[str, Roofs]) -> dict[str, Any]:
    """The network's place under the roofs; multiply-adds in 10^9 a second."""
    work, items, kind = network.work, network.items, network.kind
    ceiling, all_cores = (roofs[where].ceiling(kind, work) for where in (_ONE, _ALL))
    return {
        "network": network.label,
        "kind": kind,
        "items": items,
        "multiply_adds": work.multiply_adds / items,
        "weight_bytes": work.weight_bytes / items,
        "data_bytes": work.data_bytes / items,
        "activation_bytes": work.activation_bytes / items,
        "intensity": intensity(work),
        "intensity_with_activations": intensity(work, activations=True),
        "ceiling": ceiling,
        "ceiling_all_cores": all_cores,
        "reached": rates.document(),
        "share": None if ceiling is None else _best(rates) / ceiling,
        "bound": roofs[_ONE].bound(kind, work),
    }


def _part(network: Network, share: Share, photos: int) -> dict[str, Any]:
    """What a photo takes of a network."""
    return {
        "network": network.label,
        "item": network.item,
        "items": share.items / photos,
        "multiply_adds": share.multiply_adds / photos,
    }


def _about_screens(networks: Sequence[Network]) -> Iterator[str]:
    padded = {each.name: each.padded for each in networks if each.padded > 1}
    if padded:
        shown = " and ".join(f"{factor:.2f} times ({name})" for name, factor in padded.items())
        yield (
            "Multiply-adds of the screens are those of their layers. Their instructions do "
            f"{shown} as many: rows of three pixels fill nine of twelve bytes, and channels are "
            "padded to sixteen. R-Net's screen includes the resampling of its crops."
        )


def _lacking(networks: Sequence[Network]) -> Iterator[str]:
    if "int8" not in peaks.arithmetic():
        yield (
            "This processor lacks AVX512-VNNI: the peak of products of bytes was not measured, "
            "and the networks in int8 have no ceiling here."
        )
    if "amx_int8" in cpu_flags():
        yield (
            "The peak in int8 is that of AVX512-VNNI. This processor has AMX as well, with which "
            "a network in int8 may be above that ceiling."
        )
    if not any(each.key.startswith("sface") for each in networks):
        yield (
            "SFace is left out, as it is not exported: "
            "`python -m export --models-dir models/sface --weights sface`."
        )


async def _analysis(
    analyzer: Analyzer, photos: Sequence[Photo], processor_ms: list[float]
) -> float:
    """Photos a second as `bench analyze` measures them; adds the processor time of a photo."""
    began_s, started = time.process_time(), time.perf_counter()
    await by_callers(photos, partial(_analyze, analyzer), _CALLERS)
    passed_s = time.perf_counter() - started
    processor_ms.append((time.process_time() - began_s) * 1e3 / len(photos))
    return len(photos) / passed_s


async def _analyze(analyzer: Analyzer, photo: Photo) -> AnalyzedPhoto:
    return await analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket())
