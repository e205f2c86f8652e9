"""Requests are admitted or refused by predicted cost, tenant and deadline."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from service.batching import Admission, AdmissionLimits, FairShare, Priority, Ticket
from service.batching.admission import MAX_BURST_S, MIN_REQUESTS_PER_WORKER
from service.domain.errors import DeadlineError, OverloadedError

KILOBYTE = 1000


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Office:
    """An admission of one worker whose documents take 1 s a kilobyte, and what it reported."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self.refused: list[str] = []
        self.backlogs: list[float] = []
        self.stack = ExitStack()
        self.admission = Admission(
            limits,
            first_guesses_s={"document": 0.04, "letter": 0.5},
            workers=1,
            fair=FairShare(),
            on_refusal=self.refused.append,
            on_backlog=self.backlogs.append,
        )
        for size in (1, 2, 3):
            with self.one(size) as ticket:
                ticket.charge(float(size))

    @contextmanager
    def one(
        self,
        size: float = 1.0,
        tenant: str = "a",
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = math.inf,
        cost_class: str = "document",
    ) -> Iterator[Ticket]:
        with self.admission.admit(
            cost_class,
            round(size * KILOBYTE),
            tenant=tenant,
            priority=priority,
            deadline=deadline,
        ) as ticket:
            yield ticket

    def hold(self, count: int, size: float = 1.0, **what) -> None:
        for _ in range(count):
            self.stack.enter_context(self.one(size, **what)).charge(size)

    def hold_all(self, **what) -> int:
        """Take as many as are let in."""
        for count in range(10_000):
            try:
                self.hold(1, **what)
            except OverloadedError:
                return count
        raise AssertionError("there is no limit")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("service.batching.admission.time", found)
    return found


@pytest.fixture
def office(clock: Clock) -> Iterator[Office]:
    found = Office(AdmissionLimits(max_wait_s=100, standing_wait_s=20, bulk_wait_s=300))
    with found.stack:
        yield found


def test_a_burst_is_taken_up_to_the_predicted_wait(office: Office) -> None:
    assert office.hold_all() == 100
    assert office.refused == ["backlog"]
    assert office.admission.backlog_s == pytest.approx(100)


def test_the_refusal_says_when_to_come_back(office: Office) -> None:
    office.hold_all()
    with pytest.raises(OverloadedError) as refused, office.one():
        pass
    assert refused.value.retry_after_s == 100


def test_lasting_overload_is_refused_earlier(office: Office, clock: Clock) -> None:
    office.hold(15)
    clock.now += MAX_BURST_S + 0.1
    assert office.hold_all() == 5
    assert office.admission.backlog_s == pytest.approx(20)


def test_overload_that_ended_leaves_room_for_a_burst(office: Office, clock: Clock) -> None:
    with office.stack:
        office.hold(90)
        clock.now += MAX_BURST_S + 0.1
    clock.now += 1
    assert office.hold_all() in (99, 100)  # the fit is a sum of floats


def test_a_few_are_taken_whatever_they_cost(office: Office) -> None:
    assert office.hold_all(size=1000) == MIN_REQUESTS_PER_WORKER


def test_costs_are_learned_from_what_was_spent(office: Office) -> None:
    for _ in range(300):
        with office.one() as ticket:
            ticket.charge(4.0)
    assert office.hold_all() == 25


def test_a_cost_class_begins_with_the_guess_that_was_handed_in(office: Office) -> None:
    assert office.hold_all(cost_class="letter") == 200
    assert office.admission.backlog_s == pytest.approx(100)


def test_each_cost_class_learns_for_itself(office: Office) -> None:
    with office.one(cost_class="letter") as ticket:
        ticket.charge(2.0)
    assert office.hold_all(cost_class="letter") == 50
    assert office.admission.backlog_s == pytest.approx(100)


def test_an_unknown_cost_class_is_refused_as_a_programming_error(office: Office) -> None:
    with pytest.raises(KeyError, match="parcel"), office.one(cost_class="parcel"):
        pass
    assert office.admission.backlog_s == 0.0


def test_a_request_that_failed_teaches_nothing(office: Office) -> None:
    for _ in range(300):
        with pytest.raises(ZeroDivisionError), office.one() as ticket:
            1 / ticket.spent_s
    assert office.hold_all() == 100


def test_a_flood_leaves_another_tenant_its_share(office: Office) -> None:
    assert office.hold_all(tenant="flood") == 100
    assert office.hold_all(tenant="other") == 50
    assert office.hold_all(tenant="flood") == 0
    assert office.refused == ["backlog", "tenant", "tenant"]


def test_bulk_waits_behind_and_may_wait_longer(office: Office) -> None:
    assert office.hold_all(priority=Priority.BULK) == 300
    assert office.hold_all(tenant="other") == 50


def test_what_cannot_be_done_in_time_is_refused_at_once(office: Office, clock: Clock) -> None:
    office.hold(10)
    with pytest.raises(DeadlineError), office.one(deadline=clock.now + 5):
        pass
    assert office.refused == ["deadline"]
    with office.one(tenant="other", deadline=math.inf):
        pass


async def test_slow_photos_of_small_files_do_not_shut_others_out(
    office: Office, clock: Clock
) -> None:
    """By what they teach, a photo of two megabytes takes an hour."""
    for _ in range(100):
        for size, seconds in ((0.1, 0.001), (10, 20)):
            with office.one(size, tenant="a") as ticket:
                ticket.charge(seconds)
    ordinary = {"size": 2000, "tenant": "b", "deadline": clock.now + 60}
    with office.one(**ordinary) as ticket:
        ticket.charge(1)
    with office.one(**ordinary), office.one(**ordinary):
        assert not office.refused


async def test_the_ticket_fails_when_its_deadline_passes() -> None:
    admission = Admission(
        AdmissionLimits(1, 1, 1),
        first_guesses_s={"letter": 0.01},
        workers=1,
        fair=FairShare(),
        on_refusal=lambda _: None,
        on_backlog=lambda _: None,
    )
    deadline = time.monotonic() + 0.05
    with admission.admit(
        "letter", 1, tenant="", priority=Priority.INTERACTIVE, deadline=deadline
    ) as ticket:
        never = asyncio.get_running_loop().create_future()
        with pytest.raises(DeadlineError):
            await ticket.wait(never)
        assert time.monotonic() >= deadline - 0.005


def test_nothing_is_left_when_all_have_ended(office: Office) -> None:
    with office.stack:
        office.hold_all(tenant="a")
        office.hold_all(tenant="b")
    assert office.admission.backlog_s == 0.0
    assert office.backlogs[-1] == 0.0
    assert office.hold_all() in (99, 100)  # the fit is a sum of floats
