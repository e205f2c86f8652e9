"""Background tasks of the service: restarted when they fail, and counted in its readiness."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.domain.errors import UnavailableError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a failed task is restarted, and when it counts as dead.

    first_pause_s: seconds before the first restart. Each further failure in a row doubles them.
    longest_pause_s: upper bound of the pause.
    steady_s: a run that lasts this long ends the row of failures.
    max_failures: a task with this many failures in a row is dead until a run of it is steady.
    """

    first_pause_s: float = 0.5
    longest_pause_s: float = 60.0
    steady_s: float = 30.0
    max_failures: int = 5

    def pause_s(self, failures: int) -> float:
        """Seconds between a failure and the restart; `failures` counts those in a row."""
        doublings = min(failures - 1, 30)  # keeps the power finite
        return min(self.first_pause_s * 2.0**doublings, self.longest_pause_s)


class BackgroundTasks:
    """Runs functions that should go on until shutdown, and restarts each one that ends.

    An end is a failure, by an exception or by a return. Each failure is logged with its traceback
    and reported to `on_failure`.

    Args:
        on_failure: called with the name of the task.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        on_failure: Callable[[str], None],
        policy: RestartPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_failure = on_failure
        self._policy = policy or RestartPolicy()
        self._clock = clock
        self._supervised: dict[str, _Supervised] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run` until `aclose`; `name` identifies the task in logs and metrics."""
        supervised = _Supervised(name, run, self._policy, self._clock, self._on_failure)
        self._supervised[name] = supervised
        self._tasks.append(asyncio.create_task(supervised.keep_running(), name=name))

    def check(self) -> None:
        """Return when no task is dead.

        Raises:
            UnavailableError: a task is dead.
        """
        if dead := [name for name, each in self._supervised.items() if each.is_dead()]:
            raise UnavailableError(
                f"Background tasks of the service keep failing: {', '.join(dead)}."
            )

    async def aclose(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                _logger.error("a background task failed while it was cancelled", exc_info=result)


class _Supervised:
    """One task and its failures in a row."""

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        policy: RestartPolicy,
        clock: Callable[[], float],
        on_failure: Callable[[str], None],
    ) -> None:
        self._name = name
        self._run = run
        self._policy = policy
        self._clock = clock
        self._on_failure = on_failure
        self._failures = 0
        self._started_at: float | None = None

    def is_dead(self) -> bool:
        return self._failures >= self._policy.max_failures and not self._is_steady()

    async def keep_running(self) -> None:
        while True:
            self._started_at = self._clock()
            error = await self._run_once()
            if self._is_steady():
                self._failures = 0
            self._started_at = None
            self._failures += 1
            pause_s = self._policy.pause_s(self._failures)
            _logger.error(
                "a background task ended early and is restarted",
                exc_info=error,
                extra={
                    "fields": {
                        "task": self._name,
                        "failures_in_a_row": self._failures,
                        "pause_s": pause_s,
                    }
                },
            )
            self._on_failure(self._name)
            await asyncio.sleep(pause_s)

    async def _run_once(self) -> BaseException | None:
        """Run the task until it ends; returns the exception that ended it.

        Raises:
            Exception, CancelledError: the supervision was cancelled.
        """
        error: BaseException | None = None
        try:
            await self._run()
        except (Exception, asyncio.CancelledError) as caught:
            error = caught
        supervision = asyncio.current_task()
        if supervision is not None and supervision.cancelling():
            raise error or asyncio.CancelledError
        return error

    def _is_steady(self) -> bool:
        return (
            self._started_at is not None
            and self._clock() - self._started_at >= self._policy.steady_s
        )
