"""Which items go together: by cost and free workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import (
    BatchPolicy,
    Lane,
    MicroBatcher,
    Ticket,
    WorkerPool,
)
from service.batching.batcher import share_of
from tests.support.batching import (
    SAFETY_NET_S,
    HeldFunction,
    Recorder,
    all_busy,
    begin,
    outcomes,
    submitted,
    workers,
)


async def test_a_lone_item_is_dispatched_at_once_and_without_a_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers: list[object] = []
    async with workers(1) as pool:
        batcher = MicroBatcher(
            lambda items: list(items), pool=pool, name="s", policy=BatchPolicy(max_batch_cost=64)
        )
        monkeypatch.setattr(
            asyncio.get_running_loop(), "call_later", lambda *args, **_: timers.append(args)
        )
        assert await batcher.submit(7) == 7
        monkeypatch.undo()
    assert timers == []


async def test_items_that_wait_for_a_busy_worker_go_together() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0)
        await held.started()
        tasks += await begin(batcher, 1, 2, 3)
        held.open()
        assert await outcomes(tasks) == [0, 10, 20, 30]
    assert held.batches == [[0], [1, 2, 3]]


async def test_a_batch_ends_where_the_next_item_would_exceed_the_cost() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=10), cost=lambda item: item
        )
        tasks = await begin(batcher, 1)
        await held.started()
        tasks += await begin(batcher, 4, 6, 5, 4, 2, 9)
        held.open()
        await outcomes(tasks)
    assert held.batches == [[1], [4, 6], [5, 4], [2], [9]]


async def test_an_item_above_the_cost_limit_runs_alone() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=3), cost=lambda item: item
        )
        tasks = await begin(batcher, 1)
        await held.started()
        tasks += await begin(batcher, 1, 50, 1)
        held.open()
        assert await outcomes(tasks) == [10, 10, 500, 10]
    assert held.batches == [[1], [1], [50], [1]]


async def test_every_free_worker_gets_a_batch() -> None:
    held = HeldFunction()
    async with workers(3) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0, 1, 2, 3, 4)
        await held.started(3)
        assert sorted(held.batches) == [[0, 1], [2, 3], [4]]
        held.open()
        await outcomes(tasks)


@pytest.mark.parametrize(
    ("waiting", "idle", "workers", "taken"),
    [(1, 1, 2, 1), (2, 1, 2, 2), (7, 1, 2, 5), (12, 1, 2, 8), (7, 2, 2, 4), (7, 1, 1, 7)],
)
def test_free_workers_share_and_the_last_one_leaves_something(
    waiting: int, idle: int, workers: int, taken: int
) -> None:
    assert share_of(waiting, idle, workers) == taken


async def test_a_stage_gathers_items_while_another_one_has_work() -> None:
    other, gathering = HeldFunction(), HeldFunction()
    async with workers(1) as pool:
        first = MicroBatcher(other, pool=pool, name="first")
        last = MicroBatcher(
            gathering, pool=pool, name="last", policy=BatchPolicy(8, gathered_cost=2)
        )
        tasks = await begin(first, 0, 1, 2)
        await other.started()
        tasks += await begin(last, 10)
        other.let_through()
        await other.started()
        assert gathering.batches == []
        tasks += await begin(last, 20)
        other.let_through()
        await gathering.started()
        gathering.open()
        other.open()
        await outcomes(tasks)
    assert other.batches == [[0], [1], [2]]
    assert gathering.batches == [[10, 20]]


@pytest.mark.parametrize("has_waited", [False, True])
async def test_a_stage_gathers_no_items_without_other_work_or_for_long(
    has_waited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_waited:
        monkeypatch.setattr("service.batching.batcher._GATHERING_S", 0.0)
    other, gathering = HeldFunction(), HeldFunction()
    async with workers(1) as pool:
        first = MicroBatcher(other, pool=pool, name="first")
        last = MicroBatcher(
            gathering, pool=pool, name="last", policy=BatchPolicy(8, gathered_cost=2)
        )
        tasks = await begin(first, *([0, 1] if has_waited else [0]))
        await other.started()
        tasks += await begin(last, 10)
        other.let_through()
        await gathering.started()
        assert other.batches == [[0]]
        gathering.open()
        other.open()
        await outcomes(tasks)


async def test_a_stage_that_gathers_items_keeps_its_place_among_lanes() -> None:
    other, gathering = HeldFunction(), HeldFunction()
    async with workers(1) as pool:
        first = MicroBatcher(other, pool=pool, name="first")
        last = MicroBatcher(
            gathering, pool=pool, name="last", policy=BatchPolicy(8, gathered_cost=2)
        )
        served = Lane("served")
        served.charge(10.0)
        tasks = await submitted(first, Ticket(served), 0, 1)
        await other.started()
        tasks += await submitted(last, Ticket(Lane("new")), 10)
        other.let_through()
        await gathering.started()
        assert other.batches == [[0]]
        gathering.open()
        other.open()
        await outcomes(tasks)


async def test_stages_that_share_a_pool_never_run_more_jobs_than_it_has_workers() -> None:
    held = HeldFunction()
    async with workers(2) as pool:
        stages = [MicroBatcher(held, pool=pool, name=name) for name in "abc"]
        tasks = [task for stage in stages for task in await begin(stage, 1, 2, 3, 4)]
        await held.started(2)
        assert sum(stage.waiting for stage in stages) == 10
        for _ in tasks:
            held.let_through()
        await outcomes(tasks)
    assert len(held.batches) == 12
    assert held.peak == 2


async def test_the_latency_function_runs_a_lone_item_only_while_all_workers_are_free() -> None:
    held, latency = HeldFunction(), Recorder()
    async with workers(2) as pool:
        batcher = MicroBatcher(
            held, latency_function=latency, pool=pool, name="s", policy=BatchPolicy(4)
        )
        ticket = Ticket(Lane())
        await outcomes(await submitted(batcher, ticket, 1))
        assert not batcher.fit.observed
        tasks = await submitted(batcher, ticket, 2, 3)
        await held.started(2)
        tasks += await submitted(batcher, ticket, 4)
        held.let_through()
        await held.started()
        held.open()
        await outcomes(tasks)
        assert batcher.fit.observed
    assert latency.batches == [[1]]
    assert sorted(held.batches) == [[2], [3], [4]]


@pytest.mark.parametrize(("leaver", "batch"), [(0, [2, 3, 4]), (1, [1, 3, 4])])
async def test_cancelled_items_do_not_fill_a_batch(leaver: int, batch: list[int]) -> None:
    recorder = Recorder()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            recorder,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=3),
        )
        async with all_busy(pool):
            tasks = await begin(batcher, 1, 2)
            tasks[leaver].cancel()
            tasks += await begin(batcher, 3)
            assert batcher.waiting == 2
            tasks += await begin(batcher, 4)
        await outcomes(tasks)
    assert recorder.batches == [batch]


async def test_a_cancelled_item_does_not_end_the_batch_it_would_not_have_fitted() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=5), cost=lambda item: item
        )
        tasks = await begin(batcher, 1)
        await held.started()
        tasks += await begin(batcher, 2, 4, 3)
        tasks[2].cancel()
        held.open()
        await outcomes(tasks)
    assert held.batches == [[1], [2, 3]]


@settings(max_examples=100, deadline=None)
@given(
    groups=st.lists(st.lists(st.integers(1, 12), max_size=8), max_size=6),
    max_cost=st.integers(1, 10),
    worker_count=st.integers(1, 3),
    queue_size=st.integers(1, 8),
)
def test_each_item_runs_once_within_the_cost_and_gets_its_own_result(
    groups: list[list[int]], max_cost: int, worker_count: int, queue_size: int
) -> None:
    batches: list[list[tuple[int, int]]] = []

    def function(items: Sequence[tuple[int, int]]) -> list[str]:
        batches.append(list(items))
        return [f"result of {number}" for number, _ in items]

    async def scenario() -> list[str]:
        async with workers(worker_count) as pool:
            batcher = MicroBatcher(
                function,
                pool=pool,
                name="s",
                policy=BatchPolicy(max_batch_cost=max_cost, max_queue_size=queue_size),
                cost=lambda item: item[1],
            )
            tasks: list[asyncio.Task[str]] = []
            for group in groups:
                for cost in group:
                    tasks.append(asyncio.create_task(batcher.submit((len(tasks), cost))))
                await asyncio.sleep(0)
            async with asyncio.timeout(SAFETY_NET_S):
                return await asyncio.gather(*tasks)

    results = asyncio.run(scenario())
    assert results == [f"result of {number}" for number in range(len(results))]
    ran = Counter(number for batch in batches for number, _ in batch)
    assert ran == Counter(range(len(results)))
    for batch in batches:
        assert len(batch) == 1 or sum(cost for _, cost in batch) <= max_cost
        assert batch == sorted(batch)


@pytest.mark.parametrize("settings", [{"max_batch_cost": 0}, {"max_queue_size": 0}])
async def test_senseless_limits_are_refused(settings: dict[str, int]) -> None:
    async with workers(1) as pool:
        with pytest.raises(ValueError, match="must be at least"):
            MicroBatcher(Recorder(), pool=pool, name="s", policy=BatchPolicy(**settings))


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        WorkerPool(0)
