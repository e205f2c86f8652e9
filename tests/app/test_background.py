"""Background tasks that fail: restarts, pauses, readiness and shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from service.api.errors import error_response
from service.app.background import BackgroundTasks, RestartPolicy
from service.domain.errors import UnavailableError
from service.telemetry import Metrics

_QUICK = RestartPolicy(first_pause_s=0.001, longest_pause_s=0.002, max_failures=3)


class Task:
    """A task that fails as often as a test wants, then goes on until it is cancelled."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error
        self.runs = 0
        self.goes_on = asyncio.Event()
        self.cancelled = False

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            if self.error is not None:
                raise self.error
            return
        self.goes_on.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def _supervising(
    *tasks: tuple[str, Task], failed: list[str] | None = None, clock: Clock | None = None
) -> AsyncIterator[BackgroundTasks]:
    background = BackgroundTasks(
        on_failure=(failed if failed is not None else []).append,
        policy=_QUICK,
        clock=clock or Clock(),
    )
    for name, task in tasks:
        background.start(name, task.run)
    try:
        async with asyncio.timeout(10):
            yield background
    finally:
        await background.aclose()


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), asyncio.CancelledError(), None], ids=repr
)
async def test_task_that_ends_early_is_restarted_reported_and_logged(
    error: BaseException | None, caplog: pytest.LogCaptureFixture
) -> None:
    task, failed = Task(2, error), list[str]()
    async with _supervising(("indexer", task), failed=failed):
        await task.goes_on.wait()
    assert task.runs == 3
    assert failed == ["indexer"] * 2
    records = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.fields["task"] for each in records] == ["indexer"] * 2  # type: ignore[attr-defined]
    assert [each.exc_info[1] if each.exc_info else None for each in records] == [error] * 2


async def test_tasks_fail_and_go_on_apart() -> None:
    failing, healthy = Task(2, RuntimeError("broken")), Task(0)
    async with _supervising(("failing", failing), ("healthy", healthy)):
        await failing.goes_on.wait()
    assert healthy.runs == 1


def test_pause_doubles_up_to_its_bound() -> None:
    policy = RestartPolicy(first_pause_s=0.5, longest_pause_s=60.0)
    pauses = [policy.pause_s(failures) for failures in range(1, 9)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32, 60]
    assert all(one <= other for one, other in pairwise(pauses))
    assert policy.pause_s(100_000) == 60


async def test_pause_before_each_restart_is_the_policys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("service.app.background.asyncio.sleep", note)
    task = Task(4, RuntimeError("broken"))
    async with _supervising(("t", task)):
        await task.goes_on.wait()
    assert pauses == [0.001, 0.002, 0.002, 0.002]


async def test_service_is_not_ready_while_a_task_is_dead() -> None:
    clock, task = Clock(), Task(3, RuntimeError("broken"))
    async with _supervising(("sweeps", task), clock=clock) as background:
        background.check()
        await task.goes_on.wait()
        clock.now_s = 29.9
        with pytest.raises(UnavailableError, match="sweeps") as caught:
            background.check()
        assert error_response(caught.value).status_code == 503
        clock.now_s = 30.0  # the run is steady
        background.check()


async def test_service_stays_ready_while_failures_are_few() -> None:
    task = Task(2, RuntimeError("broken"))
    async with _supervising(("sweeps", task)) as background:
        await task.goes_on.wait()
        background.check()


async def test_steady_run_begins_a_new_row_of_failures() -> None:
    clock, failing = Clock(), RuntimeError("broken")
    runs, enough = 0, asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 6:
            enough.set()
            await asyncio.Event().wait()
        clock.now_s += 30.0
        raise failing

    background = BackgroundTasks(on_failure=lambda name: None, policy=_QUICK, clock=clock)
    background.start("t", run)
    async with asyncio.timeout(10):
        await enough.wait()
    background.check()
    await background.aclose()


async def test_shutdown_cancels_running_and_waiting_tasks() -> None:
    running, waiting = Task(0), Task(1, RuntimeError("broken"))
    failed = asyncio.Event()
    background = BackgroundTasks(
        on_failure=lambda name: failed.set(), policy=RestartPolicy(first_pause_s=3600)
    )
    background.start("running", running.run)
    background.start("waiting", waiting.run)
    async with asyncio.timeout(10):
        await running.goes_on.wait()
        await failed.wait()
        await background.aclose()
    assert running.cancelled
    assert waiting.runs == 1


async def test_failure_during_cancellation_is_logged_and_ends_the_shutdown_of_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began, other = asyncio.Event(), Task(0)

    async def run() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("broken at the end")

    background = BackgroundTasks(on_failure=lambda name: None, policy=_QUICK)
    background.start("t", run)
    background.start("other", other.run)
    async with asyncio.timeout(10):
        await began.wait()
        await other.goes_on.wait()
        await background.aclose()
    assert other.cancelled
    assert "broken at the end" in caplog.text


def test_failures_are_counted_for_each_task_from_zero() -> None:
    metrics = Metrics()
    metrics.background_failures.labels("codes").inc()
    text = metrics.exposition().decode()
    assert 'facette_background_failures_total{task="codes"} 1.0' in text
    assert 'facette_background_failures_total{task="sweeps"} 0.0' in text
