"""Clients that send a whole request, or half of one, and hang up."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import statistics
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np

from bench.common import database
from bench.common.harness import MODELS, default_settings
from bench.common.server import TOKEN, ServiceProcess
from bench.drills.callers import DETECT, EMBED, INSERT, ask, marked
from bench.http.service import Scrape, by_label, scrape

# Limits admit every client, so that each one has work in progress when it hangs up.
_ROOM = {
    "FACETTE_SERVER_LOG_LEVEL": "warning",
    "FACETTE_SERVER_MAX_REQUESTS_IN_FLIGHT": "2000",
    "FACETTE_SERVER_MAX_WAIT_MS": "600000",
    "FACETTE_SERVER_STANDING_WAIT_MS": "600000",
}
_GAUGES = (
    "facette_requests_in_flight",
    "facette_bytes_in_flight",
    "facette_backlog_seconds",
    "facette_photos_in_work",
    "facette_batch_waiting",
)
_QUIET_TIMEOUT_S = 30.0
_LONGEST_WAIT_S = 1.0
_ALONE = 9
_ROUTES = (INSERT, EMBED, DETECT)
_ROUTE_SHARES = (0.5, 0.25, 0.25)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One client: the bytes it sends, the time until it hangs up, and whether by a reset."""

    route: str
    sent_share: float
    wait_s: float
    resets: bool


async def hangups(folder: Path, photos: Sequence[bytes], clients: int) -> dict[str, Any]:
    """Let many clients send and hang up, and return what they leave behind.

    A quarter goes amid the body, a quarter as soon as it has sent it, a quarter a while later, and
    the last quarter all at once.
    """
    service = await asyncio.to_thread(ServiceProcess(folder, MODELS, _ROOM).start)
    try:
        alone_before_s = await _alone(service, photos)
        before = await asyncio.to_thread(scrape, service)
        known = set((await database.stored(service)).rows)
        plans = _plans(clients)
        bodies = [marked(photos[number % len(photos)]) for number in range(clients)]
        await asyncio.gather(*map(_send_and_go, [service] * clients, plans, bodies))
        gone_at = time.monotonic()
        at_end = await asyncio.to_thread(scrape, service)
        after = await _quiet(service)
        quiet_s = time.monotonic() - gone_at
        found = await database.stored(service)
        alone_after_s = await _alone(service, photos)
    finally:
        status = await asyncio.to_thread(service.stop)
    sent = {hashlib.sha256(body).hexdigest() for body in bodies}
    rows = {key: rows for key, rows in found.rows.items() if key not in known}
    whole = [
        rows[key][0]
        for key in rows
        if key in sent and len(rows[key]) == 1 and rows[key][0].file_sha256 == key
    ]
    statuses = by_label(after, before, "facette_http_requests_total")
    seen = {
        "clients": clients,
        "answered_before_they_went": _with_status(statuses, "200"),
        "counted_as_gone": _grown(after, before, "facette_clients_gone_total"),
        "recorded_as_499": _with_status(statuses, "499"),
        "requests_recorded": sum(count for labels, count in statuses.items() if _is_post(labels)),
        "left_in_gauges": {name: _total(after, name) for name in _GAUGES},
        "quiet_after_s": quiet_s,
        "photos_decoded": _run(after, before, "decode"),
        "photos_decoded_after_they_went": _run(after, at_end, "decode"),
        "faces_embedded": _run(after, before, "embedder"),
        "faces_embedded_after_they_went": _run(after, at_end, "embedder"),
        "photos_in_work_at_most": default_settings().max_photos,
        "skipped_items": sum(by_label(after, before, "facette_abandoned_items_total").values()),
        "stored": len(rows),
        "stored_whole": len(whole),
        "files_without_row": found.files_without_row,
        "a_lone_request_before_ms": alone_before_s * 1e3,
        "a_lone_request_after_ms": alone_after_s * 1e3,
        "exit_statuses": [status],
    }
    return {**seen, "left_nothing": left_nothing(seen)}


def left_nothing(seen: Mapping[str, Any]) -> bool:
    """Whether gauges are zero, all clients are counted, and no work began after they had gone."""
    return (
        not any(seen["left_in_gauges"].values())
        and seen["requests_recorded"] == seen["clients"]
        and seen["answered_before_they_went"] + seen["recorded_as_499"] == seen["clients"]
        # A client that hangs up while its photo is being stored is counted as gone.
        and seen["counted_as_gone"] >= seen["recorded_as_499"]
        and seen["photos_decoded_after_they_went"] <= seen["photos_in_work_at_most"]
        and seen["stored"] == seen["stored_whole"]
        and seen["files_without_row"] == 0
    )


def _plans(clients: int) -> list[_Plan]:
    generator = np.random.default_rng(4)
    plans = []
    for number in range(clients):
        waits_s = generator.uniform(0, _LONGEST_WAIT_S)
        plans.append(
            _Plan(
                route=str(generator.choice(_ROUTES, p=_ROUTE_SHARES)),
                sent_share=generator.uniform(0.05, 0.95) if number % 4 == 0 else 1.0,
                wait_s=(waits_s, 0.0, waits_s, _LONGEST_WAIT_S)[number % 4],
                resets=number % 3 == 0,
            )
        )
    return plans


async def _send_and_go(service: ServiceProcess, plan: _Plan, body: bytes) -> None:
    address = urlsplit(service.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST {plan.route}?tenant_id=gone-{uuid4().hex[:1]} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Token: {TOKEN}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[: int(len(body) * plan.sent_share)])
    await writer.drain()
    await asyncio.sleep(plan.wait_s)
    if plan.resets:
        # As when a program is killed on the other side of a firewall: no farewell, only a reset.
        peer = writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def _alone(service: ServiceProcess, photos: Sequence[bytes]) -> float:
    """Median seconds of a lone request.

    Raises:
        RuntimeError: it is not answered 200.
    """
    taken = []
    async with service.async_client() as client:
        for number in range(_ALONE):
            started = time.perf_counter()
            asked = await ask(client, EMBED, "alone", 0, photos[number % len(photos)])
            taken.append(time.perf_counter() - started)
            if asked.status != 200:
                raise RuntimeError(f"a lone request: {asked.status} {asked.code}")
    return statistics.median(taken)


async def _quiet(service: ServiceProcess) -> Scrape:
    """The metrics once the service is idle, or those at the end of the wait."""
    deadline = time.monotonic() + _QUIET_TIMEOUT_S
    while True:
        found = await asyncio.to_thread(scrape, service)
        if not any(_total(found, name) for name in _GAUGES) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.02)


def _total(found: Scrape, name: str) -> float:
    return sum(value for (sample, _), value in found.items() if sample == name)


def _grown(after: Scrape, before: Scrape, name: str) -> float:
    return sum(by_label(after, before, name).values())


def _run(after: Scrape, before: Scrape, stage: str) -> float:
    """Items that a stage has begun."""
    return by_label(after, before, "facette_batch_cost_sum").get(stage, 0.0)


def _is_post(labels: str) -> bool:
    """Labels stand as method, route, status."""
    return labels.startswith("POST,")


def _with_status(statuses: dict[str, float], status: str) -> float:
    return sum(
        count
        for labels, count in statuses.items()
        if _is_post(labels) and labels.endswith(f",{status}")
    )
