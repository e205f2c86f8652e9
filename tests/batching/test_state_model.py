"""The batcher against a model of it, through arbitrary sequences of what callers and workers do."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.batching import BatchPolicy, BatchReport, MicroBatcher, WorkerPool
from service.batching.batcher import share_of
from service.domain.errors import StoppingError

SAFETY_NET_S = 20.0


class PoisonError(Exception):
    pass


@dataclass(frozen=True)
class Item:
    number: int
    cost: int
    poisonous: bool


@dataclass
class Model:
    """What should happen, without threads, futures or an event loop."""

    idle: int
    max_cost: int
    room: int
    outside: deque[Item] = field(default_factory=deque)
    queue: deque[Item] = field(default_factory=deque)
    running: list[list[Item]] = field(default_factory=list)
    dispatched: list[list[Item]] = field(default_factory=list)
    finished: int = 0
    gone: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.workers = self.idle

    def submit(self, items: list[Item]) -> None:
        """Submit at one moment: the queue fills up before a worker takes a batch from it."""
        self.outside.extend(items)
        self._settle()

    def cancel(self, item: Item) -> None:
        self.gone.add(item.number)
        if item in self.outside:
            self.outside.remove(item)

    def finish(self, batch: list[Item]) -> None:
        self.running.remove(batch)
        self.ended.update(item.number for item in batch)
        self.finished += 1
        self.idle += 1
        self._settle()

    def waiting(self) -> list[Item]:
        return [item for item in self.queue if item.number not in self.gone]

    def _settle(self) -> None:
        self._let_in()
        self._dispatch()
        while self.outside and self.room:
            self._let_in()
            self._dispatch()

    def _let_in(self) -> None:
        while self.outside and self.room:
            self.room -= 1
            self.queue.append(self.outside.popleft())

    def _dispatch(self) -> None:
        while self.idle:
            batch: list[Item] = []
            waiting = sum(item.cost for item in self.waiting())
            limit = min(self.max_cost, share_of(waiting, self.idle, self.workers))
            while self.queue:
                item = self.queue[0]
                wanted = item.number not in self.gone
                if wanted and batch and sum(i.cost for i in batch) + item.cost > limit:
                    break
                self.queue.popleft()
                self.room += 1
                if wanted:
                    batch.append(item)
            if not batch:
                return
            self.idle -= 1
            self.running.append(batch)
            self.dispatched.append(batch)


class BatcherMachine(RuleBasedStateMachine):
    """Every batch is held in its worker until the rule `a_worker_finishes` lets it end."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.changed = asyncio.Event()
        self.lock = threading.Lock()
        self.started: list[list[Item]] = []
        self.gates: dict[int, threading.Event] = {}
        self.reports: list[BatchReport] = []
        self.tasks: dict[int, asyncio.Task[str]] = {}
        self.items: list[Item] = []
        self.drain: asyncio.Task[None] | None = None

    @initialize(
        worker_count=st.integers(1, 3), max_cost=st.integers(1, 6), queue_size=st.integers(1, 6)
    )
    def set_up(self, worker_count: int, max_cost: int, queue_size: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.model = Model(worker_count, max_cost, queue_size)
        self.pool = WorkerPool(worker_count)
        self.batcher = MicroBatcher(
            self.batch,
            pool=self.pool,
            name="stage",
            policy=BatchPolicy(max_batch_cost=max_cost, max_queue_size=queue_size),
            cost=lambda item: item.cost,
            report=self.report,
        )

    @rule(
        arrivals=st.lists(
            st.tuples(st.integers(1, 8), st.sampled_from([False, False, False, True])),
            min_size=1,
            max_size=5,
        )
    )
    def callers_submit(self, arrivals: list[tuple[int, bool]]) -> None:
        refused, accepted = [], []
        for cost, poisonous in arrivals:
            item = Item(len(self.items), cost, poisonous)
            task = self.loop.create_task(self.batcher.submit(item))
            if self.drain is not None:
                refused.append(task)
                continue
            self.items.append(item)
            self.tasks[item.number] = task
            accepted.append(item)
        self.model.submit(accepted)
        self.settle()
        for task in refused:
            assert isinstance(task.exception(), StoppingError)

    def unanswered(self) -> list[Item]:
        answered = self.model.gone | self.model.ended
        return [item for item in self.items if item.number not in answered]

    @precondition(lambda self: self.unanswered())
    @rule(data=st.data())
    def a_caller_leaves(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.unanswered()))
        self.tasks[item.number].cancel()
        self.model.cancel(item)
        self.settle()

    @precondition(lambda self: self.model.running)
    @rule(data=st.data())
    def a_worker_finishes(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(self.model.running)))

    @precondition(lambda self: self.drain is None and len(self.items) > 4)
    @rule()
    def the_service_begins_to_drain(self) -> None:
        self.drain = self.loop.create_task(self.batcher.drain())
        self.settle()

    @invariant()
    def the_same_batches_have_begun(self) -> None:
        with self.lock:
            begun = sorted(self.started, key=lambda batch: batch[0].number)
        assert begun == sorted(self.model.dispatched, key=lambda batch: batch[0].number)

    @invariant()
    def as_many_items_wait(self) -> None:
        assert self.batcher.waiting == len(self.model.waiting())

    @invariant()
    def every_answer_is_that_of_its_item(self) -> None:
        for item in self.items:
            task = self.tasks[item.number]
            if item.number in self.model.gone:
                assert task.cancelled()
            elif item.number not in self.model.ended:
                assert not task.done()
            elif item.poisonous:
                assert repr(task.exception()) == f"PoisonError({item.number})"
            else:
                assert task.result() == f"result of {item.number}"

    @invariant()
    def draining_ends_with_the_last_answer(self) -> None:
        if self.drain is not None:
            assert self.drain.done() == (not self.unanswered())

    def teardown(self) -> None:
        if self.loop is None:
            return
        try:
            while self.model.running:
                self.finish(self.model.running[0])
            for check in (
                self.the_same_batches_have_begun,
                self.as_many_items_wait,
                self.every_answer_is_that_of_its_item,
            ):
                check()
            assert not self.unanswered()
        finally:
            for gate in list(self.gates.values()):
                gate.set()
            leftover = asyncio.all_tasks(self.loop)
            for task in leftover:
                task.cancel()
            if leftover:
                self.loop.run_until_complete(asyncio.wait(leftover))
            self.loop.run_until_complete(self.pool.aclose())
            self.loop.close()

    def batch(self, items: Sequence[Item]) -> list[str]:
        """Runs in a worker."""
        with self.lock:
            is_retry = any(items[0] in batch for batch in self.started)
            gate = self.gates.setdefault(items[0].number, threading.Event())
            if not is_retry:
                self.started.append(list(items))
        if not is_retry:
            self.loop.call_soon_threadsafe(self.changed.set)
            assert gate.wait(SAFETY_NET_S), "nobody let this batch end"
        for item in items:
            if item.poisonous:
                raise PoisonError(item.number)
        return [f"result of {item.number}" for item in items]

    def report(self, report: BatchReport) -> None:
        self.reports.append(report)
        self.changed.set()

    def finish(self, batch: list[Item]) -> None:
        self.gates[batch[0].number].set()
        self.model.finish(batch)
        self.settle()

    def settle(self) -> None:
        """Wait for the batches and reports that the model expects; then let the loop come to rest.

        An answer that comes too early, or a batch too many, is left for the invariants to find.
        """

        async def wait() -> None:
            await self.until(lambda: len(self.reports) >= self.model.finished)
            await self.until(lambda: len(self.started) >= len(self.model.dispatched))
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(wait())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SAFETY_NET_S):
            while not condition():
                self.changed.clear()
                if not condition():
                    await self.changed.wait()


BatcherMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)

TestBatcherBehavesLikeItsModel = BatcherMachine.TestCase
