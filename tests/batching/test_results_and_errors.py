"""Results in order and once each; errors stay with the items that made them."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import (
    BatchPolicy,
    BatchReport,
    BatchSizeError,
    Lane,
    MicroBatcher,
    Ticket,
)
from service.domain.errors import WithdrawnError
from tests.support.batching import (
    AbruptError,
    HeldFunction,
    PoisonError,
    Recorder,
    all_busy,
    begin,
    outcomes,
    turns,
    workers,
)


async def test_only_the_poisonous_item_of_a_batch_fails() -> None:
    def fragile(items: Sequence[int]) -> Sequence[int]:
        for item in items:
            if item in (2, 4):
                raise PoisonError(item)
        return [item * 10 for item in items]

    held = HeldFunction(fragile)
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(batcher, 0)
        await held.started()
        tasks += await begin(batcher, 1, 2, 3, 4)
        held.open()
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
    held = HeldFunction(lambda items: given_back if len(items) == 2 else items)
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="crops", policy=BatchPolicy(max_batch_cost=8))
        first = await begin(batcher, 0)
        await held.started()
        tasks = await begin(batcher, 1, 2)
        held.open()
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

    held = HeldFunction(abrupt)
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        first = await begin(batcher, 0)
        await held.started()
        tasks = await begin(batcher, 1, 2)
        held.open()
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
            policy=BatchPolicy(max_batch_cost=2),
        )
        async with all_busy(pool):
            tasks = await begin(batcher, 1, 2, 3, 4)
        results = await outcomes(tasks)
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

    held = HeldFunction()
    async with workers(1) as pool:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["exception"])
        )
        batcher = MicroBatcher(held, pool=pool, name="s", report=failing_report)
        tasks = await begin(batcher, 1)
        await held.started()
        tasks += await begin(batcher, 2)
        held.open()
        assert await outcomes(tasks) == [10, 20]
        await turns()
    assert [type(complaint) for complaint in complaints] == [PoisonError, PoisonError]


async def test_a_result_that_is_an_exception_is_raised_for_its_item_alone() -> None:
    def function(items: Sequence[int]) -> list[int | BaseException]:
        return [PoisonError() if item == 2 else item for item in items]

    async with workers(1) as pool:
        batcher = MicroBatcher(
            function,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=3),
        )
        async with all_busy(pool):
            tasks = await begin(batcher, 1, 2, 3)
        found = await outcomes(tasks)
    assert found[0] == 1
    assert isinstance(found[1], PoisonError)
    assert found[2] == 3


async def test_a_caller_that_leaves_while_its_batch_runs_does_not_disturb_the_others() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=8))
        first = await begin(batcher, 0)
        await held.started()
        tasks = await begin(batcher, 1, 2, 3)
        held.let_through()
        await held.started()
        tasks[1].cancel()
        await turns()
        held.open()
        results = await outcomes(tasks)
        assert (results[0], results[2]) == (10, 30)
        assert await outcomes(first + await begin(batcher, 4)) == [0, 40]


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

    held = HeldFunction(fragile)
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s")
        everything = asyncio.create_task(batcher.submit_all([-1, 1, 2, 3]))
        await held.started()
        held.let_through()
        with pytest.raises(PoisonError):
            await everything
        held.open()
        await outcomes(await begin(batcher, 9))
    # Item 1 may have begun before the error was handed out; 2 and 3 must not.
    assert held.batches in ([[-1], [1], [9]], [[-1], [9]])


async def test_cancelling_submit_all_cancels_its_items() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s")
        everything = asyncio.create_task(batcher.submit_all([1, 2, 3]))
        await held.started()
        everything.cancel()
        with pytest.raises(asyncio.CancelledError):
            await everything
        assert batcher.waiting == 0
        held.open()
    assert held.batches == [[1]]


async def test_a_report_tells_size_cost_and_failures_of_each_batch() -> None:
    def fragile(items: Sequence[int]) -> Sequence[int]:
        if 3 in items:
            raise PoisonError
        return items

    held = HeldFunction(fragile)
    reports: list[BatchReport] = []
    async with workers(1) as pool:
        batcher = MicroBatcher(
            held,
            pool=pool,
            name="crops",
            policy=BatchPolicy(max_batch_cost=16),
            cost=lambda item: item,
            report=reports.append,
        )
        tasks = await begin(batcher, 1)
        await held.started()
        tasks += await begin(batcher, 2, 3, 4)
        held.open()
        await outcomes(tasks)
    assert [(r.stage, r.size, r.cost, r.failed) for r in reports] == [
        ("crops", 1, 1, 0),
        ("crops", 3, 9, 1),
    ]


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


async def test_all_who_wait_with_a_ticket_get_a_failure_of_their_own() -> None:
    ticket, loop = Ticket(Lane()), asyncio.get_running_loop()
    waiting = [asyncio.create_task(ticket.wait(loop.create_future())) for _ in range(3)]
    await turns()
    ticket.withdraw()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    for _ in range(3):
        with pytest.raises(WithdrawnError) as caught:
            ticket.check()
        failures.append(caught.value)
        with pytest.raises(WithdrawnError) as caught:
            await ticket.wait(loop.create_future())
        failures.append(caught.value)
    assert len({id(failure) for failure in failures}) == 9
    assert {str(failure) for failure in failures} == {"The caller hung up."}
    assert len({len(traceback.extract_tb(failure.__traceback__)) for failure in failures}) <= 2
