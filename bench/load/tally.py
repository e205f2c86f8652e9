"""Counts the ends of the requests of one phase, and computes its outcome."""

from __future__ import annotations

import time
from collections import Counter, deque

import orjson

from bench.load.connection import Exchange
from bench.load.histogram import Latencies
from bench.load.plan import REFUSED, Answer, Outcome, Phase

_RECENT = 1000


class Tally:
    """The counts of a phase, and whether a moment is within its measured time."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.begin = self.end = float("inf")
        self.most_connections = 0
        # For the progress line.
        self.in_flight = 0
        self.finished = 0
        self.refused = 0
        self.recent_s: deque[float] = deque(maxlen=_RECENT)
        self._objective_s = phase.objective_ms / 1e3 or float("inf")
        self._sent = 0
        self._ok = 0
        self._ok_in_time = 0
        self._statuses: Counter[int] = Counter()
        self._codes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._latency = Latencies()
        self._refused = Latencies()
        self._lag = Latencies()
        self._answers: list[Answer] = []
        self._epoch_s = 0.0
        self._cpu_began_s = self._cpu_s = 0.0

    def start(self, at: float) -> None:
        """The load begins at `at`, on the clock of `time.perf_counter`."""
        self.begin = at + self.phase.warmup_s
        self.end = self.begin + self.phase.seconds
        self._epoch_s = time.time() - time.perf_counter()

    def measuring_begins(self) -> None:
        self._cpu_began_s = time.process_time()

    def measuring_ends(self) -> None:
        self._cpu_s = time.process_time() - self._cpu_began_s

    def sent(self, call: int, intended: float) -> Exchange:
        """A request is due."""
        self.in_flight += 1
        measured = self.begin <= intended < self.end
        self._sent += measured
        return Exchange(call, intended, measured)

    def lag(self, exchange: Exchange, now: float) -> None:
        """A request of an open loop is written."""
        if exchange.measured:
            self._lag.record(now - exchange.intended)

    def answered(self, exchange: Exchange, now: float, status: int, body: bytes) -> None:
        """A request was answered."""
        latency = now - exchange.intended
        self.in_flight -= 1
        self.finished += 1
        good = 200 <= status < 300
        if status in REFUSED:
            self.refused += 1
        else:
            self.recent_s.append(latency)
        if good and latency <= self._objective_s and self.begin <= now < self.end:
            self._ok_in_time += 1
        if not exchange.measured:
            return
        self._statuses[status] += 1
        if good:
            self._latency.record(latency)
            self._ok += latency <= self._objective_s
        else:
            if status in REFUSED:
                self._refused.record(latency)
            if code := _code(body):
                self._codes[code] += 1
        if self.phase.collect:
            self._keep(exchange, status, body, "", latency)

    def failed(self, exchange: Exchange, now: float, error: str) -> None:
        """A request ended without a whole answer."""
        self.in_flight -= 1
        self.finished += 1
        if exchange.measured:
            self._errors[error] += 1
            if self.phase.collect:
                self._keep(exchange, 0, b"", error, now - exchange.intended)

    def _keep(
        self, exchange: Exchange, status: int, body: bytes, error: str, seconds: float
    ) -> None:
        at = self._epoch_s + exchange.intended
        self._answers.append(Answer(exchange.call, status, body, error, at, seconds))

    def outcome(self) -> Outcome:
        """The outcome of the phase."""
        phase = self.phase
        closed = phase.kind == "closed"
        return Outcome(
            label=phase.label,
            kind=phase.kind,
            seconds=phase.seconds,
            offered=self._sent / phase.seconds if closed else phase.rate,
            sent=self._sent,
            ok=self._ok,
            goodput_per_s=self._ok_in_time / phase.seconds,
            statuses=dict(self._statuses),
            codes=dict(self._codes),
            errors=dict(self._errors),
            latency_ms=self._latency.summary_ms(),
            refused_ms=self._refused.summary_ms(),
            lag_ms=self._lag.summary_ms(),
            client_cpu_share=round(self._cpu_s / phase.seconds, 4),
            most_connections=self.most_connections,
            latency_hdr=self._latency.encoded(),
            refused_hdr=self._refused.encoded(),
            answers=self._answers,
        )


def _code(body: bytes) -> str:
    """The stable code of an error answer, as Facette and many others have it; else nothing."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = document.get("error", document) if isinstance(document, dict) else None
    code = error.get("code") if isinstance(error, dict) else error
    return code if isinstance(code, str) else ""
