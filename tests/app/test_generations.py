"""Services exchanged under requests: which request gets which, and when the former ones end."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable

import pytest

from service.app.generations import Generations, Kept, Shared


class Ends:
    """Remembers what has ended, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def of(self, name: str) -> Callable[[], Awaitable[None]]:
        async def end() -> None:
            self.names.append(name)

        return end


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_request_keeps_the_services_that_it_began_with() -> None:
    ends, generations = Ends(), Generations[str]()
    generations.replace("first", ends.of("first"))
    with generations.lease() as held:
        generations.replace("second", ends.of("second"))
        await _turns()
        assert held == "first"
        assert ends.names == []
        with generations.lease() as newer:
            assert newer == "second"
    await _turns()
    assert ends.names == ["first"]


async def test_services_end_behind_the_last_of_their_requests() -> None:
    ends, generations = Ends(), Generations[str]()
    generations.replace("first", ends.of("first"))
    one, other = generations.lease(), generations.lease()
    one.__enter__()
    other.__enter__()
    generations.replace("second", ends.of("second"))
    one.__exit__(None, None, None)
    await _turns()
    assert ends.names == []
    other.__exit__(None, None, None)
    await _turns()
    assert ends.names == ["first"]


async def test_nothing_refers_to_services_whose_end_is_told() -> None:
    class Services:
        pass

    former = Services()
    seen = weakref.ref(former)
    told: list[Services | None] = []
    generations = Generations[Services](lambda: told.append(seen()))
    generations.replace(former, Ends().of("former"))
    del former
    with generations.lease():
        generations.replace(Services(), Ends().of("newer"))
        await _turns()
        assert told == []
    await _turns()
    assert told == [None]


async def test_request_that_fails_gives_its_services_back() -> None:
    ends, generations = Ends(), Generations[str]()
    generations.replace("first", ends.of("first"))
    with pytest.raises(ValueError, match="broken"), generations.lease():
        raise ValueError("broken")
    generations.replace("second", ends.of("second"))
    await _turns()
    assert ends.names == ["first"]


async def test_closing_waits_for_every_generation() -> None:
    ends, generations = Ends(), Generations[str]()
    generations.replace("first", ends.of("first"))
    lease = generations.lease()
    lease.__enter__()
    generations.replace("second", ends.of("second"))
    closing = asyncio.ensure_future(generations.aclose())
    await _turns()
    assert not closing.done()
    lease.__exit__(None, None, None)
    await closing
    assert sorted(ends.names) == ["first", "second"]
    with pytest.raises(RuntimeError), generations.lease():
        raise AssertionError("nothing is served any more")


async def test_what_two_generations_share_is_closed_with_the_last_of_them() -> None:
    ends, generations = Ends(), Generations[str]()
    models = Shared("models", ends.of("models"))
    generations.replace("first", models.hold().release)
    lease = generations.lease()
    lease.__enter__()
    generations.replace("second", models.hold().release)
    generations.replace("third", ends.of("third"))
    await _turns()
    assert ends.names == []
    lease.__exit__(None, None, None)
    await _turns()
    assert ends.names == ["models"]


def test_part_is_made_again_only_when_its_settings_change() -> None:
    kept = Kept[list[int]]()
    first = kept.of((1, 2), lambda: [1])
    assert kept.of((1, 2), lambda: [2]) is first
    assert kept.of((1, 3), lambda: [3]) == [3]
    assert kept.of((1, 2), lambda: [4]) == [4]
