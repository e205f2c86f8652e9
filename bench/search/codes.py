"""Search over binary codes beside libraries that search bits exactly: usearch and Faiss.

    python -m bench.search.codes --codes 500000

The libraries are no dependencies: those that cannot be imported are left out. All of them get the
same codes, use one thread, and take turns in each round.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.index.codes import Codes, FaceCodes, Ids, compile_kernels, hamming_nearest

_FACES_OF_A_PERSON = 8
_NEIGHBOURS = 32

_Search = Callable[[Codes], object]


def people(count: int, rng: np.random.Generator) -> tuple[Codes, NDArray[np.int64]]:
    """Codes of faces, and the numbers of their persons: an eighth of each code's bits differ."""
    persons = rng.integers(0, 2**63, (-(-count // _FACES_OF_A_PERSON), 8), dtype=np.uint64)
    person_of = np.repeat(np.arange(len(persons)), _FACES_OF_A_PERSON)[:count]
    codes = persons[person_of]
    for word in range(8):
        noise = rng.integers(0, 2**63, (3, count), dtype=np.uint64)
        codes[:, word] ^= noise[0] & noise[1] & noise[2]
    return codes, person_of


def contestants(codes: Codes, person_of: NDArray[np.int64]) -> dict[str, _Search]:
    """Ways to the nearest codes of one query, by name."""
    compile_kernels()
    held = FaceCodes()
    held.add(_ids(len(codes)), codes, person_of)
    snapshot = held.snapshot
    found: dict[str, _Search] = {
        "ours, all codes": lambda query: hamming_nearest(query, codes, _NEIGHBOURS),
        f"ours, 32 pivots of {snapshot.pivots:,}": lambda query: snapshot.nearest(
            query, 32, _NEIGHBOURS
        ),
    }
    found["ours, heads of all pivots"] = lambda query: hamming_nearest(
        query, snapshot.heads[: snapshot.pivots], 4 * _NEIGHBOURS
    )
    rows = codes.view(np.uint8)
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        print("no faiss here")
    else:
        faiss.omp_set_num_threads(1)
        flat = faiss.IndexBinaryFlat(512)
        flat.add(rows)
        found["Faiss IndexBinaryFlat"] = lambda query: flat.search(
            query.view(np.uint8)[np.newaxis], _NEIGHBOURS
        )
        heads = faiss.IndexBinaryFlat(256)
        heads.add(snapshot.heads[: snapshot.pivots].view(np.uint8))
        found["Faiss, heads of all pivots"] = lambda query: heads.search(
            query.view(np.uint8)[np.newaxis, :32], 4 * _NEIGHBOURS
        )
    try:
        usearch = importlib.import_module("usearch.index")
    except ImportError:
        print("no usearch here")
    else:
        found["usearch, exact"] = lambda query: usearch.search(
            rows,
            query.view(np.uint8),
            _NEIGHBOURS,
            usearch.MetricKind.Hamming,
            exact=True,
            threads=1,
        )
        if len(codes) <= 50_000:  # its graph, which exact search has no use for, takes minutes
            index = usearch.Index(ndim=512, metric="hamming", dtype="b1")
            index.add(np.arange(len(rows)), rows, threads=2)
            found["usearch Index, exact=True"] = lambda query: index.search(
                query.view(np.uint8), _NEIGHBOURS, exact=True, threads=1
            )
    return found


def measure(count: int, rounds: int, asked: int) -> dict[str, list[float]]:
    """Milliseconds a query of each way, one median of some queries for each round."""
    rng = np.random.default_rng(1)
    codes, person_of = people(count, rng)
    ways = contestants(codes, person_of)
    noise = rng.integers(0, 2**63, (3, asked, 8), dtype=np.uint64)
    queries = codes[rng.integers(0, count, asked)] ^ (noise[0] & noise[1] & noise[2])
    ms: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, search in ways.items():
            times = []
            for query in queries:
                began = time.perf_counter()
                search(query)
                times.append((time.perf_counter() - began) * 1e3)
            ms[name].append(statistics.median(times))
    return ms


def _ids(count: int) -> Ids:
    numbers = np.zeros((count, 2), np.int64)
    numbers[:, 0] = np.arange(count)
    ids: Ids = numbers.view("V16")[:, 0]
    return ids


def main() -> None:
    """Print a table for each number of codes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, nargs="+", default=[50_000, 500_000, 5_000_000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--queries", type=int, default=20)
    options = parser.parse_args()
    for count in options.codes:
        print(f"\n| {count:,} codes | median, ms a query | fastest to slowest round |")
        print("| --- | --- | --- |")
        for name, ms in measure(count, options.rounds, options.queries).items():
            print(f"| {name} | {statistics.median(ms):.3f} | {min(ms):.3f} to {max(ms):.3f} |")


if __name__ == "__main__":
    main()
