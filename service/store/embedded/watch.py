"""A thread that starts the embedded PostgreSQL again when it has crashed."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.store.embedded.cluster import Cluster

_logger = logging.getLogger(__name__)

# While nothing runs, or where a process cannot be waited for.
_LOOK_S = 0.5
_LONGEST_PAUSE_S = 30.0
# So long an operator has to start it again after a stop without a last checkpoint (immediate).
_ABANDONED_S = 10.0


class Watch:
    """Keeps a cluster's server running for as long as it is not stopped on purpose.

    Crashed is a server that left its pid file behind, and one that gave up without having written
    everything down, as it does when its disk is full. One that an operator stopped in order is
    the operator's to start; it is watched again once it runs.

    Args:
        cluster: its server runs.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name="embedded database", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End watching; when this returns, nothing is started any more."""
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
                # A fork that found no memory must not be the end of watching.
                _logger.exception("the embedded database is not watched for a moment")
                self._stop.wait(_LONGEST_PAUSE_S)

    def _watch_one(self) -> None:
        """From a server that runs to the next one that does."""
        if (running := self._cluster.postmaster()) is not None:
            self._wait_for_end(running.pid)
        if not self._stop.is_set() and self._should_run():
            self._restart()

    def _wait_for_end(self, pid: int) -> None:
        from service.store.embedded.cluster import reap

        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except (AttributeError, OSError):  # not Linux, an old one, or a sandbox
            while self._is_running(pid) and not self._stop.wait(_LOOK_S):
                pass
            return
        try:
            if self._is_running(pid):  # the number still meant the same process
                ended = select.poll()
                ended.register(process, select.POLLIN)
                ended.register(self._wake, select.POLLIN)
                ended.poll()
        finally:
            os.close(process)
        reap(pid)

    def _is_running(self, pid: int) -> bool:
        found = self._cluster.postmaster()
        return found is not None and found.pid == pid

    def _should_run(self) -> bool:
        """Wait until the server that has gone runs again or crashed; whether it crashed."""
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
        _logger.error("the embedded database crashed and is started again")
        began = time.monotonic()
        pause_s = _LOOK_S
        while not self._cluster.start(self._stop):
            if self._cluster.postmaster() is not None:  # somebody else was first
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
            _logger.info("the embedded database is back", extra={"fields": {"took_s": took_s}})
