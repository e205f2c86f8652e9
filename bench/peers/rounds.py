"""The rounds: every server in turn under the same loads, beside the raw session."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import simplejpeg

from bench.common.harness import Pixels
from bench.common.measure import Samples
from bench.load import Outcome, Phase
from bench.load import run as run_load
from bench.peers.contestants import MAX_BATCH_SIZE
from bench.peers.process import Served
from service.runtime.sessions import ModelSession

FACETTE = "Facette"
CONNECTIONS = 16
LOAD = 0.7
ANSWER_TIMEOUT_S = 10.0
# Of all that was asked for in an open loop; a server below it does not keep up.
_KEEPS_UP = 0.999

Open = Callable[[], AbstractContextManager[Served]]
"""Starts a server for the time of a block."""


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds of each load, and of the warm-up before it."""

    warmup: float = 1.0
    closed: float = 5.0
    lone: float = 2.0
    open: float = 8.0
    open_own: float = 3.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One server's figures in one round.

    capacity: requests a second, 16 connections. processor_ms: of the server, a request then.
    lone_ms: median with one connection. failed: answers of these two that were no success. same,
    own: open loops at the rate that all servers get, and at 70 % of this turn's own capacity.
    """

    capacity: float
    processor_ms: float
    lone_ms: float
    failed: int
    same: Outcome
    own: Outcome


@dataclass(slots=True)
class Findings:
    """Results of all rounds, by contestant."""

    turns: dict[str, list[Turn]] = field(default_factory=dict)
    raw: list[float] = field(default_factory=list)
    raw_lone_ms: list[float] = field(default_factory=list)
    same_rates: list[float] = field(default_factory=list)

    def samples(self, name: str, figure: Callable[[Turn], float]) -> Samples:
        """A figure of every round."""
        return Samples(tuple(figure(turn) for turn in self.turns[name]))

    def keeps_up(self, name: str) -> bool:
        """Whether all but a thousandth was answered at the rate that all get."""
        sent = sum(turn.same.sent for turn in self.turns[name])
        return sum(turn.same.ok for turn in self.turns[name]) >= _KEEPS_UP * sent


class Rounds:
    """Runs them.

    servers: by name, Facette among them. files: JPEG crops of the model's size. workers: threads
    that call the raw session.
    """

    def __init__(
        self,
        servers: Mapping[str, Open],
        session: ModelSession,
        files: Sequence[bytes],
        durations: Durations,
        workers: int,
    ) -> None:
        self._servers = servers
        self._session = session
        self._files = files
        self._durations = durations
        self._workers = workers
        decoded = [simplejpeg.decode_jpeg(jpeg, "RGB") for jpeg in files]
        self._stack = np.stack(decoded[:MAX_BATCH_SIZE])
        self._expected = {
            jpeg: self._session.run(pixels[None])[0][0]
            for jpeg, pixels in zip(files, decoded, strict=True)
        }
        self._capacities: dict[str, list[float]] = {name: [] for name in servers}

    def run(self, rounds: int) -> Findings:
        """Warm up, then measure everybody once a round.

        Raises:
            RuntimeError: a server does not come up, or answers wrongly.
        """
        found = Findings(turns={name: [] for name in self._servers})
        for name in self._servers:
            # Also where the first round gets its common rate from.
            print(f"  warming up: {name}", flush=True)
            with self._servers[name]() as served:
                served.check(self._expected)
                self._capacities[name].append(self._closed(served, CONNECTIONS).goodput_per_s)
        for number in range(rounds):
            rate = LOAD * self._best_peer_capacity()
            found.same_rates.append(rate)
            found.raw.append(self._raw(self._stack, self._workers))
            found.raw_lone_ms.append(1e3 / self._raw(self._stack[:1], 1))
            names = list(self._servers)
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                turn = self._turn(name, rate)
                found.turns[name].append(turn)
                print(
                    f"  round {number + 1} of {rounds}: {name}: {turn.capacity:.0f} requests/s, "
                    f"{turn.processor_ms:.2f} ms of processor each, lone {turn.lone_ms:.1f} ms, "
                    f"p99 {turn.same.latency_ms.get('p99', float('nan')):.0f} ms at {rate:.0f}/s",
                    flush=True,
                )
            print(
                f"  round {number + 1} of {rounds}: raw session: {found.raw[-1]:.0f}/s", flush=True
            )
        return found

    def _best_peer_capacity(self) -> float:
        return max(
            statistics.median(values)
            for name, values in self._capacities.items()
            if name != FACETTE
        )

    def _turn(self, name: str, rate: float) -> Turn:
        with self._servers[name]() as served:
            served.check(self._expected)
            # Before any load: a batcher that learns from it would make a lone request wait.
            lone = self._closed(served, 1, self._durations.lone)
            self._load(served, self._phase(served, "closed", self._durations.warmup))
            before = served.processor_s()
            closed = self._closed(served, CONNECTIONS)
            processor_s = served.processor_s() - before
            capacity = closed.goodput_per_s
            self._capacities[name].append(capacity)
            opened = self._durations.open, self._durations.open_own
            same, own = (
                self._load(served, self._phase(served, "open", seconds, rate=each))
                for seconds, each in zip(opened, (rate, LOAD * capacity), strict=True)
            )
        return Turn(
            capacity=capacity,
            processor_ms=1e3 * processor_s / closed.ok,
            lone_ms=lone.latency_ms["p50"],
            failed=sum(each.sent - each.ok for each in (closed, lone)),
            same=same,
            own=own,
        )

    def _closed(self, served: Served, connections: int, seconds: float | None = None) -> Outcome:
        seconds = seconds or self._durations.closed
        outcome = self._load(
            served, self._phase(served, "closed", seconds, connections=connections)
        )
        if not outcome.ok:
            raise RuntimeError(f"{served.url}: {outcome.statuses} {outcome.errors}")
        return outcome

    def _phase(
        self,
        served: Served,
        kind: Literal["closed", "open"],
        seconds: float,
        *,
        connections: int = CONNECTIONS,
        rate: float = 0.0,
    ) -> Phase:
        return Phase(
            kind=kind,
            calls=[served.call(jpeg) for jpeg in self._files],
            seconds=seconds,
            connections=connections,
            rate=rate,
            warmup_s=0.0 if kind == "closed" else 1.0,
            timeout_s=ANSWER_TIMEOUT_S,
        )

    def _load(self, served: Served, phase: Phase) -> Outcome:
        return run_load(served.url, [phase], progress=False)[0]

    def _raw(self, stack: Pixels, threads: int) -> float:
        """Faces a second of calls of one stack, from all workers."""
        ends = time.perf_counter() + self._durations.closed

        def call_until_the_end(_: int) -> int:
            calls = 0
            while time.perf_counter() < ends:
                self._session.run(stack)
                calls += 1
            return calls

        started = time.perf_counter()
        with ThreadPoolExecutor(threads) as executor:
            calls = sum(executor.map(call_until_the_end, range(threads)))
        return calls * len(stack) / (time.perf_counter() - started)
