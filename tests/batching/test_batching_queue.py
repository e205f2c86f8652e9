"""Waiting: cancellation, room, delay, draining."""

from __future__ import annotations

import asyncio

import pytest

from service.batching import BatchPolicy, MicroBatcher
from service.domain.errors import StoppingError
from tests.support.batching import (
    NEVER_S,
    SAFETY_NET_S,
    Gate,
    Recorder,
    begin,
    outcomes,
    turns,
    workers,
)


async def test_an_item_cancelled_before_its_dispatch_never_runs() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0)
        await gate.started()
        tasks += await begin(batcher, 1, 2, 3)
        tasks[1].cancel()
        tasks[3].cancel()
        gate.open()
        results = await outcomes(tasks)
    assert gate.batches == [[0], [2]]
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[2] == 20


async def test_a_cancelled_item_does_not_end_the_batch_it_would_not_have_fitted() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=5), cost=lambda item: item
        )
        tasks = await begin(batcher, 1)
        await gate.started()
        tasks += await begin(batcher, 2, 4, 3)
        tasks[2].cancel()
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[1], [2, 3]]


async def test_the_room_of_cancelled_items_is_given_back() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8, max_queue_size=2)
        )
        tasks = await begin(batcher, 0)
        await gate.started()
        leavers = await begin(batcher, 1, 2)
        tasks += await begin(batcher, 3, 4, 5)
        for leaver in leavers:
            leaver.cancel()
        gate.open()
        assert await outcomes(tasks) == [0, 30, 40, 50]
        await outcomes(leavers)


async def test_an_item_cancelled_at_the_door_leaves_no_hole() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_queue_size=1))
        tasks = await begin(batcher, 0)
        await gate.started()
        tasks += await begin(batcher, 1, 2, 3)
        tasks[2].cancel()
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[0], [1], [3]]


async def test_a_caller_that_leaves_while_its_batch_runs_does_not_disturb_the_others() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        first = await begin(batcher, 0)
        await gate.started()
        tasks = await begin(batcher, 1, 2, 3)
        gate.let_through()
        await gate.started()
        tasks[1].cancel()
        await turns()
        gate.open()
        results = await outcomes(tasks)
        assert (results[0], results[2]) == (10, 30)
        assert await outcomes(first + await begin(batcher, 4)) == [0, 40]


async def test_callers_beyond_a_full_queue_wait_and_keep_their_order() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8, max_queue_size=3)
        )
        tasks = await begin(batcher, *range(12))
        await gate.started()
        assert batcher.waiting == 3
        gate.open()
        assert await outcomes(tasks) == [item * 10 for item in range(12)]
    assert [item for batch in gate.batches for item in batch] == list(range(12))
    assert max(len(batch) for batch in gate.batches) == 3


async def test_cancelled_items_do_not_count_as_waiting() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s")
        tasks = await begin(batcher, 0)
        await gate.started()
        tasks += await begin(batcher, 1, 2, 3)
        tasks[2].cancel()
        await turns()
        assert batcher.waiting == 2
        gate.open()
        await outcomes(tasks)


async def test_a_queue_delay_lets_items_gather() -> None:
    recorder = Recorder()
    async with workers(2) as pool:
        batcher = MicroBatcher(
            recorder,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=8, max_queue_delay_s=0.02),
        )
        assert await outcomes(await begin(batcher, 1, 2, 3)) == [10, 20, 30]
    assert recorder.batches == [[1, 2, 3]]


async def test_a_full_batch_does_not_wait_for_the_queue_delay() -> None:
    recorder = Recorder()
    async with workers(2) as pool:
        batcher = MicroBatcher(
            recorder,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=3, max_queue_delay_s=NEVER_S),
        )
        tasks = await begin(batcher, 1, 2)
        assert recorder.batches == []
        assert await outcomes(tasks + await begin(batcher, 3)) == [10, 20, 30]
    assert recorder.batches == [[1, 2, 3]]


@pytest.mark.parametrize(("leaver", "batch"), [(0, [2, 3, 4]), (1, [1, 3, 4])])
async def test_cancelled_items_do_not_fill_a_batch(leaver: int, batch: list[int]) -> None:
    recorder = Recorder()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            recorder,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=3, max_queue_delay_s=NEVER_S),
        )
        tasks = await begin(batcher, 1, 2)
        tasks[leaver].cancel()
        tasks += await begin(batcher, 3)
        assert batcher.waiting == 2
        tasks += await begin(batcher, 4)
        await outcomes(tasks)
    assert recorder.batches == [batch]


async def test_the_queue_delay_of_each_batch_is_its_own() -> None:
    recorder = Recorder()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            recorder,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=2, max_queue_delay_s=0.02),
        )
        await outcomes(await begin(batcher, 1, 2))  # full: goes before its timer
        await outcomes(await begin(batcher, 3))
        await outcomes(await begin(batcher, 4))
    assert recorder.batches == [[1, 2], [3], [4]]


async def test_draining_refuses_new_items() -> None:
    async with workers(1) as pool:
        batcher = MicroBatcher(Recorder(), pool=pool, name="s")
        await batcher.drain()
        with pytest.raises(StoppingError):
            await batcher.submit(1)
        with pytest.raises(StoppingError):
            await batcher.submit_all([1, 2])


async def test_draining_finishes_every_accepted_item() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=2, max_queue_size=2)
        )
        tasks = await begin(batcher, *range(7))
        await gate.started()
        draining = asyncio.create_task(batcher.drain())
        await turns()
        assert not draining.done()
        gate.open()
        async with asyncio.timeout(SAFETY_NET_S):
            await draining
        assert [task.result() for task in tasks] == [item * 10 for item in range(7)]


async def test_draining_does_not_wait_for_the_queue_delay() -> None:
    recorder = Recorder()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            recorder,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=8, max_queue_delay_s=NEVER_S),
        )
        tasks = await begin(batcher, 1, 2)
        async with asyncio.timeout(SAFETY_NET_S):
            await batcher.drain()
        assert [task.result() for task in tasks] == [10, 20]
    assert recorder.batches == [[1, 2]]


async def test_closing_a_pool_waits_for_the_batch_of_a_caller_that_left() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s")
        (leaver,) = await begin(batcher, 1)
        await gate.started()
        leaver.cancel()
        await outcomes([leaver])
        closing = asyncio.create_task(pool.aclose())
        await turns()
        assert not closing.done()
        gate.open()
        async with asyncio.timeout(SAFETY_NET_S):
            await closing
    assert gate.running == 0
