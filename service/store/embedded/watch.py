"""A thread that restarts the embedded PostgreSQL after a crash."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.store.embedded.cluster import Cluster

_logger = logging.getLogger(__name__)

# Interval of checks while no server runs, or where the end of a process cannot be awaited.
_LOOK_S = 0.5
_LONGEST_PAUSE_S = 30.0
# Interval of checks whether a server hangs, and the numbers of checks in a row after which one that
# does is told to end at once, and killed. A server that has crashed ends its processes in less.
_HANGS_LOOK_S = 5.0
_END_AFTER, _KILL_AFTER = 3, 5
# Time for an operator to restart the server after an immediate stop, which writes no checkpoint.
_ABANDONED_S = 10.0


class Watch:
    """Restarts the server of a cluster after a crash, but not after a clean stop.

    A server has crashed if it left its pid file, or if it ended without a clean shutdown, as it
    does when its disk is full. One that hangs is ended first. A server that an operator stopped is
    left to the operator; it is watched again once it runs.

    Args:
        cluster: a cluster with a running server.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name="embedded database", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching; no server is started after this returns."""
        self._stop.set()
        os.write(self._waker, b"\0")
        self._thread.join()
        os.close(self._wake)
        os.close(self._waker)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch_one()
            except Exception:
                # A failed fork, for want of memory, must not end the thread.
                _logger.exception(
                    "watching the embedded database failed and is resumed after a pause"
                )
                self._stop.wait(_LONGEST_PAUSE_S)

    def _watch_one(self) -> None:
        """Wait for the end of the running server, and restart it if it crashed."""
        hung = False
        if (running := self._cluster.postmaster()) is not None:
            hung = self._wait_for_end(running.pid)
        if not self._stop.is_set() and (hung or self._should_run()):
            self._restart()

    def _wait_for_end(self, pid: int) -> bool:
        """Return when the server has ended, or the watch; whether the server hung and was ended."""
        from service.store.embedded.cluster import reap

        hung = 0
        is_told = False
        with ExitStack() as stack:
            ended = self._awaited(pid, stack)
            if not self._is_running(pid):  # it has ended, and its pid may be another process's
                return False
            while not ended(_HANGS_LOOK_S):
                hung = hung + 1 if self._cluster.hangs() else 0
                if hung == _END_AFTER:
                    _logger.error("the embedded database hangs and is ended")
                    _signal(pid, signal.SIGQUIT)
                    is_told = True
                elif hung == _KILL_AFTER:
                    _signal(pid, signal.SIGKILL)
        reap(pid)
        return is_told  # meanwhile it may have been found to end, which is not to hang

    def _awaited(self, pid: int, stack: ExitStack) -> Callable[[float], bool]:
        """A function that waits some seconds: whether the server or the watch ended meanwhile."""
        try:
            process = os.pidfd_open(pid)
        except (AttributeError, OSError):
            # No pidfd_open: not Linux, an old kernel, or a sandbox. Or the server has ended.
            return partial(self._ends_within, pid)
        stack.callback(os.close, process)
        ended = select.poll()
        ended.register(process, select.POLLIN)
        ended.register(self._wake, select.POLLIN)
        return lambda wait_s: bool(ended.poll(wait_s * 1000))

    def _ends_within(self, pid: int, wait_s: float) -> bool:
        until = time.monotonic() + wait_s
        while self._is_running(pid) and not self._stop.wait(min(_LOOK_S, wait_s)):
            if time.monotonic() >= until:
                return False
        return True

    def _is_running(self, pid: int) -> bool:
        found = self._cluster.postmaster()
        return found is not None and found.pid == pid

    def _should_run(self) -> bool:
        """Wait until the server runs again or counts as crashed; returns whether it crashed."""
        gone_at = time.monotonic()
        by_operator = False
        while not self._stop.is_set() and self._cluster.postmaster() is None:
            if self._cluster.crashed():
                return True
            if not by_operator and time.monotonic() > gone_at + _ABANDONED_S:
                if not self._cluster.was_shut_down():
                    return True
                by_operator = True
            self._stop.wait(_LOOK_S)
        return False

    def _restart(self) -> None:
        _logger.error("the embedded database crashed and is restarted")
        began = time.monotonic()
        pause_s = _LOOK_S
        while not self._cluster.start(self._stop):
            if self._cluster.postmaster() is not None:  # an operator started it
                return
            _logger.error(
                "the embedded database does not start; its log %s ends: %s",
                self._cluster.log,
                self._cluster.last_words(),
                extra={"fields": {"pause_s": pause_s}},
            )
            if self._stop.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if not self._stop.is_set():
            took_s = round(time.monotonic() - began, 1)
            _logger.info("the embedded database runs again", extra={"fields": {"took_s": took_s}})


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
