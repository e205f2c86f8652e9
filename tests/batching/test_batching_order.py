"""Which items go into a batch: whose turn it is, who has gone, who is too late, how many fit."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from service.batching import BatchPolicy, FairShare, Lane, MicroBatcher, Priority, Ticket
from service.batching.batcher import share_of
from service.batching.queueing import Entry, FairQueue
from service.domain.errors import DeadlineError, WithdrawnError
from tests.support.batching import Gate, PoisonError, Recorder, outcomes, turns, workers


async def submitted(
    batcher: MicroBatcher[int, int], ticket: Ticket, *items: int
) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.submit(item, ticket)) for item in items]
    await turns()
    return tasks


async def test_the_least_served_lane_goes_first_and_by_itself() -> None:
    gate = Gate()
    flood, rare = Lane("flood"), Lane("rare")
    flood.charge(9.0)
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=3))
        tasks = await submitted(batcher, Ticket(flood), 0)
        await gate.started()
        tasks += await submitted(batcher, Ticket(flood), 1, 2, 3)
        tasks += await submitted(batcher, Ticket(rare, Priority.BULK), 5)
        tasks += await submitted(batcher, Ticket(rare), 4)
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[0], [4], [1, 2, 3], [5]]


async def test_lanes_that_were_served_alike_share_batches() -> None:
    gate = Gate()
    lanes = [Lane(name) for name in "abc"]
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=3))
        tasks = await submitted(batcher, Ticket(Lane("at the gate")), 0)
        await gate.started()
        for number, lane in enumerate(lanes, start=1):
            lane.charge(0.01 * number)
            tasks += await submitted(batcher, Ticket(lane), number)
        gate.open()
        await outcomes(tasks)
    assert gate.batches == [[0], [1, 2, 3]]


async def test_a_lane_is_charged_for_what_ran() -> None:
    lanes = Lane("a"), Lane("b")
    async with workers(1) as pool:
        batcher = MicroBatcher(
            lambda items: time.sleep(0.01) or items,  # type: ignore[func-returns-value]
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=8, max_queue_delay_s=60),
            cost=lambda item: item,
        )
        tickets = [Ticket(lane) for lane in lanes]
        tasks = await submitted(batcher, tickets[0], 6)
        tasks += await submitted(batcher, tickets[1], 2)
        await outcomes(tasks)
    assert lanes[0].served_s == pytest.approx(3 * lanes[1].served_s)
    assert sum(ticket.spent_s for ticket in tickets) >= 0.01


async def test_stages_of_a_less_served_lane_go_before_later_stages_of_others() -> None:
    gate, early, late = Gate(), Recorder(), Recorder()
    flood, rare = Lane("flood"), Lane("rare")
    flood.charge(9.0)
    seen: list[str] = []
    async with workers(1) as pool:
        first = MicroBatcher(early, pool=pool, name="1", report=lambda r: seen.append(r.stage))
        second = MicroBatcher(late, pool=pool, name="2", report=lambda r: seen.append(r.stage))
        blocker = MicroBatcher(gate, pool=pool, name="0")
        tasks = await submitted(blocker, Ticket(rare), 0)
        await gate.started()
        tasks += await submitted(first, Ticket(flood), 1)
        tasks += await submitted(second, Ticket(flood), 2)
        tasks += await submitted(first, Ticket(rare), 3)
        gate.open()
        await outcomes(tasks)
    assert early.batches == [[3], [1]]
    assert seen == ["1", "2", "1"]


async def two_steps(
    stages: Sequence[MicroBatcher[int, int]], ticket: Ticket, between: asyncio.Event
) -> None:
    await stages[0].submit(0, ticket)
    await between.wait()
    await stages[1].submit(0, ticket)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_worker_waits_for_the_next_stage_of_a_request_that_goes_first(
    monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    monkeypatch.setattr("service.batching.pool._ANTICIPATION_S", 3600.0)
    fair = FairShare()
    flood, rare = Ticket(fair.enter("flood")), Ticket(fair.enter("rare"))
    flood.lane.charge(9.0)
    gate, late, others = Gate(), Recorder(), Recorder()
    seen: list[str] = []
    async with workers(1) as pool:
        between, ended = asyncio.Event(), asyncio.Event()
        stages = [
            MicroBatcher(gate, pool=pool, name="first", report=lambda _: ended.set()),
            MicroBatcher(late, pool=pool, name="second", report=lambda r: seen.append(r.stage)),
        ]
        other = MicroBatcher(others, pool=pool, name="other", report=lambda r: seen.append(r.stage))
        quiet = asyncio.create_task(two_steps(stages, rare, between))
        await turns()
        await gate.started()
        tasks = await submitted(other, flood, 1)
        gate.open()
        await ended.wait()
        await turns()
        assert others.batches == []
        if comes_back:
            between.set()
            await quiet
            pool.no_more(rare)
        else:
            pool.no_more(rare)
            quiet.cancel()
        await outcomes(tasks)
    assert seen == (["second", "other"] if comes_back else ["other"])


async def test_a_request_that_does_not_come_back_holds_nobody_up_for_long() -> None:
    fair = FairShare()
    flood, rare = Ticket(fair.enter("flood")), Ticket(fair.enter("rare"))
    flood.lane.charge(9.0)
    async with workers(1) as pool:
        batcher = MicroBatcher(Recorder(), pool=pool, name="s")
        await outcomes(await submitted(batcher, rare, 1))
        assert await outcomes(await submitted(batcher, flood, 2)) == [20]


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own here")
async def test_workers_step_back_behind_the_event_loop() -> None:
    def niceness(items: Sequence[int]) -> list[int]:
        return [os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) for _ in items]

    async with workers(1) as pool:
        batcher = MicroBatcher(niceness, pool=pool, name="s")
        assert await batcher.submit(0) > os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize(
    ("fail", "error", "reason"),
    [(Ticket.withdraw, WithdrawnError, "gone"), (Ticket.expire, DeadlineError, "deadline")],
)
async def test_nothing_runs_for_a_ticket_that_failed(fail, error, reason: str) -> None:
    gate = Gate()
    abandoned: list[str] = []
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", on_abandoned=abandoned.append)
        tasks = await submitted(batcher, Ticket(Lane()), 0)
        await gate.started()
        ticket = Ticket(Lane())
        lost = await submitted(batcher, ticket, 1, 2)
        fail(ticket)
        assert [type(found) for found in await outcomes(lost)] == [error, error]
        gate.open()
        await outcomes(tasks + await submitted(batcher, Ticket(Lane()), 3))
        with pytest.raises(error):
            await batcher.submit(4, ticket)
    assert gate.batches == [[0], [3]]
    assert abandoned == [reason, reason]


async def test_to_ask_a_queue_what_goes_next_changes_nothing() -> None:
    left: list[Ticket] = []
    abandoned: list[str] = []
    queue: FairQueue[int, int] = FairQueue(lambda cost: 0.0, left.append, abandoned.append)
    gone, wanted = (Ticket(Lane(name)) for name in ("gone", "wanted"))
    late = Ticket(Lane("late"), deadline=time.monotonic() - 1.0)
    for served_s, ticket in enumerate((gone, late, wanted)):
        ticket.charge(float(served_s))
        future = asyncio.get_running_loop().create_future()
        queue.append(Entry(1, 1, ticket, future, time.perf_counter()))
        if ticket is gone:
            future.cancel()
    for _ in range(3):
        assert queue.urgency() == gone.order
    assert (left, abandoned, late.failure) == ([], [], None)
    queue.drop_over()
    assert queue.urgency() == wanted.order
    assert (left, abandoned) == ([gone, late], ["gone", "deadline"])
    assert isinstance(late.failure, DeadlineError)
    assert gone.failure is None
    assert [entry.ticket for entry in queue.take(8)] == [wanted]


async def test_an_item_that_would_end_too_late_is_shed_at_dispatch_and_at_enqueue() -> None:
    gate = Gate()
    async with workers(1) as pool:
        batcher = MicroBatcher(gate, pool=pool, name="s", after_s=lambda: 100.0)
        tasks = await submitted(batcher, Ticket(Lane()), 0)
        await gate.started()
        ticket = Ticket(Lane(), deadline=time.monotonic() + 200.0)
        late = await submitted(batcher, ticket, 1)
        ticket.deadline -= 150.0
        gate.open()
        assert [type(found) for found in await outcomes(late)] == [DeadlineError]
        with pytest.raises(DeadlineError):
            await batcher.submit(2, Ticket(Lane(), deadline=time.monotonic() + 50.0))
        await outcomes(tasks)
    assert gate.batches == [[0]]


async def test_a_result_that_is_an_exception_is_raised_for_its_item_alone() -> None:
    def function(items: Sequence[int]) -> list[int | BaseException]:
        return [PoisonError() if item == 2 else item for item in items]

    async with workers(1) as pool:
        batcher = MicroBatcher(
            function,
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=3, max_queue_delay_s=60),
        )
        found = await outcomes(await submitted(batcher, Ticket(Lane()), 1, 2, 3))
    assert found[0] == 1
    assert isinstance(found[1], PoisonError)
    assert found[2] == 3


@pytest.mark.parametrize(("objective_s", "largest"), [(0.0, 16), (100.0, 16), (4.4, 6), (1.5, 1)])
async def test_a_latency_objective_bounds_batches_by_the_fit(
    objective_s: float, largest: int
) -> None:
    """A batch of n takes 0.5 n + 1 s by the fit; one worker, so all that fits is taken."""
    gate = Gate()
    policy = BatchPolicy(max_batch_cost=16, latency_objective_s=objective_s)
    async with workers(1) as pool:
        blocked = Gate()
        blocker = MicroBatcher(blocked, pool=pool, name="0")
        batcher = MicroBatcher(gate, pool=pool, name="s", policy=policy)
        for size in (1, 4, 9):
            batcher.fit.observe(size, 0.5 * size + 1)
        ticket = Ticket(Lane(), deadline=math.inf)
        tasks = await submitted(blocker, ticket, 0)
        await blocked.started()
        tasks += await submitted(batcher, ticket, *range(16))
        # Expected gaps are long, so that nothing waits for company.
        batcher._gap_s = 60.0
        blocked.open()
        await gate.started()
        gate.open()
        await outcomes(tasks)
    assert len(gate.batches[0]) == largest


async def test_with_an_objective_a_worker_waits_for_company_that_is_expected_soon() -> None:
    recorder = Recorder()
    policy = BatchPolicy(max_batch_cost=3, latency_objective_s=1000.0)
    async with workers(2) as pool:
        batcher = MicroBatcher(recorder, pool=pool, name="s", policy=policy)
        for size in (1, 4, 9):
            batcher.fit.observe(size, 0.5 * size + 60)  # so long is a call's fixed time
        tasks = await submitted(batcher, Ticket(Lane()), 1, 2)
        assert recorder.batches == []
        await outcomes(tasks + await submitted(batcher, Ticket(Lane()), 3))
    assert recorder.batches == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("waiting", "idle", "workers", "taken"),
    [(1, 1, 2, 1), (2, 1, 2, 2), (7, 1, 2, 5), (12, 1, 2, 8), (7, 2, 2, 4), (7, 1, 1, 7)],
)
def test_free_workers_share_and_the_last_one_leaves_something(
    waiting: int, idle: int, workers: int, taken: int
) -> None:
    assert share_of(waiting, idle, workers) == taken


async def test_a_lone_item_is_run_by_itself_only_while_no_worker_has_anything_to_do() -> None:
    gate, lone = Gate(), Recorder()
    async with workers(2) as pool:
        batcher = MicroBatcher(gate, alone=lone, pool=pool, name="s", policy=BatchPolicy(4))
        ticket = Ticket(Lane())
        await outcomes(await submitted(batcher, ticket, 1))
        assert not batcher.fit.observed
        tasks = await submitted(batcher, ticket, 2, 3)
        await gate.started(2)
        tasks += await submitted(batcher, ticket, 4)
        gate.let_through()
        await gate.started()
        gate.open()
        await outcomes(tasks)
        assert batcher.fit.observed
    assert lone.batches == [[1]]
    assert sorted(gate.batches) == [[2], [3], [4]]
