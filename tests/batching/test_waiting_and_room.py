"""Items that wait: room in the queue, cancellation, failed tickets, draining."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.batching import (
    BatchPolicy,
    Lane,
    MicroBatcher,
    Ticket,
)
from service.domain.errors import DeadlineError, StoppingError, WithdrawnError
from tests.support.batching import (
    SAFETY_NET_S,
    HeldFunction,
    PoisonError,
    Recorder,
    begin,
    outcomes,
    submitted,
    turns,
    workers,
)


async def test_callers_beyond_a_full_queue_wait_and_keep_their_order() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8, max_queue_size=3)
        )
        tasks = await begin(batcher, *range(12))
        await held.started()
        assert batcher.waiting == 3
        held.open()
        assert await outcomes(tasks) == [item * 10 for item in range(12)]
    assert [item for batch in held.batches for item in batch] == list(range(12))
    assert max(len(batch) for batch in held.batches) == 3


async def test_an_item_cancelled_before_its_dispatch_never_runs() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0)
        await held.started()
        tasks += await begin(batcher, 1, 2, 3)
        tasks[1].cancel()
        tasks[3].cancel()
        held.open()
        results = await outcomes(tasks)
    assert held.batches == [[0], [2]]
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[2] == 20


async def test_the_room_of_cancelled_items_is_given_back() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8, max_queue_size=2)
        )
        tasks = await begin(batcher, 0)
        await held.started()
        leavers = await begin(batcher, 1, 2)
        tasks += await begin(batcher, 3, 4, 5)
        for leaver in leavers:
            leaver.cancel()
        held.open()
        assert await outcomes(tasks) == [0, 30, 40, 50]
        await outcomes(leavers)


async def test_an_item_cancelled_outside_a_full_queue_takes_no_room() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_queue_size=1))
        tasks = await begin(batcher, 0)
        await held.started()
        tasks += await begin(batcher, 1, 2, 3)
        tasks[2].cancel()
        held.open()
        await outcomes(tasks)
    assert held.batches == [[0], [1], [3]]


async def test_cancelled_items_do_not_count_as_waiting() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s")
        tasks = await begin(batcher, 0)
        await held.started()
        tasks += await begin(batcher, 1, 2, 3)
        tasks[2].cancel()
        await turns()
        assert batcher.waiting == 2
        held.open()
        await outcomes(tasks)


async def test_an_item_whose_cost_cannot_be_told_takes_no_room() -> None:
    def picky(item: int) -> int:
        if item < 0:
            raise PoisonError
        return 1

    async with workers(1) as pool:
        batcher = MicroBatcher(
            Recorder(), pool=pool, name="s", policy=BatchPolicy(max_queue_size=1), cost=picky
        )
        with pytest.raises(PoisonError):
            await batcher.submit(-1)
        assert await outcomes(await begin(batcher, 1)) == [10]


@pytest.mark.parametrize(
    ("fail", "error", "reason"),
    [(Ticket.withdraw, WithdrawnError, "gone"), (Ticket.expire, DeadlineError, "deadline")],
)
async def test_nothing_runs_for_a_ticket_that_failed(fail, error, reason: str) -> None:
    held = HeldFunction()
    abandoned: list[str] = []
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", on_abandoned=abandoned.append)
        tasks = await submitted(batcher, Ticket(Lane()), 0)
        await held.started()
        ticket = Ticket(Lane())
        lost = await submitted(batcher, ticket, 1, 2)
        fail(ticket)
        assert [type(found) for found in await outcomes(lost)] == [error, error]
        held.open()
        await outcomes(tasks + await submitted(batcher, Ticket(Lane()), 3))
        with pytest.raises(error):
            await batcher.submit(4, ticket)
    assert held.batches == [[0], [3]]
    assert abandoned == [reason, reason]


async def test_an_item_that_would_end_too_late_is_shed_at_dispatch_and_at_enqueue() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", after_s=lambda: 100.0)
        tasks = await submitted(batcher, Ticket(Lane()), 0)
        await held.started()
        ticket = Ticket(Lane(), deadline=time.monotonic() + 200.0)
        late = await submitted(batcher, ticket, 1)
        ticket.deadline -= 150.0
        held.open()
        assert [type(found) for found in await outcomes(late)] == [DeadlineError]
        with pytest.raises(DeadlineError):
            await batcher.submit(2, Ticket(Lane(), deadline=time.monotonic() + 50.0))
        await outcomes(tasks)
    assert held.batches == [[0]]


def test_a_check_fails_when_less_time_is_left_than_needed() -> None:
    ticket = Ticket(Lane(), deadline=time.monotonic() + 60)
    ticket.check(needed_s=1.0)
    with pytest.raises(DeadlineError):
        ticket.check(needed_s=120.0)


async def test_draining_refuses_new_items() -> None:
    async with workers(1) as pool:
        batcher = MicroBatcher(Recorder(), pool=pool, name="s")
        await batcher.drain()
        with pytest.raises(StoppingError):
            await batcher.submit(1)
        with pytest.raises(StoppingError):
            await batcher.submit_all([1, 2])


async def test_draining_finishes_every_accepted_item() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=2, max_queue_size=2)
        )
        tasks = await begin(batcher, *range(7))
        await held.started()
        draining = asyncio.create_task(batcher.drain())
        await turns()
        assert not draining.done()
        held.open()
        async with asyncio.timeout(SAFETY_NET_S):
            await draining
        assert [task.result() for task in tasks] == [item * 10 for item in range(7)]


async def test_closing_a_pool_waits_for_the_batch_of_a_caller_that_left() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s")
        (leaver,) = await begin(batcher, 1)
        await held.started()
        leaver.cancel()
        await outcomes([leaver])
        closing = asyncio.create_task(pool.aclose())
        await turns()
        assert not closing.done()
        held.open()
        async with asyncio.timeout(SAFETY_NET_S):
            await closing
    assert held.running == 0
