"""Which items go first: by stage, by priority, and by what their lanes were served."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from service.batching import (
    BatchPolicy,
    FairShare,
    Lane,
    MicroBatcher,
    Priority,
    Ticket,
)
from service.batching.fairness import MAX_IDLE_LANES
from service.batching.queueing import Entry, FairQueue
from service.domain.errors import DeadlineError
from tests.support.batching import (
    HeldFunction,
    Recorder,
    all_busy,
    begin,
    outcomes,
    submitted,
    turns,
    workers,
)


async def test_the_stage_registered_later_goes_first() -> None:
    held = HeldFunction()
    async with workers(1) as pool:
        early = MicroBatcher(held, pool=pool, name="early", policy=BatchPolicy(max_batch_cost=8))
        late = MicroBatcher(held, pool=pool, name="late", policy=BatchPolicy(max_batch_cost=8))
        tasks = await begin(early, 0)
        await held.started()
        tasks += await begin(early, 1, 2)
        tasks += await begin(late, 100, 200)
        held.open()
        await outcomes(tasks)
    assert held.batches == [[0], [100, 200], [1, 2]]


async def test_the_least_served_lane_goes_first_and_by_itself() -> None:
    held = HeldFunction()
    flood, rare = Lane("flood"), Lane("rare")
    flood.charge(9.0)
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=3))
        tasks = await submitted(batcher, Ticket(flood), 0)
        await held.started()
        tasks += await submitted(batcher, Ticket(flood), 1, 2, 3)
        tasks += await submitted(batcher, Ticket(rare, Priority.BULK), 5)
        tasks += await submitted(batcher, Ticket(rare), 4)
        held.open()
        await outcomes(tasks)
    assert held.batches == [[0], [4], [1, 2, 3], [5]]


async def test_lanes_that_were_served_alike_share_batches() -> None:
    held = HeldFunction()
    lanes = [Lane(name) for name in "abc"]
    async with workers(1) as pool:
        batcher = MicroBatcher(held, pool=pool, name="s", policy=BatchPolicy(max_batch_cost=3))
        tasks = await submitted(batcher, Ticket(Lane("at the held")), 0)
        await held.started()
        for number, lane in enumerate(lanes, start=1):
            lane.charge(0.01 * number)
            tasks += await submitted(batcher, Ticket(lane), number)
        held.open()
        await outcomes(tasks)
    assert held.batches == [[0], [1, 2, 3]]


async def test_a_lane_is_charged_for_what_ran() -> None:
    lanes = Lane("a"), Lane("b")
    async with workers(1) as pool:
        batcher = MicroBatcher(
            lambda items: time.sleep(0.01) or items,  # type: ignore[func-returns-value]
            pool=pool,
            name="s",
            policy=BatchPolicy(max_batch_cost=8),
            cost=lambda item: item,
        )
        tickets = [Ticket(lane) for lane in lanes]
        async with all_busy(pool):
            tasks = await submitted(batcher, tickets[0], 6)
            tasks += await submitted(batcher, tickets[1], 2)
        await outcomes(tasks)
    assert lanes[0].served_s == pytest.approx(3 * lanes[1].served_s)
    assert sum(ticket.spent_s for ticket in tickets) >= 0.01


async def test_stages_of_a_less_served_lane_go_before_later_stages_of_others() -> None:
    held, early, late = HeldFunction(), Recorder(), Recorder()
    flood, rare = Lane("flood"), Lane("rare")
    flood.charge(9.0)
    seen: list[str] = []
    async with workers(1) as pool:
        first = MicroBatcher(early, pool=pool, name="1", report=lambda r: seen.append(r.stage))
        second = MicroBatcher(late, pool=pool, name="2", report=lambda r: seen.append(r.stage))
        blocker = MicroBatcher(held, pool=pool, name="0")
        tasks = await submitted(blocker, Ticket(rare), 0)
        await held.started()
        tasks += await submitted(first, Ticket(flood), 1)
        tasks += await submitted(second, Ticket(flood), 2)
        tasks += await submitted(first, Ticket(rare), 3)
        held.open()
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
    held, late, others = HeldFunction(), Recorder(), Recorder()
    seen: list[str] = []
    async with workers(1) as pool:
        between, ended = asyncio.Event(), asyncio.Event()
        stages = [
            MicroBatcher(held, pool=pool, name="first", report=lambda _: ended.set()),
            MicroBatcher(late, pool=pool, name="second", report=lambda r: seen.append(r.stage)),
        ]
        other = MicroBatcher(others, pool=pool, name="other", report=lambda r: seen.append(r.stage))
        quiet = asyncio.create_task(two_steps(stages, rare, between))
        await turns()
        await held.started()
        tasks = await submitted(other, flood, 1)
        held.open()
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


def test_the_counts_of_a_lane_change_by_its_methods_alone() -> None:
    lane = Lane("one")
    lane.begin()
    lane.begin()
    lane.add_backlog(0.1 + 0.2)
    Ticket(lane).charge(2.5)
    lane.end()
    lane.add_backlog(-0.1)
    assert (lane.open, lane.served_s, lane.backlog_s) == (1, 2.5, pytest.approx(0.2))
    lane.end()
    assert (lane.open, lane.served_s, lane.backlog_s) == (0, 2.5, 0.0)
    lane.catch_up(2.0)
    assert lane.served_s == 2.5
    lane.catch_up(3.0)
    assert lane.served_s == 3.0
    for name in ("open", "served_s", "backlog_s"):
        with pytest.raises(AttributeError):
            setattr(lane, name, 0)


def test_a_ticket_tells_when_its_last_item_has_run() -> None:
    ticket = Ticket(Lane())
    ticket.begin_step()
    ticket.begin_step()
    assert not ticket.end_step()
    assert ticket.end_step()


def test_an_idle_lane_comes_back_with_bounded_credit() -> None:
    fair = FairShare()
    flood = fair.enter("flood")
    Ticket(flood).charge(100.0)
    rare = fair.enter("rare")
    assert flood.served_s - rare.served_s == pytest.approx(0.5)
    fair.leave(rare)
    rare.charge(5.0)
    Ticket(flood).charge(1.0)
    assert fair.enter("rare") is rare
    assert rare.served_s == pytest.approx(104.5)  # what it was served is not forgotten


def test_the_lane_that_rested_longest_is_forgotten() -> None:
    fair = FairShare()
    lanes = [fair.enter(f"tenant {number}") for number in range(MAX_IDLE_LANES + 1)]
    for lane in reversed(lanes):
        Ticket(lane).charge(5.0)
        fair.leave(lane)
    *kept, forgotten = lanes
    assert all(fair.lane(lane.name) is lane for lane in kept)
    assert fair.lane(forgotten.name).served_s == 0.0


def test_a_lane_that_comes_back_rests_anew() -> None:
    fair = FairShare()
    regular = fair.enter("regular")
    fair.leave(regular)
    for number in range(2 * MAX_IDLE_LANES):
        fair.leave(fair.enter(f"visitor {number}"))
        if number % 100 == 0:
            fair.leave(fair.enter("regular"))
    assert fair.lane("regular") is regular


def test_lanes_with_a_request_are_never_forgotten() -> None:
    fair = FairShare()
    busy = fair.enter("busy")
    visitors = [fair.enter(f"visitor {number}") for number in range(2 * MAX_IDLE_LANES)]
    for lane in visitors:
        fair.leave(lane)
    assert fair.active == 1
    assert fair.lane("busy") is busy
    assert sum(fair.lane(lane.name) is lane for lane in visitors) == MAX_IDLE_LANES
