"""The peaks of the machine: products of bytes, float32 products, and memory bandwidth.

Peak arithmetic is a loop of nothing but multiply-add instructions, on enough independent sums that
the next instruction never waits for the last one's result. Williams et al., "Roofline: An
Insightful Visual Performance Model for Multicore Architectures", CACM 2009.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from service.analysis.screens import SCREEN_FLAGS
from service.machine.cpu import cpu_flags
from service.vision.compiled import kernel
from service.vision.intrinsics import intrinsic
from service.vision.vectors import add, as_real, dot, load_real, load_whole, total

_declare: Any = cgutils.get_or_insert_function

Loop = Callable[[], object]

CHAINS = 12
"""Independent sums: two instructions a cycle, each with a latency of up to six cycles."""

NARROW_CHAINS = 6
"""The same where a vector of sixteen values takes two of the sixteen registers of AVX2."""

_LANES = 16
_TIMES = 1 << 20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_CACHE_BYTES = 32 << 20
# An array is larger than the last cache by this factor.
_BEYOND_CACHE = 8
_FEWEST_CALLS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Peak:
    """One peak to measure: `loop` does `amount` multiply-adds or moves `amount` bytes."""

    loop: Loop
    amount: int


def arithmetic(times: int = _TIMES) -> Mapping[str, Peak]:
    """The loops of multiply-adds of one core, by kind; `int8` only with AVX512-VNNI.

    Args:
        times: turns of each loop.
    """
    flags = cpu_flags()
    wide = "avx512f" in flags
    values = np.arange((CHAINS + 2) * _LANES, dtype=np.float32) / 1e3
    real = _multiply_add if wide else _multiply_add_narrow
    chains = CHAINS if wide else NARROW_CHAINS
    found = {"float32": Peak(lambda: real(values, times), times * chains * _LANES)}
    if flags >= SCREEN_FLAGS:
        words = np.arange((CHAINS + 2) * _LANES, dtype=np.int32)
        # Four products of bytes in each of sixteen lanes.
        found["int8"] = Peak(lambda: _dot(words, times), times * CHAINS * _LANES * 4)
    return found


def memory(threads: int, size: int | None = None) -> Mapping[str, Peak]:
    """Reading of an array, and copying of one to another, by `threads` threads.

    Args:
        size: bytes of an array; None for one far larger than the last cache.
    """
    words = (size or array_bytes()) // 8 // threads * threads
    source, target = np.ones(words, dtype=np.uint64), np.zeros(words, dtype=np.uint64)
    parts = list(zip(np.split(source, threads), np.split(target, threads), strict=True))

    reading = [partial(_sum, part) for part, _ in parts]
    copying = [partial(np.copyto, into, part) for part, into in parts]
    return {
        "read": Peak(together(reading), words * 8),
        # Each byte is read, and written.
        "copy": Peak(together(copying), words * 16),
    }


def array_bytes() -> int:
    """Bytes of an array of which next to nothing stays in a cache between two passes."""
    sizes = [_bytes(path.read_text(encoding="ascii")) for path in _CACHES.glob("index*/size")]
    return min(1 << 30, _BEYOND_CACHE * max([_CACHE_BYTES, *sizes]))


def _bytes(text: str) -> int:
    number = text.strip()
    return int(number[:-1]) << {"K": 10, "M": 20}[number[-1]] if number[-1] in "KM" else int(number)


def together(loops: Sequence[Loop]) -> Loop:
    """Runs several loops at once, each in a thread of its own."""
    if len(loops) == 1:
        return loops[0]
    pool = ThreadPoolExecutor(len(loops))

    def run() -> None:
        for done in [pool.submit(loop) for loop in loops]:
            done.result()

    return run


def best_rate(loop: Loop, amount: float, seconds: float) -> float:
    """The rate of the fastest call in so many seconds, in units of `amount` a second.

    The fastest call is the one that other programs and interrupts disturbed least.
    """
    fastest, calls = float("inf"), 0
    until = time.perf_counter() + seconds
    while calls < _FEWEST_CALLS or time.perf_counter() < until:
        started = time.perf_counter()
        loop()
        fastest = min(fastest, time.perf_counter() - started)
        calls += 1
    return amount / fastest


@intrinsic
def _fma(typing: Any, sums: Any, one: Any, other: Any) -> Any:
    """The sums plus one vector times another, lane by lane, in one instruction."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        real = ir.VectorType(ir.FloatType(), _LANES)
        kind = ir.FunctionType(real, (real, real, real))
        function = _declare(builder.module, kind, "llvm.fma.v16f32")
        return builder.call(function, [args[1], args[2], args[0]])

    return sums(sums, one, other), generate


