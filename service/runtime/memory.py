"""Gives memory back to the operating system when the work is done."""

from __future__ import annotations

import ctypes


def release_free_memory() -> None:
    """Return the C library's free pages, where it is glibc; elsewhere do nothing.

    Photos are large and short-lived, and glibc keeps what they leave behind: a service that had
    seen a few 12-megapixel photos kept twice the memory it needed (malloc_trim(3)).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
