"""The gate: places and room in fair order, and tickets that fail while they wait."""

from __future__ import annotations

import asyncio
import random

import pytest

from service.batching import (
    Gate,
    InputMemory,
    Lane,
    Priority,
    Ticket,
)
from service.domain.errors import DeadlineError, WithdrawnError
from tests.support.batching import (
    SAFETY_NET_S,
    turns,
)


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
    busy.charge(10.0)
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


async def sized(gate: Gate, *wanted: tuple[Ticket, int]) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(gate.enter(ticket, size)) for ticket, size in wanted]
    await turns()
    return tasks


def entered_of(tasks: list[asyncio.Task[None]]) -> list[bool]:
    return [task.done() for task in tasks]


async def test_what_does_not_fit_waits_for_room() -> None:
    gate = Gate(9, room=10)
    first, second, third = (Ticket(Lane(name)) for name in "abc")
    tasks = await sized(gate, (first, 6), (second, 4), (third, 1))
    assert entered_of(tasks) == [True, True, False]
    gate.leave(second, 4)
    await turns()
    assert tasks[2].done()


async def test_small_ones_do_not_keep_a_large_one_out() -> None:
    gate = Gate(9, room=10)
    lanes = [Lane(name) for name in "abcd"]
    holder, large, small, other = map(Ticket, lanes)
    tasks = await sized(gate, (holder, 6), (large, 8), (small, 2), (other, 1))
    assert entered_of(tasks) == [True, False, False, False]
    gate.leave(holder, 6)
    await turns()
    assert entered_of(tasks) == [True, True, True, False]
    gate.leave(large, 8)
    await turns()
    assert tasks[3].done()


async def test_a_ticket_that_goes_first_does_not_wait_for_a_large_one_behind_it() -> None:
    gate = Gate(9, room=10)
    holder, small = Ticket(Lane("a")), Ticket(Lane("c"))
    large = Ticket(Lane("b"), Priority.BULK)
    tasks = await sized(gate, (holder, 6), (large, 8), (small, 2))
    assert entered_of(tasks) == [True, False, True]


async def test_what_is_larger_than_all_room_is_inside_alone() -> None:
    gate = Gate(9, room=10)
    first, giant, after = (Ticket(Lane(name)) for name in "abc")
    tasks = await sized(gate, (first, 1), (giant, 99), (after, 1))
    assert entered_of(tasks) == [True, False, False]
    gate.leave(first, 1)
    await turns()
    assert entered_of(tasks) == [True, True, False]
    gate.leave(giant, 99)
    await turns()
    assert tasks[2].done()


async def test_one_lane_leaves_a_quarter_of_the_room_to_others() -> None:
    gate = Gate(9, room=8)
    crowd = Lane("crowd")
    tickets = [Ticket(crowd) for _ in range(4)]
    tasks = await sized(gate, *((ticket, 2) for ticket in tickets))
    assert entered_of(tasks) == [True, True, True, False]
    (other,) = await sized(gate, (Ticket(Lane("other")), 2))
    assert other.done()
    gate.leave(tickets[0], 2)
    await turns()
    assert tasks[3].done()


async def test_within_a_lane_a_small_one_does_not_overtake_a_large_one() -> None:
    gate = Gate(9, room=8)
    lane = Lane("one")
    holder, large, small = (Ticket(lane) for _ in range(3))
    tasks = await sized(gate, (holder, 3), (large, 4), (small, 1))
    assert entered_of(tasks) == [True, False, False]
    gate.leave(holder, 3)
    await turns()
    assert entered_of(tasks) == [True, True, True]


@pytest.mark.parametrize("fail", [Ticket.withdraw, Ticket.expire])
async def test_a_ticket_that_fails_no_longer_holds_up_those_behind_it(fail) -> None:
    gate = Gate(9, room=10)
    holder, large, small = (Ticket(Lane(name)) for name in "abc")
    tasks = await sized(gate, (holder, 6), (large, 8), (small, 2))
    assert entered_of(tasks) == [True, False, False]
    fail(large)
    await turns()
    assert tasks[2].done()
    with pytest.raises((WithdrawnError, DeadlineError)):
        await tasks[1]


async def test_room_is_never_exceeded_but_by_one_alone_and_everybody_gets_in() -> None:
    dice = random.Random(7)
    gate = Gate(5, 4, room=100)
    lanes = [Lane(f"lane {number}") for number in range(4)]
    inside: list[int] = []
    most = 0

    async def stay(size: int, pauses: int) -> None:
        nonlocal most
        ticket = Ticket(dice.choice(lanes), dice.choice(list(Priority)))
        await gate.enter(ticket, size)
        inside.append(size)
        assert len(inside) <= 5
        assert sum(inside) <= 100 or len(inside) == 1
        most = max(most, sum(inside))
        for _ in range(pauses):
            await asyncio.sleep(0)
        ticket.charge(size / 100)
        inside.remove(size)
        gate.leave(ticket, size)

    sizes = [dice.choice((1, 5, 20, 60, 90, 150)) for _ in range(400)]
    async with asyncio.timeout(SAFETY_NET_S):
        await asyncio.gather(*(stay(size, dice.randrange(8)) for size in sizes))
    assert not inside
    assert most == 150


async def test_large_inputs_wait_for_memory_and_small_ones_do_not() -> None:
    memory, entered_sizes = InputMemory(room=100, small=10), []
    release = asyncio.Event()

    async def hold(tenant: str, size: int) -> None:
        async with memory.hold(Ticket(Lane(tenant), size_bytes=size)):
            entered_sizes.append(size)
            await release.wait()

    tasks = [
        asyncio.create_task(hold(tenant, size))
        for tenant, size in (("a", 70), ("b", 40), ("c", 10), ("d", 0), ("e", 30))
    ]
    await turns()
    assert entered_sizes == [70, 10, 0]  # the last one may not pass the one that waits
    release.set()
    await asyncio.gather(*tasks)
    assert sorted(entered_sizes) == [0, 10, 30, 40, 70]
