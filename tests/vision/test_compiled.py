"""Kernels are compiled, whether or not their machine code can be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import pytest

from service.domain.errors import ConfigError
from service.vision import compiled


def twice(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("problem", ["cannot cache function 'twice': no locator", ""])
def test_a_kernel_without_a_folder_for_its_code_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    def njit(**options: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        if options.get("cache") and problem:
            raise RuntimeError(problem)
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "njit", njit)
    monkeypatch.setattr(compiled, "_uncached", [])
    kernel = compiled.kernel(twice)
    assert kernel(21) == 42
    assert kernel.nopython_signatures
    assert compiled.check_compilation() is not bool(problem)


def test_another_error_of_the_compiler_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(**options: bool) -> None:
        raise RuntimeError("another reason")

    monkeypatch.setattr(compiled, "njit", njit)
    with pytest.raises(RuntimeError, match="another reason"):
        compiled.kernel(twice)


def test_an_environment_without_compilation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(ConfigError, match="NUMBA_DISABLE_JIT"):
        compiled.check_compilation()
