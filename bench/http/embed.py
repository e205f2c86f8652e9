"""POST /v1/embed with one face crop a request, next to the bare FaceNet session."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from bench.common.harness import Pixels, default_settings, sessions
from bench.common.measure import Rated, interleave_rated
from bench.common.photos import face_crops
from bench.common.result import Curve, Effort, Result
from bench.http.service import (
    CONNECTIONS,
    EMBED,
    crop_calls,
    describe_service,
    measure,
    running_service,
    settings_of,
)
from bench.load import Outcome, Phase
from service.runtime.sessions import ModelSession

_CONNECTIONS = (1, 2, 4, 8, 16, 32)
_BATCH = 8
_SECONDS = 4.0
_QUICK_SECONDS = 0.5
_RAW = f"raw session, batch {_BATCH}"


async def run(effort: Effort) -> Result:
    """Measure faces a second by connections."""
    seconds = _QUICK_SECONDS if effort.quick else _SECONDS
    connections = (1, CONNECTIONS) if effort.quick else _CONNECTIONS
    settings = default_settings()
    calls = crop_calls()
    outcomes: dict[int, list[Outcome]] = {count: [] for count in connections}
    with running_service() as service:
        session = sessions(settings_of(service, settings))["embedder"]
        batch = np.stack(face_crops(160, _BATCH))

        def over_http(count: int) -> Rated:
            async def rate() -> float:
                phase = Phase(
                    kind="closed",
                    connections=count,
                    calls=calls,
                    seconds=seconds,
                    warmup_s=0.5,
                    label=_name(count),
                )
                # More connections than the service always takes may meet refusals.
                outcome = await measure(service, phase, answered=count <= CONNECTIONS)
                outcomes[count].append(outcome)
                return outcome.goodput_per_s

            return rate

        async def raw() -> float:
            return await asyncio.to_thread(_raw_rate, session, batch, settings.workers, seconds)

        rates = await interleave_rated(
            {_RAW: raw, **{_name(count): over_http(count) for count in connections}}, effort.rounds
        )
        configuration = describe_service(service, settings)
    measured = {count: found[1:] for count, found in outcomes.items()}  # without the warm-up
    return Result(
        unit="faces/s",
        rates=rates,
        compared={"embed_http_vs_raw_session": (_name(CONNECTIONS), _RAW)},
        curves={
            "connections": Curve(
                "connections",
                "faces/s",
                {
                    "POST /v1/embed": {n: rates[_name(n)] for n in connections},
                    _RAW: dict.fromkeys(map(float, connections), rates[_RAW]),
                },
            )
        },
        details={
            "latency_ms": {_name(count): _latency(found) for count, found in measured.items()},
            "client_cpu_share": {
                _name(count): statistics.median(each.client_cpu_share for each in found)
                for count, found in measured.items()
            },
        },
        configuration={"path": EMBED, "seconds": seconds, "batch": _BATCH, **configuration},
        notes=[
            (
                "One crop of 160 x 160 pixels a request, a JPEG file as the raw body, "
                f"{len(calls)} of them in turn; the client has a process of its own on the same "
                "cores and connections that stay open. Latencies are medians over the rounds."
            ),
            (
                f"The raw session runs calls of {_BATCH} on pixels that are ready, in "
                f"{settings.workers} threads of {settings.sessions.intra_op_threads} intra-op "
                f"thread each, in the service's precision ({session.placement.precision}), while "
                "the service has nothing to do."
            ),
            _client_note(measured[CONNECTIONS]),
        ],
    )


def _raw_rate(session: ModelSession, batch: Pixels, threads: int, seconds: float) -> float:
    """Faces a second of a session that is called again and again by each thread."""
    together = threading.Barrier(threads)

    def call() -> float:
        together.wait()
        started, faces = time.perf_counter(), 0
        while (taken := time.perf_counter() - started) < seconds:
            session.run(batch)
            faces += len(batch)
        return faces / taken

    with ThreadPoolExecutor(threads) as executor:
        return sum(each.result() for each in [executor.submit(call) for _ in range(threads)])


def _latency(outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {
        share: round(statistics.median(each.latency_ms[share] for each in outcomes), 2)
        for share in ("p50", "p95", "p99")
    }


def _client_note(outcomes: Sequence[Outcome]) -> str:
    share = statistics.median(each.client_cpu_share for each in outcomes)
    each_us = statistics.median(
        each.client_cpu_share * each.seconds / each.sent * 1e6 for each in outcomes
    )
    return (
        f"The client takes {share:.1%} of one core at {CONNECTIONS} connections, {each_us:.0f} us "
        "a request."
    )


def _name(connections: int) -> str:
    return f"HTTP, {connections} connection{'s' * (connections > 1)}"
