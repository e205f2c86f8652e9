"""Compilation of kernels: functions on arrays that Numba turns into machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import config, njit

from service.domain.errors import ConfigError

_Function = TypeVar("_Function", bound=Callable[..., Any])

_uncached: list[str] = []


def kernel(function: _Function) -> _Function:
    """Compile a function at its first call, without the GIL.

    The machine code is kept in a folder: `NUMBA_CACHE_DIR`, the source's folder, or a cache folder
    of the account. Where none of them can be written, each process compiles its kernels anew.
    """
    try:
        return cast(_Function, njit(cache=True, nogil=True)(function))
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        _uncached.append(function.__name__)
        return cast(_Function, njit(nogil=True)(function))


def check_compilation() -> bool:
    """Whether the machine code of all kernels so far has a folder.

    Raises:
        ConfigError: the environment forbids compilation, without which some kernels do not run.
    """
    if config.DISABLE_JIT:  # type: ignore[attr-defined]
        raise ConfigError(
            "NUMBA_DISABLE_JIT is set, and Facette needs compiled kernels: unset the variable"
        )
    return not _uncached
