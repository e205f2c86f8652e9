"""A flood of requests without a token: each is answered, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from bench.common.server import ServiceProcess
from service.api.pace import MAX_DELAY_S, AddressPaces, Pace

CALLERS = 16
ROUNDS = 8
PIPELINED = 8
# Of answers without a token, a second, and in a burst.
RATE = 250


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    now = 100.0
    pace = Pace(per_s=10, burst=3, clock=lambda: now)
    delays = [pace.reserve() for _ in range(6)]
    assert delays == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])
    now += 0.3  # the last turn has come: the next is an interval away
    assert pace.reserve() == pytest.approx(0.1)


def test_rest_restores_the_burst_and_no_more() -> None:
    now = 0.0
    pace = Pace(per_s=10, burst=3, clock=lambda: now)
    for _ in range(10):
        pace.reserve()
    now = 60.0
    assert [pace.reserve() for _ in range(4)] == pytest.approx([0, 0, 0, 0.1])


def test_no_flood_delays_an_answer_for_longer_than_a_second() -> None:
    now = 0.0
    pace = Pace(per_s=10, burst=3, clock=lambda: now)
    delays = [pace.reserve() for _ in range(10_000)]
    assert max(delays) == MAX_DELAY_S
    now = 1.0  # the turns that were given have come
    assert pace.reserve() <= 0.2


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/nowhere", 404), ("/faces?tenant_id=a", 401)]
)
async def test_answers_without_a_token_keep_to_the_pace(
    service: ServiceProcess, path: str, status: int
) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    async def ask() -> int:
        host, _, port = service.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(ROUNDS):
            writer.write(request * PIPELINED)
            for _ in range(PIPELINED):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(f"HTTP/1.1 {status} ".encode())
                (length,) = re.findall(rb"content-length: (\d+)", head)
                await reader.readexactly(int(length))
        writer.close()
        return ROUNDS * PIPELINED

    began = time.monotonic()
    answered = sum(await asyncio.gather(*(ask() for _ in range(CALLERS))))
    elapsed_s = time.monotonic() - began
    assert answered == CALLERS * ROUNDS * PIPELINED
    # Other tests may have left some of the burst, and never more.
    assert elapsed_s >= (answered - RATE) / RATE


def test_a_flood_from_one_address_delays_no_other() -> None:
    now = 100.0
    paces = AddressPaces(per_s=10, burst=3, clock=lambda: now)
    delays = [paces.of("192.0.2.1").reserve() for _ in range(20)]
    assert delays[-1] == MAX_DELAY_S
    assert paces.of("192.0.2.2").reserve() == 0


def test_addresses_are_forgotten_when_they_have_rested_and_no_sooner() -> None:
    now = 100.0
    paces = AddressPaces(per_s=10, burst=3, max_addresses=2, clock=lambda: now)
    for address in ("a", "b"):
        for _ in range(5):
            paces.of(address).reserve()
    assert paces.of("c") is paces.of("d")  # no room: they share one
    assert paces.of("a").reserve() > 0  # and the flood is not forgiven
    now += 60.0
    assert paces.of("c") is not paces.of("d")
    assert paces.of("c").reserve() == 0


def test_a_flood_from_any_number_of_addresses_takes_bounded_memory() -> None:
    now = 100.0
    paces = AddressPaces(per_s=10, burst=3, max_addresses=100, clock=lambda: now)
    delays = [paces.of(f"address {number}").reserve() for number in range(10_000)]
    assert len(paces._paces) == 100
    assert max(delays) == MAX_DELAY_S
