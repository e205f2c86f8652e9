"""The batcher and its workers: what goes together, in which order, and who gets which result."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import BatchReport, BatchSizeError, MicroBatcher, WorkerPool
from service.domain.errors import StoppingError

SAFETY_NET_S = 20.0
NEVER_S = 3600.0


class PoisonError(Exception):
    pass


class AbruptError(BaseException):
    """Not an Exception: a batch function that is torn down, not one that fails."""


class Gate:
    """A batch function that notes its batches and holds each until it is let through."""

    def __init__(self, function: Callable[[Sequence[int]], Sequence[int]] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.peak = 0
        self._function = function or (lambda items: [item * 10 for item in items])
        self._lock = threading.Lock()
        self._started = threading.Semaphore(0)
        self._permits = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        with self._lock:
            self.batches.append(list(items))
            self.running += 1
            self.peak = max(self.peak, self.running)
        self._started.release()
        try:
            assert self._permits.acquire(timeout=SAFETY_NET_S), "nobody let this batch through"
            return self._function(items)
        finally:
            with self._lock:
                self.running -= 1

    async def started(self, batches: int = 1) -> None:
        """Wait until so many further batches have begun."""
        for _ in range(batches):
            assert await asyncio.to_thread(self._started.acquire, timeout=SAFETY_NET_S)

    def let_through(self, batches: int = 1) -> None:
        self._permits.release(batches)

    def open(self) -> None:
        self._permits.release(1000)


class Recorder:
    """A batch function that only notes its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        return [item * 10 for item in items]


@asynccontextmanager
async def workers(count: int) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(count)
    yield pool
    async with asyncio.timeout(SAFETY_NET_S):
        await pool.aclose()


async def turns() -> None:
    """Let everything happen that needs the event loop alone."""
    for _ in range(20):
        await asyncio.sleep(0)


