"""Batches form when a worker is free; errors stay with the item that made them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from service.batching import BatchPolicy, BatchReport, BatchSizeError, MicroBatcher
from tests.support.batching import (
    NEVER_S,
    AbruptError,
    Gate,
    PoisonError,
    Recorder,
    begin,
    outcomes,
    turns,
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
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0)
        await gate.started()
        tasks += await begin(batcher, 1, 2, 3)
        gate.open()
        assert await outcomes(tasks) == [0, 10, 20, 30]
    assert gate.batches == [[0], [1, 2, 3]]


async def test_a_batch_ends_where_the_next_item_would_exceed_the_cost() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=10), cost=lambda item: item
        )
        tasks = await begin(batcher, 1)
        await gate.started()
        tasks += await begin(batcher, 4, 6, 5, 4, 2, 9)
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[1], [4, 6], [5, 4], [2], [9]]


async def test_an_item_above_the_cost_limit_runs_alone() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(
            gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=3), cost=lambda item: item
        )
        tasks = await begin(batcher, 1)
        await gate.started()
        tasks += await begin(batcher, 1, 50, 1)
        gate.open()
        assert await outcomes(tasks) == [10, 10, 500, 10]
    assert gate.batches == [[1], [1], [50], [1]]


async def test_every_free_worker_gets_a_batch() -> None:
    gate = Gate()
    async with workers(3) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0, 1, 2, 3, 4)
        await gate.started(3)
        assert sorted(gate.batches) == [[0, 1], [2, 3], [4]]
        gate.open()
        await outcomes(tasks)


async def test_stages_that_share_a_pool_never_run_more_jobs_than_it_has_workers() -> None:
    gate = Gate()
    async with workers(2) as pool:
        stages = [MicroBatcher(gate, pool=pool, name=name) for name in "abc"]
        tasks = [task for stage in stages for task in await begin(stage, 1, 2, 3, 4)]
        await gate.started(2)
        assert sum(stage.waiting for stage in stages) == 10
        for _ in tasks:
            gate.let_through()
        await outcomes(tasks)
    assert len(gate.batches) == 12
    assert gate.peak == 2


async def test_the_stage_registered_later_goes_first() -> None:
    gate = Gate()
    async with workers(1) as pool:
        early = MicroBatcher(gate, pool=pool, name="early", policy=BatchPolicy(max_batch_cost=8))
        late = MicroBatcher(gate, pool=pool, name="late", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(early, 0)
        await gate.started()
        tasks += await begin(early, 1, 2)
        tasks += await begin(late, 100, 200)
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[0], [100, 200], [1, 2]]


async def test_only_the_poisonous_item_of_a_batch_fails() -> None:
    def fragile(items: Sequence[int]) -> Sequence[int]:
        for item in items:
            if item in (2, 4):
                raise PoisonError(item)
        return [item * 10 for item in items]

    gate = Gate(fragile)
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0)
        await gate.started()
        tasks += await begin(batcher, 1, 2, 3, 4)
        gate.open()
        results = await outcomes(tasks)
    assert [repr(result) for result in results] == [
        "0", "10", "PoisonError(2)", "30", "PoisonError(4)",
    ]  # fmt: skip


async def test_a_lone_item_that_fails_is_not_run_again() -> None:
    runs: list[list[int]] = []

    def failing(items: Sequence[int]) -> Sequence[int]:
        runs.append(list(items))
        raise PoisonError

    async with workers(1) as pool:
        batcher = MicroBatcher(failing, pool=pool, name="s")
        await outcomes(await begin(batcher, 1))
    assert runs == [[1]]


@pytest.mark.parametrize("given_back", [[], [1], [1, 2, 3]])
async def test_a_wrong_number_of_results_fails_the_whole_batch(given_back: list[int]) -> None:
    gate = Gate(lambda items: given_back if len(items) == 2 else items)
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="crops", policy=BatchPolicy(max_batch_cost=8))
        first = await begin(batcher, 0)
        await gate.started()
        tasks = await begin(batcher, 1, 2)
        gate.open()
        results = await outcomes(tasks)
        await outcomes(first)
    assert [type(result) for result in results] == [BatchSizeError, BatchSizeError]
    assert results[0] is not results[1]
    assert {str(result) for result in results} == {
        f"stage crops: {len(given_back)} results for 2 items"
    }


@pytest.mark.parametrize("error", [AbruptError(), asyncio.CancelledError(), GeneratorExit()])
async def test_a_torn_down_function_leaves_no_caller_waiting(error: BaseException) -> None:
    def abrupt(items: Sequence[int]) -> Sequence[int]:
        if items[0]:
            raise error
        return items

    gate = Gate(abrupt)
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        first = await begin(batcher, 0)
        await gate.started()
        tasks = await begin(batcher, 1, 2)
        gate.open()
        results = await outcomes(tasks)
        assert [type(result) for result in results] == [type(error)] * 2
        assert len({id(result) for result in (*results, error)}) == 3
        assert await outcomes(first) == [0]


async def test_each_caller_gets_an_instance_of_an_error_that_a_function_returns_again() -> None:
    kept = PoisonError("kept")
    async with workers(1) as pool:
        batcher = MicroBatcher(
            lambda items: [kept] * len(items),
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=2, max_queue_delay_s=NEVER_S),
        )
        results = await outcomes(await begin(batcher, 1, 2))
        results += await outcomes(await begin(batcher, 3, 4))
    assert {repr(result) for result in results} == {"PoisonError('kept')"}
    assert len({id(result) for result in (*results, kept)}) == 5
    assert kept.__traceback__ is None


async def test_a_function_that_raises_stop_iteration_leaves_no_caller_waiting() -> None:
    def exhausted(items: Sequence[int]) -> Sequence[int]:
        return [next(iter(()))]

    async with workers(1) as pool:
        batcher = MicroBatcher(exhausted, pool=pool, name="s")
        (result,) = await outcomes(await begin(batcher, 1))
    assert isinstance(result, RuntimeError)


async def test_what_waits_is_dispatched_although_a_report_fails() -> None:
    def failing_report(_: BatchReport) -> None:
        raise PoisonError

    gate = Gate()
    async with workers(1) as pool:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["exception"])
        )
        batcher = MicroBatcher(gate, pool=pool, name="s", report=failing_report)
        tasks = await begin(batcher, 1)
        await gate.started()
        tasks += await begin(batcher, 2)
        gate.open()
        assert await outcomes(tasks) == [10, 20]
        await turns()
    assert [type(complaint) for complaint in complaints] == [PoisonError, PoisonError]


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
