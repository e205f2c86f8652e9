"""Summary of the rounds: rates, ratios, latencies and notes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bench.common.measure import Samples, ratio
from bench.common.result import Result
from bench.peers.contestants import MAX_BATCH_SIZE, Peer
from bench.peers.rounds import ANSWER_TIMEOUT_S, CONNECTIONS, FACETTE, LOAD, Findings, Turn

_ONE_PERCENT = 0.01
_RAW = f"raw session, calls of {MAX_BATCH_SIZE}"


def summarize(
    found: Findings,
    peers: Sequence[Peer],
    model: str,
    files: Sequence[bytes],
    configuration: Mapping[str, Any],
) -> Result:
    """Rates, ratios, latencies and notes of all rounds."""
    rates = {name: found.samples(name, lambda turn: turn.capacity) for name in found.turns}
    rates[_RAW] = Samples(tuple(found.raw))
    lone = {name: found.samples(name, lambda turn: turn.lone_ms) for name in found.turns}
    same = {name: found.samples(name, partial(_p99, "same")) for name in found.turns}
    own = {name: found.samples(name, partial(_p99, "own")) for name in found.turns}
    names = [peer.name for peer in peers]
    fastest = max(names, key=lambda name: rates[name].median)
    prompt = min(names, key=lambda name: lone[name].median)
    steady = min(names, key=lambda name: same[name].median)
    failed = {name: sum(turn.failed for turn in found.turns[name]) for name in found.turns}
    failures = ", ".join(f"{name} {count}" for name, count in failed.items() if count)
    behind = [name for name in found.turns if not found.keeps_up(name)]
    processor = {
        name: found.samples(name, lambda turn: turn.processor_ms).median for name in found.turns
    }
    listed = ", ".join(f"{name} {value:.2f}" for name, value in processor.items())
    rate = statistics.median(found.same_rates)
    return Result(
        unit="requests/s",
        rates=rates,
        compared={
            "embed_throughput_vs_best_peer": (FACETTE, fastest),
            **{f"embed_throughput_vs_{peer.key}": (FACETTE, peer.name) for peer in peers},
            "embed_http_vs_raw_session": (FACETTE, _RAW),
        },
        other_ratios={
            "embed_p99_best_peer_vs_facette": ratio(same[steady], same[FACETTE]),
            "embed_lone_median_best_peer_vs_facette": ratio(lone[prompt], lone[FACETTE]),
        },
        details={
            "latency_ms": {
                name: {
                    "lone, p50": round(lone[name].median, 2),
                    "same rate, p50": round(
                        found.samples(name, lambda turn: turn.same.latency_ms["p50"]).median, 2
                    ),
                    "same rate, p99": round(same[name].median, 2),
                    "70 % of its own, p99": round(own[name].median, 2),
                }
                for name in found.turns
            },
            "processor_ms_a_request": {n: round(value, 3) for n, value in processor.items()},
            "same_rates": [round(each, 1) for each in found.same_rates],
            "turns": {
                name: [
                    {
                        "lone_ms": turn.lone_ms,
                        "failed": turn.failed,
                        "same": turn.same.document(),
                        "own": turn.own.document(),
                    }
                    for turn in turns
                ]
                for name, turns in found.turns.items()
            },
        },
        configuration={
            "connections": CONNECTIONS,
            "max_batch_size": MAX_BATCH_SIZE,
            "load": LOAD,
            "crops": len(files),
            "peers": {peer.key: {"max_wait_ms": peer.max_wait_ms} for peer in peers},
            **configuration,
        },
        notes=[
            (
                f"One 160x160 JPEG crop a request, {_kib(files)} KiB on average, and 512 numbers "
                f"as JSON back; {CONNECTIONS} connections, each sending when it has its answer. "
                "Client and server share the cores; the raw session has them to itself, and takes "
                f"pixels: {statistics.median(found.raw_lone_ms):.1f} ms for a call of one crop."
            ),
            (
                f"Every server has the same file ({model}), "
                "ONNX Runtime and session options, the same JPEG decoder, two workers and batches "
                f"of up to {MAX_BATCH_SIZE}; its answers are the session's (cosine above 0.9999). "
                "It runs for its turn only; the order moves on by one each round."
            ),
            (
                f"Same rate: Poisson arrivals at {LOAD * 100:.0f} % of the best peer's throughput "
                f"so far, {rate:.0f}/s in the median round. Best peer: {fastest} by throughput, "
                f"{steady} by p99, {prompt} by a lone request."
                + (f" Not keeping up with it: {', '.join(behind)}." if behind else "")
            ),
            f"Processor time of the server, ms a request at {CONNECTIONS} connections: {listed}.",
            *([f"Requests that failed in closed loops: {failures}."] if failures else ()),
            *(peer.note for peer in peers),
        ],
    )


def _p99(load: str, turn: Turn) -> float:
    """In ms; a failed request counts as long as the client's timeout.

    So a server gains nothing by refusing.
    """
    outcome = {"same": turn.same, "own": turn.own}[load]
    if outcome.sent - outcome.ok > _ONE_PERCENT * outcome.sent:
        return ANSWER_TIMEOUT_S * 1e3
    return outcome.latency_ms["p99"]


def _kib(files: Sequence[bytes]) -> str:
    return f"{statistics.mean(map(len, files)) / 1024:.0f}"
