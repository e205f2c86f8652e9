"""Work in the background rests for as long as requests are served beside it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

import pytest

from service.batching import Admission, AdmissionLimits, Deference, FairShare, Priority, Ticket


class Place:
    """An admission, work in the background beside it, a clock that is moved, and the rests."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rests: list[float] = []
        self.admission = Admission(
            AdmissionLimits(60.0, 60.0, 60.0),
            first_guesses_s={"photo": 0.04},
            workers=1,
            fair=FairShare(),
            on_refusal=lambda reason: None,
            on_backlog=lambda seconds: None,
        )
        self.deference = Deference(self.admission, clock=lambda: self.now, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)

    def request(self) -> AbstractContextManager[Ticket]:
        return self.admission.admit(
            "photo", 1000, tenant="t", priority=Priority.INTERACTIVE, deadline=math.inf
        )

    async def piece(self, seconds: float) -> None:
        """A piece of that many seconds."""
        async with self.deference.piece():
            self.now += seconds


async def test_without_requests_there_is_no_rest() -> None:
    place = Place()
    with place.request():
        pass
    await place.piece(0.5)
    await place.piece(0.5)
    assert place.rests == []


async def test_beside_a_request_an_eighth_of_the_time_is_worked() -> None:
    place = Place()
    with place.request():
        await place.piece(0.1)
        await place.piece(0.02)
    await place.piece(0.5)
    assert place.rests == pytest.approx([0.7, 0.14])


async def test_a_request_that_came_and_went_in_a_piece_counts() -> None:
    place = Place()
    async with place.deference.piece():
        place.now += 0.1
        with place.request():
            assert place.admission.in_progress == 1
    assert place.rests == pytest.approx([0.7])
    assert place.admission.in_progress == 0


async def test_rests_go_on_where_nothing_is_held() -> None:
    place = Place()
    with place.request():
        for _ in range(3):
            await place.piece(0.5)
        # Within the work four seconds of ten and a half are taken.
        assert place.rests == pytest.approx([3.5, 0.5])
        await place.deference.rest()
        assert place.rests == pytest.approx([3.5, 0.5, 6.5])
        await place.piece(0.1)
    await place.deference.rest()
    assert place.rests == pytest.approx([3.5, 0.5, 6.5, 0.7])


async def test_work_that_was_held_up_is_followed_by_a_rest_with_an_end() -> None:
    place = Place()
    with place.request():
        await place.piece(60.0)
        await place.deference.rest()
    assert place.rests == [4.0, 60.0]


async def test_a_piece_that_fails_tells_so_without_a_rest() -> None:
    place = Place()
    with place.request(), pytest.raises(ZeroDivisionError):
        async with place.deference.piece():
            place.now += 0.1 / 0
    assert place.rests == []
