"""The specification of a load run and its outcome, as objects and as JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bench.load.histogram import Latencies

OBJECTIVE_NONE = 0.0
REFUSED = frozenset({429, 503})
"""Statuses of a server that says that it has enough to do."""


@dataclass(frozen=True, slots=True)
class Call:
    """One prepared request; Host and Content-Length are added to its headers."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(slots=True, kw_only=True)
class Phase:
    """One stretch of load.

    kind: "closed" keeps `connections` busy, each sending its next request at once; "open" sends
        `rate` requests a second on average, at the times of a Poisson process, over as many
        connections as that takes.
    seconds: measured, after `warmup_s` of the same load that is not.
    calls: sent in turn, again and again.
    objective_ms: the latency within which an answer counts for the goodput; 0 = any.
    timeout_s: for one request; it ends in the error "timeout", and its connection is closed.
    seed: of the arrival times.
    collect: hand back every measured answer with its body.
    """

    kind: Literal["closed", "open"]
    calls: Sequence[Call]
    seconds: float
    connections: int = 1
    rate: float = 0.0
    warmup_s: float = 1.0
    label: str = ""
    objective_ms: float = OBJECTIVE_NONE
    timeout_s: float = 60.0
    seed: int = 1
    collect: bool = False

    def __post_init__(self) -> None:
        if not self.calls:
            raise ValueError("a phase needs a call to make")
        if self.seconds <= 0:
            raise ValueError("a phase measures for more than 0 seconds")
        if self.kind == "closed" and self.connections < 1:
            raise ValueError("a closed loop needs a connection")
        if self.kind == "open" and self.rate <= 0:
            raise ValueError("an open loop needs a rate above 0")


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's end.

    call: its index in the phase's calls. status: 0 where there was no whole answer; `error` then
        says why. sent_at: intended send, in seconds since the epoch. seconds: from it to the end.
    """

    call: int
    status: int
    body: bytes
    error: str
    sent_at: float
    seconds: float


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of one phase.

    Counts and latencies are of the requests that were to be sent within the measured seconds,
    however late they ended; a latency counts from the intended send. The goodput is of those
    answers, 2xx and within the objective, that arrived within the measured seconds.

    offered: requests a second. ok: answers with 2xx within the objective. codes: of the `code` in
        the JSON of answers that are not 2xx. errors: "connect", "before_answer" (the connection
        went before a byte of an answer), "in_answer" (in the middle), "timeout", "malformed".
    latency_ms: of 2xx, p50 to p99.9 and max; refused_ms: of 429 and 503. Empty without any.
    lag_ms: actual minus intended send; empty for a closed loop, whose sends are never late.
    client_cpu_share: of one core, of the whole client process while this phase measured.
    """

    label: str
    kind: str
    seconds: float
    offered: float
    sent: int
    ok: int
    goodput_per_s: float
    statuses: dict[int, int]
    codes: dict[str, int]
    errors: dict[str, int]
    latency_ms: dict[str, float]
    refused_ms: dict[str, float]
    lag_ms: dict[str, float]
    client_cpu_share: float
    most_connections: int
    latency_hdr: str = ""
    refused_hdr: str = ""
    answers: list[Answer] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Answers with 429 or 503."""
        return sum(self.statuses.get(status, 0) for status in REFUSED)

    def document(self) -> dict[str, Any]:
        """The figures for a file: without answers and raw histograms."""
        kept = asdict(self)
        for name in ("answers", "latency_hdr", "refused_hdr"):
            del kept[name]
        return kept


def merged(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """latency_ms and refused_ms over several outcomes, from their histograms."""
    return {
        "latency_ms": Latencies.decoded(each.latency_hdr for each in outcomes).summary_ms(),
        "refused_ms": Latencies.decoded(each.refused_hdr for each in outcomes).summary_ms(),
    }


def encode(url: str, groups: Sequence[Sequence[Phase]]) -> dict[str, Any]:
    """A run's specification for a file; a body that many calls share stands there once."""
    bodies: dict[bytes, int] = {}

    def call(given: Call) -> dict[str, Any]:
        index = bodies.setdefault(given.body, len(bodies))
        return {
            "method": given.method,
            "path": given.path,
            "headers": [list(pair) for pair in given.headers],
            "body": index,
        }

    def phase(given: Phase) -> dict[str, Any]:
        # Not asdict, which would copy every body.
        plain = {name: getattr(given, name) for name in Phase.__slots__ if name != "calls"}
        return {**plain, "calls": [call(each) for each in given.calls]}

    described = [[phase(each) for each in group] for group in groups]
    return {
        "url": url,
        "groups": described,
        "bodies": [base64.b64encode(body).decode("ascii") for body in bodies],
    }


def decode(document: Mapping[str, Any]) -> tuple[str, list[list[Phase]]]:
    """The URL and the groups of phases of a specification."""
    bodies = [base64.b64decode(body) for body in document["bodies"]]

    def call(given: Mapping[str, Any]) -> Call:
        headers = tuple((name, value) for name, value in given.get("headers", ()))
        return Call(given["method"], given["path"], headers, bodies[given["body"]])

    def phase(given: Mapping[str, Any]) -> Phase:
        return Phase(**{**given, "calls": [call(each) for each in given["calls"]]})

    return document["url"], [[phase(each) for each in group] for group in document["groups"]]


def encode_outcome(outcome: Outcome) -> dict[str, Any]:
    """Everything of an outcome, for a file."""
    kept = asdict(outcome)
    for answer in kept["answers"]:
        answer["body"] = base64.b64encode(answer["body"]).decode("ascii")
    return kept


def decode_outcome(document: Mapping[str, Any]) -> Outcome:
    """The outcome back from a file."""
    given = dict(document)
    given["statuses"] = {int(key): value for key, value in given["statuses"].items()}
    given["answers"] = [
        Answer(**{**answer, "body": base64.b64decode(answer["body"])})
        for answer in given["answers"]
    ]
    return Outcome(**given)