@kernel
def _dot(words: NDArray[np.int32], times: int) -> np.float32:
    """Sums of products of bytes; words: int32 [14 * 16], twelve sums and two factors."""
    a, b = load_whole(words, 192), load_whole(words, 208)
    x0, x1, x2 = load_whole(words, 0), load_whole(words, 16), load_whole(words, 32)
    x3, x4, x5 = load_whole(words, 48), load_whole(words, 64), load_whole(words, 80)
    x6, x7, x8 = load_whole(words, 96), load_whole(words, 112), load_whole(words, 128)
    x9, x10, x11 = load_whole(words, 144), load_whole(words, 160), load_whole(words, 176)
    for _ in range(times):
        x0, x1, x2 = dot(x0, a, b), dot(x1, a, b), dot(x2, a, b)
        x3, x4, x5 = dot(x3, a, b), dot(x4, a, b), dot(x5, a, b)
        x6, x7, x8 = dot(x6, a, b), dot(x7, a, b), dot(x8, a, b)
        x9, x10, x11 = dot(x9, a, b), dot(x10, a, b), dot(x11, a, b)
    one = add(add(as_real(x0), as_real(x1)), add(as_real(x2), as_real(x3)))
    two = add(add(as_real(x4), as_real(x5)), add(as_real(x6), as_real(x7)))
    three = add(add(as_real(x8), as_real(x9)), add(as_real(x10), as_real(x11)))
    result: np.float32 = total(add(add(one, two), three))
    return result


@kernel
def _multiply_add(values: NDArray[np.float32], times: int) -> np.float32:
    """The same of float32 [14 * 16]."""
    a, b = load_real(values, 192), load_real(values, 208)
    x0, x1, x2 = load_real(values, 0), load_real(values, 16), load_real(values, 32)
    x3, x4, x5 = load_real(values, 48), load_real(values, 64), load_real(values, 80)
    x6, x7, x8 = load_real(values, 96), load_real(values, 112), load_real(values, 128)
    x9, x10, x11 = load_real(values, 144), load_real(values, 160), load_real(values, 176)
    for _ in range(times):
        x0, x1, x2 = _fma(x0, a, b), _fma(x1, a, b), _fma(x2, a, b)
        x3, x4, x5 = _fma(x3, a, b), _fma(x4, a, b), _fma(x5, a, b)
        x6, x7, x8 = _fma(x6, a, b), _fma(x7, a, b), _fma(x8, a, b)
        x9, x10, x11 = _fma(x9, a, b), _fma(x10, a, b), _fma(x11, a, b)
    one, two = add(add(x0, x1), add(x2, x3)), add(add(x4, x5), add(x6, x7))
    result: np.float32 = total(add(add(one, two), add(add(x8, x9), add(x10, x11))))
    return result


@kernel
def _multiply_add_narrow(values: NDArray[np.float32], times: int) -> np.float32:
    """The same with six sums."""
    a, b = load_real(values, 192), load_real(values, 208)
    x0, x1, x2 = load_real(values, 0), load_real(values, 16), load_real(values, 32)
    x3, x4, x5 = load_real(values, 48), load_real(values, 64), load_real(values, 80)
    for _ in range(times):
        x0, x1, x2 = _fma(x0, a, b), _fma(x1, a, b), _fma(x2, a, b)
        x3, x4, x5 = _fma(x3, a, b), _fma(x4, a, b), _fma(x5, a, b)
    result: np.float32 = total(add(add(add(x0, x1), add(x2, x3)), add(x4, x5)))
    return result


@kernel
def _sum(words: NDArray[np.uint64]) -> np.uint64:
    found = np.uint64(0)
    for word in words:
        found += word
    return found
