"""Results: in order, once each, reported, whatever fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import BatchPolicy, BatchReport, MicroBatcher, WorkerPool
from tests.support.batching import (
    SAFETY_NET_S,
    Gate,
    PoisonError,
    Recorder,
    begin,
    outcomes,
    workers,
)


async def test_submit_all_returns_results_in_the_order_of_its_items() -> None:
    async with workers(2) as pool:
        batcher = MicroBatcher(
            Recorder(), pool=pool, name="s", policy=BatchPolicy(max_batch_cost=3)
        )
        assert await batcher.submit_all(range(10)) == [item * 10 for item in range(10)]


async def test_submit_all_of_nothing_runs_nothing() -> None:
    recorder = Recorder()
    async with workers(1) as pool:
        batcher = MicroBatcher(recorder, pool=pool, name="s")
        assert await batcher.submit_all([]) == []
    assert recorder.batches == []


@pytest.mark.parametrize("items", [[-1], [-1, 1, 2], [-1, -2, -3]])
async def test_submit_all_raises_one_plain_exception(items: list[int]) -> None:
    def fragile(items: Sequence[int]) -> Sequence[int]:
        if min(items) < 0:
            raise PoisonError(min(items))
        return items

    async with workers(1) as pool:
        batcher = MicroBatcher(fragile, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        with pytest.raises(PoisonError):
            await batcher.submit_all(items)


async def test_the_first_error_of_submit_all_cancels_what_still_waits() -> None:
    def fragile(items: Sequence[int]) -> Sequence[int]:
        if items[0] < 0:
            raise PoisonError
        return items

    gate = Gate(fragile)
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s")
        everything = asyncio.create_task(batcher.submit_all([-1, 1, 2, 3]))
        await gate.started()
        gate.let_through()
        with pytest.raises(PoisonError):
            await everything
        gate.open()
        await outcomes(await begin(batcher, 9))
    # Item 1 may have begun before the error was handed out; 2 and 3 must not.
    assert gate.batches in ([[-1], [1], [9]], [[-1], [9]])


async def test_cancelling_submit_all_cancels_its_items() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s")
        everything = asyncio.create_task(batcher.submit_all([1, 2, 3]))
        await gate.started()
        everything.cancel()
        with pytest.raises(asyncio.CancelledError):
            await everything
        assert batcher.waiting == 0
        gate.open()
    assert gate.batches == [[1]]


async def test_a_report_tells_size_cost_and_failures_of_each_batch() -> None:
    def fragile(items: Sequence[int]) -> Sequence[int]:
        if 3 in items:
            raise PoisonError
        return items

    gate = Gate(fragile)
    reports: list[BatchReport] = []
    async with workers(1) as pool:
        batcher = MicroBatcher(
            gate,
            pool=pool,
            name="crops",
            policy=BatchPolicy(max_batch_cost=16),
            cost=lambda item: item,
            report=reports.append,
        )
        tasks = await begin(batcher, 1)
        await gate.started()
        tasks += await begin(batcher, 2, 3, 4)
        gate.open()
        await outcomes(tasks)
    assert [(r.stage, r.size, r.cost, r.failed) for r in reports] == [
        ("crops", 1, 1, 0),
        ("crops", 3, 9, 1),
    ]


@pytest.mark.parametrize(
    "settings", [{"max_batch_cost": 0}, {"max_queue_size": 0}, {"max_queue_delay_s": -1.0}]
)
async def test_senseless_limits_are_refused(settings: dict[str, float]) -> None:
    async with workers(1) as pool:
        with pytest.raises(ValueError, match="start at"):
            MicroBatcher(Recorder(), pool=pool, name="s", policy=BatchPolicy(**settings))


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        WorkerPool(0)


@settings(max_examples=100, deadline=None)
@given(
    groups=st.lists(st.lists(st.integers(1, 12), max_size=8), max_size=6),
    max_cost=st.integers(1, 10),
    worker_count=st.integers(1, 3),
    queue_size=st.integers(1, 8),
    delay_s=st.sampled_from([0.0, 0.0, 0.001]),
)
def test_each_item_runs_once_within_the_cost_and_gets_its_own_result(
    groups: list[list[int]], max_cost: int, worker_count: int, queue_size: int, delay_s: float
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
                policy=BatchPolicy(
                    max_batch_cost=max_cost, max_queue_size=queue_size, max_queue_delay_s=delay_s
                ),
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


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.integers(-3, 9), min_size=1, max_size=20),
    max_cost=st.integers(1, 8),
    worker_count=st.integers(1, 3),
)
def test_poison_fails_alone_wherever_it_stands(
    items: list[int], max_cost: int, worker_count: int
) -> None:
    def fragile(batch: Sequence[int]) -> Sequence[int]:
        for item in batch:
            if item < 0:
                raise PoisonError(item)
        return [item * 10 for item in batch]

    async def scenario() -> list[int | BaseException]:
        async with workers(worker_count) as pool:
            batcher = MicroBatcher(
                fragile, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=max_cost)
            )
            return await outcomes([asyncio.create_task(batcher.submit(item)) for item in items])

    expected = [f"PoisonError({item})" if item < 0 else str(item * 10) for item in items]
    assert [repr(result) for result in asyncio.run(scenario())] == expected
