"""One run for all who ask at the same time: nobody gets an old result, nobody's leaving matters."""

from __future__ import annotations

import asyncio

import pytest

from service.api.shared_call import SharedCall


class Work:
    """Counts its runs; each waits until it may go on."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = 0
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.runs += 1
        self.running += 1
        assert self.running == 1, "two runs at the same time"
        number = self.runs
        self.began.set()
        await self.may_end.wait()
        self.running -= 1
        return number


async def test_all_who_ask_before_a_run_begins_share_it() -> None:
    work = Work()
    work.may_end.set()
    shared = SharedCall(work)
    assert await asyncio.gather(*(shared() for _ in range(64))) == [1] * 64


async def test_whoever_asks_during_a_run_gets_the_next_one() -> None:
    work = Work()
    shared = SharedCall(work)
    first = asyncio.create_task(shared())
    await work.began.wait()
    others = [asyncio.create_task(shared()) for _ in range(64)]
    work.may_end.set()
    assert await first == 1
    assert await asyncio.gather(*others) == [2] * 64
    assert await shared() == 3


async def test_the_others_get_their_result_when_one_goes() -> None:
    work = Work()
    shared = SharedCall(work)
    first, second = asyncio.create_task(shared()), asyncio.create_task(shared())
    await work.began.wait()
    first.cancel()
    work.may_end.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_error_is_raised_to_all_and_the_next_run_is_a_new_one() -> None:
    failures = iter([ValueError("no")])

    async def act() -> str:
        for failure in failures:
            raise failure
        return "done"

    shared = SharedCall(act)
    results = await asyncio.gather(shared(), shared(), return_exceptions=True)
    assert [type(each) for each in results] == [ValueError, ValueError]
    assert await shared() == "done"
