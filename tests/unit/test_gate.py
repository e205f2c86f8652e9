"""Places in fair order, and tickets that fail while they wait."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.batching import FairShare, Gate, Lane, Priority, Ticket
from service.domain.errors import DeadlineError, WithdrawnError
from tests.unit.batching_tools import SAFETY_NET_S, turns


async def entered(gate: Gate, *tickets: Ticket) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(gate.enter(ticket)) for ticket in tickets]
    await turns()
    return tasks


async def test_places_are_bounded_and_handed_on() -> None:
    gate = Gate(2)
    first, second, third = (Ticket(Lane("a")) for _ in range(3))
    tasks = await entered(gate, first, second, third)
    assert [task.done() for task in tasks] == [True, True, False]
    gate.leave(first)
    await turns()
    assert tasks[2].done()


async def test_the_least_served_lane_enters_first_and_bulk_last() -> None:
    gate = Gate(1)
    busy, quiet = Lane("busy"), Lane("quiet")
    busy.served_s = 10.0
    holder = Ticket(busy)
    bulk, loud, rare = Ticket(quiet, Priority.BULK), Ticket(busy), Ticket(quiet)
    tasks = await entered(gate, holder, bulk, loud, rare)
    order = []
    for leaver, expected in ((holder, 3), (rare, 2), (loud, 1)):
        gate.leave(leaver)
        await turns()
        order.append([task.done() for task in tasks[1:]])
        assert tasks[expected].done()
    assert order == [[False, False, True], [False, True, True], [True, True, True]]


async def test_one_lane_leaves_a_place_for_another() -> None:
    gate = Gate(3, per_lane=2)
    crowd = Lane("crowd")
    tickets = [Ticket(crowd) for _ in range(3)]
    tasks = await entered(gate, *tickets)
    assert [task.done() for task in tasks] == [True, True, False]
    (other,) = await entered(gate, Ticket(Lane("other")))
    assert other.done()
    gate.leave(tickets[0])
    await turns()
    assert tasks[2].done()


@pytest.mark.parametrize(
    ("fail", "error"), [(Ticket.withdraw, WithdrawnError), (Ticket.expire, DeadlineError)]
)
async def test_a_ticket_that_fails_stops_waiting_and_takes_no_place(fail, error) -> None:
    gate = Gate(1)
    holder, leaver, patient = (Ticket(Lane(name)) for name in "abc")
    tasks = await entered(gate, holder, leaver, patient)
    fail(leaver)
    with pytest.raises(error):
        await tasks[1]
    gate.leave(holder)
    async with asyncio.timeout(SAFETY_NET_S):
        await tasks[2]
    with pytest.raises(error):
        await gate.enter(leaver)


async def test_a_place_given_in_the_moment_of_cancellation_is_passed_on() -> None:
    gate = Gate(1)
    holder, leaver, patient = (Ticket(Lane(name)) for name in "abc")
    tasks = await entered(gate, holder, leaver, patient)
    gate.leave(holder)  # goes to the leaver, who is cancelled before it wakes
    tasks[1].cancel()
    async with asyncio.timeout(SAFETY_NET_S):
        await tasks[2]
    assert tasks[1].cancelled()


def test_a_check_fails_when_less_time_is_left_than_needed() -> None:
    ticket = Ticket(Lane(), deadline=time.monotonic() + 60)
    ticket.check(needed_s=1.0)
    with pytest.raises(DeadlineError):
        ticket.check(needed_s=120.0)


def test_an_idle_lane_comes_back_with_bounded_credit() -> None:
    fair = FairShare()
    flood = fair.enter("flood")
    Ticket(flood).charge(100.0)
    rare = fair.enter("rare")
    assert flood.served_s - rare.served_s == pytest.approx(0.5)
    fair.leave(rare)
    rare.served_s += 5.0
    Ticket(flood).charge(1.0)
    assert fair.enter("rare") is rare
    assert rare.served_s == pytest.approx(104.5)  # what it was served is not forgotten


def test_lanes_that_rest_are_forgotten_in_time() -> None:
    fair = FairShare()
    busy = fair.enter("busy")
    for number in range(2000):
        lane = fair.enter(f"visitor {number}")
        Ticket(lane).charge(0.01)
        fair.leave(lane)
        Ticket(busy).charge(0.01)
    assert fair.active == 1
    assert len(fair._lanes) < 1000
