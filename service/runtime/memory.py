"""Memory: what goes back to the operating system, and what the collector need not look at."""

from __future__ import annotations

import ctypes
import gc


def release_free_memory() -> None:
    """Return the C library's free pages, where it is glibc; elsewhere do nothing.

    Photos are large and short-lived, and glibc keeps what they leave behind: a service that had
    seen a few 12-megapixel photos kept twice the memory it needed (malloc_trim(3)).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle_heap() -> None:
    """Collect garbage once, and leave what is alive out of the collector's later rounds.

    A round over modules, models and compiled kernels holds up the event loop for 70 to 80 ms every
    few seconds of load, and finds nothing: they live as long as the process, or until the models
    are exchanged, and then this is called again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
