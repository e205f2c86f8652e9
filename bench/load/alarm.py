"""Wakes an event loop at points in time, to some 50 us where the kernel has timerfd.

Timers of libuv and of asyncio count whole milliseconds, which would be in every latency.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = 0o2004000
_ABSOLUTE = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Calls `ring` at times of `time.perf_counter`, set one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._is_set = False
        self._file = _timerfd_create()
        if self._file is not None:
            loop.add_reader(self._file, self._expired)

    def set(self, at: float) -> None:
        """Ring at `at`, or at once where that has passed; replaces the time set before."""
        if self._file is not None:
            self._is_set = True
            _timerfd_settime(self._file, at)
        else:
            if self._handle is not None:
                self._handle.cancel()
            delay = max(at - time.perf_counter(), 0)
            self._handle = self._loop.call_later(delay, self._ring)

    def close(self) -> None:
        """Never ring again."""
        if self._handle is not None:
            self._handle.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _expired(self) -> None:
        self._is_set = False
        self._ring()
        # Setting it clears what expired; otherwise its file would stay readable.
        if not self._is_set and self._file is not None:
            os.read(self._file, 8)


def _timerfd_create() -> int | None:
    """A timer of the clock behind perf_counter, or None where there is no such thing."""
    if sys.platform != "linux":
        return None
    file: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
    if file < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return file


def _timerfd_settime(file: int, at: float) -> None:
    # Zero would switch it off.
    seconds, nanoseconds = divmod(max(int(at * 1e9), 1), 1_000_000_000)
    when = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
    if _libc.timerfd_settime(file, _ABSOLUTE, ctypes.byref(when), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")


_libc = ctypes.CDLL(None, use_errno=True)