async def begin(batcher: MicroBatcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Submit items in order, each from a caller of its own, and come back once they wait."""
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    await turns()
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[int]]) -> list[int | BaseException]:
    async with asyncio.timeout(SAFETY_NET_S):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lone_item_is_dispatched_at_once_and_without_a_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timers: list[object] = []
    async with workers(1) as pool:
        batcher = MicroBatcher(lambda items: list(items), pool=pool, name="s", max_batch_cost=64)
        monkeypatch.setattr(
            asyncio.get_running_loop(), "call_later", lambda *args, **_: timers.append(args)
        )
        assert await batcher.submit(7) == 7
        monkeypatch.undo()
    assert timers == []


async def test_items_that_wait_for_a_busy_worker_go_together() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8)
        tasks = await begin(batcher, 0)
        await gate.started()
        tasks += await begin(batcher, 1, 2, 3)
        gate.open()
        assert await outcomes(tasks) == [0, 10, 20, 30]
    assert gate.batches == [[0], [1, 2, 3]]


async def test_a_batch_ends_where_the_next_item_would_exceed_the_cost() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=10, cost=lambda item: item)
        tasks = await begin(batcher, 1)
        await gate.started()
        tasks += await begin(batcher, 4, 6, 5, 4, 2, 9)
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[1], [4, 6], [5, 4], [2], [9]]


async def test_an_item_above_the_cost_limit_runs_alone() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=3, cost=lambda item: item)
        tasks = await begin(batcher, 1)
        await gate.started()
        tasks += await begin(batcher, 1, 50, 1)
        gate.open()
        assert await outcomes(tasks) == [10, 10, 500, 10]
    assert gate.batches == [[1], [1], [50], [1]]


async def test_every_free_worker_gets_a_batch() -> None:
    gate = Gate()
    async with workers(3) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8)
        tasks = await begin(batcher, 0, 1, 2, 3, 4)
        await gate.started(3)
        assert sorted(gate.batches) == [[0], [1], [2]]
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
        early = MicroBatcher(gate, pool=pool, name="early", max_batch_cost=8)
        late = MicroBatcher(gate, pool=pool, name="late", max_batch_cost=8)
        tasks = await begin(early, 0)
        await gate.started()
        tasks += await begin(early, 1, 2)
        tasks += await begin(late, 100, 200)
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[0], [100, 200], [1, 2]]


async def test_an_item_cancelled_before_its_dispatch_never_runs() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8)
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
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=5, cost=lambda item: item)
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
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8, max_queue_size=2)
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
        batcher = MicroBatcher(gate, pool=pool, name="s", max_queue_size=1)
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
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8)
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


async def test_only_the_poisonous_item_of_a_batch_fails() -> None:
    def fragile(items: Sequence[int]) -> Sequence[int]:
        for item in items:
            if item in (2, 4):
                raise PoisonError(item)
        return [item * 10 for item in items]

    gate = Gate(fragile)
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8)
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
        batcher = MicroBatcher(gate, pool=pool, name="crops", max_batch_cost=8)
        first = await begin(batcher, 0)
        await gate.started()
        tasks = await begin(batcher, 1, 2)
        gate.open()
        results = await outcomes(tasks)
        await outcomes(first)
    assert [type(result) for result in results] == [BatchSizeError, BatchSizeError]
    assert str(results[0]) == f"stage crops: {len(given_back)} results for 2 items"


@pytest.mark.parametrize("error", [AbruptError(), asyncio.CancelledError(), GeneratorExit()])
async def test_a_torn_down_function_leaves_no_caller_waiting(error: BaseException) -> None:
    def abrupt(items: Sequence[int]) -> Sequence[int]:
        if items[0]:
            raise error
        return items

    gate = Gate(abrupt)
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8)
        first = await begin(batcher, 0)
        await gate.started()
        tasks = await begin(batcher, 1, 2)
        gate.open()
        assert [type(result) for result in await outcomes(tasks)] == [type(error)] * 2
        assert await outcomes(first) == [0]


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
        batcher = MicroBatcher(Recorder(), pool=pool, name="s", max_queue_size=1, cost=picky)
        with pytest.raises(PoisonError):
            await batcher.submit(-1)
        assert await outcomes(await begin(batcher, 1)) == [10]


async def test_callers_beyond_a_full_queue_wait_and_keep_their_order() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=8, max_queue_size=3)
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
            recorder, pool=pool, name="s", max_batch_cost=8, max_queue_delay_s=0.02
        )
        assert await outcomes(await begin(batcher, 1, 2, 3)) == [10, 20, 30]
    assert recorder.batches == [[1, 2, 3]]


async def test_a_full_batch_does_not_wait_for_the_queue_delay() -> None:
    recorder = Recorder()
    async with workers(2) as pool:
        batcher = MicroBatcher(
            recorder, pool=pool, name="s", max_batch_cost=3, max_queue_delay_s=NEVER_S
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
            recorder, pool=pool, name="s", max_batch_cost=3, max_queue_delay_s=NEVER_S
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
            recorder, pool=pool, name="s", max_batch_cost=2, max_queue_delay_s=0.02
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
        batcher = MicroBatcher(gate, pool=pool, name="s", max_batch_cost=2, max_queue_size=2)
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
            recorder, pool=pool, name="s", max_batch_cost=8, max_queue_delay_s=NEVER_S
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


async def test_submit_all_returns_results_in_the_order_of_its_items() -> None:
    async with workers(2) as pool:
        batcher = MicroBatcher(Recorder(), pool=pool, name="s", max_batch_cost=3)
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
        batcher = MicroBatcher(fragile, pool=pool, name="s", max_batch_cost=8)
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
            max_batch_cost=16,
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
            MicroBatcher(Recorder(), pool=pool, name="s", **settings)


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
                max_batch_cost=max_cost,
                max_queue_size=queue_size,
                max_queue_delay_s=delay_s,
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
            batcher = MicroBatcher(fragile, pool=pool, name="s", max_batch_cost=max_cost)
            return await outcomes([asyncio.create_task(batcher.submit(item)) for item in items])

    expected = [f"PoisonError({item})" if item < 0 else str(item * 10) for item in items]
    assert [repr(result) for result in asyncio.run(scenario())] == expected
