"""A service that is away, refuses or dies: what is repeated, how, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bench.common.server import TOKEN, ServiceProcess
from facette_client import (
    AnswerError,
    AsyncClient,
    AuthenticationError,
    BusyError,
    Client,
    Event,
    FacetteError,
    NotFoundError,
    PhotoError,
    Retries,
    ServiceError,
    Tenant,
    UnreachableError,
)
from facette_client.retries import REPEATED_STATUSES
from tests.support.calls import Photos
from tests.support.live import end, wait_until
from tests.support.load_server import Conversation, serving

QUICK = Retries(attempts=4, first_wait_s=0.001)
INSERTED = json.dumps({"image_id": "i", "created": True, "turned": 0, "faces": []}).encode()

Insert: TypeAlias = Callable[[str, Retries], Any]
Follow: TypeAlias = Callable[[str, Retries, int | None, int], list[Event]]


def _plain(url: str, retries: Retries) -> Any:
    with Client(url, "key", retries=retries) as client:
        return client.tenant("t").insert(b"photo")


def _awaited(url: str, retries: Retries) -> Any:
    async def insert() -> Any:
        async with AsyncClient(url, "key", retries=retries) as client:
            return await client.tenant("t").insert(b"photo")

    return asyncio.run(insert())


both = pytest.mark.parametrize("insert", [_plain, _awaited])


@contextmanager
def answering(*turns: Callable[[Conversation], None]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that does one after the other, the last one for ever; and the heads it got."""
    heads: list[dict[str, str]] = []

    def reply(conversation: Conversation) -> None:
        heads.append(conversation.headers)
        turns[min(len(heads), len(turns)) - 1](conversation)

    with serving(reply) as server:
        yield server.url, heads


def problem(status: int, code: str, *headers: str) -> Callable[[Conversation], None]:
    body = json.dumps({"status": status, "code": code, "detail": "No.", "request_id": "r"}).encode()
    return lambda conversation: conversation.answer(status, body, *headers)


def stored(conversation: Conversation) -> None:
    conversation.answer(201, INSERTED)


def cut_off(conversation: Conversation) -> None:
    conversation.transport.abort()


@both
@pytest.mark.parametrize(
    "turn",
    [
        problem(503, "store_unavailable", "Retry-After: 0"),
        problem(429, "overloaded", "Retry-After: 0"),
        problem(504, "deadline_exceeded"),
        lambda conversation: conversation.answer(502, b"<html>a proxy</html>"),
        cut_off,
    ],
    ids=["503", "429", "504", "502", "cut off"],
)
def test_what_may_pass_is_repeated_with_the_same_key(
    insert: Insert, turn: Callable[[Conversation], None]
) -> None:
    with answering(turn, turn, stored) as (url, heads):
        assert insert(url, QUICK).image_id == "i"
    assert len(heads) == 3
    assert len({head["idempotency-key"] for head in heads}) == 1
    assert {head["authorization"] for head in heads} == {"Bearer key"}


@both
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "corrupt_image", PhotoError),
        (401, "wrong_token", AuthenticationError),
        (404, "not_found", NotFoundError),
        (500, "internal_error", ServiceError),
    ],
)
def test_what_stays_is_not_repeated(
    insert: Insert, status: int, code: str, kind: type[FacetteError]
) -> None:
    with answering(problem(status, code)) as (url, heads), pytest.raises(kind) as raised:
        insert(url, QUICK)
    assert len(heads) == 1
    error: Any = raised.value
    assert (error.status, error.code, error.detail, error.request_id) == (status, code, "No.", "r")


@both
def test_it_ends_after_as_many_attempts_as_it_may_make(insert: Insert) -> None:
    refusing = answering(problem(429, "overloaded", "Retry-After: 0"))
    with refusing as (url, heads), pytest.raises(BusyError) as raised:
        insert(url, QUICK)
    assert len(heads) == 4
    assert raised.value.code == "overloaded"


@both
def test_a_wait_that_would_take_too_long_is_not_begun(insert: Insert) -> None:
    refusing = answering(problem(503, "store_unavailable", "Retry-After: 3600"))
    with refusing as (url, heads), pytest.raises(ServiceError):
        insert(url, Retries())
    assert len(heads) == 1


@both
def test_without_an_answer_it_says_whether_the_request_may_have_been_done(insert: Insert) -> None:
    with answering(cut_off) as (url, heads), pytest.raises(UnreachableError) as raised:
        insert(url, QUICK)
    assert len(heads) == 4
    assert raised.value.outcome_unknown
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError) as raised:
        insert(f"http://127.0.0.1:{port}", QUICK)
    assert not raised.value.outcome_unknown


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (lambda tenant: tenant.delete_image("i"), 404, "may have deleted it"),
        (lambda tenant: tenant.change_person("p", if_version=1), 412, "may have changed it so"),
    ],
)
def test_a_change_whose_answer_was_lost_says_that_it_may_have_been_made(
    change: Callable[[Tenant], object], status: int, said: str
) -> None:
    with (
        answering(cut_off, problem(status, "code")) as (url, _),
        Client(url, retries=QUICK) as client,
        pytest.raises(AnswerError) as raised,
    ):
        change(client.tenant("t"))
    assert said in raised.value.__notes__[0]


def test_a_face_is_not_moved_to_somebody_new_twice() -> None:
    """What was not done for sure is repeated, and a move to somebody is, too."""
    for turn, kind in (cut_off, UnreachableError), (problem(502, ""), ServiceError):
        with (
            answering(problem(429, "overloaded"), turn) as (url, heads),
            Client(url, retries=QUICK) as client,
        ):
            for person_id in "new", None:
                with pytest.raises(kind):
                    client.tenant("t").move_face("f", person_id)
            assert len(heads) == 3
            with pytest.raises(kind):
                client.tenant("t").move_face("f", "p")
            assert len(heads) == 3 + QUICK.attempts


def test_waits_double_up_to_a_limit_and_heed_the_service() -> None:
    retries = Retries(attempts=20, within_s=1000, first_wait_s=1, longest_wait_s=8)
    for attempt, most in enumerate((1, 2, 4, 8, 8, 8), start=1):
        waits = {retries.wait_s(attempt, 0, None) for _ in range(50)}
        assert len(waits) > 10
        assert all(wait is not None and most / 2 <= wait <= most for wait in waits)
    asked = retries.wait_s(1, 0, "30")
    assert asked is not None
    assert 30 < asked <= 31
    assert retries.wait_s(20, 0, None) is None
    assert retries.wait_s(1, 999.9, None) is None
    assert {429, 502, 503, 504} == REPEATED_STATUSES


def _sends(*events: int) -> Callable[[Conversation], None]:
    """A stream of these events, which ends then."""
    lines = "".join(f'id: {n}\nevent: person.changed\ndata: {{"n": {n}}}\n\n' for n in events)

    def reply(conversation: Conversation) -> None:
        conversation.answer(200, f": hello\n\n{lines}".encode(), "Content-Type: text/event-stream")

    return reply


def _followed(url: str, retries: Retries, after: int | None, count: int) -> list[Event]:
    with Client(url, retries=retries) as client:
        return list(itertools.islice(client.tenant("t").events(after), count))


def _followed_by_asyncio(url: str, retries: Retries, after: int | None, count: int) -> list[Event]:
    async def follow() -> list[Event]:
        async with AsyncClient(url, retries=retries) as client:
            events = client.tenant("t").events(after)
            return [await anext(events) for _ in range(count)]

    return asyncio.run(follow())


def _cut_behind(lines: bytes, after_s: float = 0.0) -> Callable[[Conversation], None]:
    """A stream that breaks behind these lines."""

    def reply(conversation: Conversation) -> None:
        conversation.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + lines)
        asyncio.get_running_loop().call_later(after_s, conversation.transport.close)

    return reply


both_follow = pytest.mark.parametrize("follow", [_followed, _followed_by_asyncio])


@both_follow
def test_no_event_is_left_out_where_a_connection_ends_or_breaks(follow: Follow) -> None:
    turns = _sends(3, 4), cut_off, problem(503, "stopping", "Retry-After: 0"), _sends(5), _sends(6)
    with answering(*turns) as (url, heads):
        found = follow(url, QUICK, 2, 4)
    assert [each.id for each in found] == [3, 4, 5, 6]
    assert [each.facts for each in found] == [{"n": n} for n in (3, 4, 5, 6)]
    assert [head["last-event-id"] for head in heads] == ["2", "4", "4", "4", "5"]


@both_follow
def test_an_event_that_is_cut_off_comes_whole_by_the_next_connection(follow: Follow) -> None:
    """Behind its id, and behind its data; before that, behind the id of where the stream begins."""
    cuts = b"id: 4\n\n", b"id: 5\nevent: a\n", b'id: 5\nevent: a\ndata: {"n": 0}\n'
    with answering(*map(_cut_behind, cuts), _sends(5, 6)) as (url, heads):
        found = follow(url, QUICK, None, 2)
    assert [(each.id, each.facts) for each in found] == [(5, {"n": 5}), (6, {"n": 6})]
    assert [head.get("last-event-id") for head in heads] == [None, "4", "4", "4"]


def test_a_stream_without_events_may_break_as_often_as_it_likes() -> None:
    """Only attempts that follow each other count."""
    turns = (_sends(), cut_off) * 6 + (_sends(7),)
    retries = Retries(attempts=2, first_wait_s=0.001)
    with answering(*turns) as (url, _):
        assert _followed(url, retries, 6, 1)[0].id == 7


@both_follow
def test_a_stream_that_breaks_is_opened_again_however_long_it_lasted(follow: Follow) -> None:
    """The time for attempts begins with the break: this stream outlasts all of it."""
    retries = Retries(within_s=0.25, first_wait_s=0.001)
    with answering(_cut_behind(b": hello\n\n", 0.3), _sends(7)) as (url, _):
        assert follow(url, retries, 6, 1)[0].id == 7


@pytest.mark.long
def test_photos_are_stored_once_though_the_service_dies_between(
    service_folder: Path, models_dir: Path, photos: Photos
) -> None:
    """The client waits for the service, and repeats what had no answer."""
    service = ServiceProcess(service_folder, models_dir).start()
    port = service.url.rpartition(":")[2]
    data = [photos.astronaut, photos.hopper, photos.both, photos.twins, photos.nobody] * 2
    retries = Retries(attempts=1000, within_s=120, first_wait_s=0.05, longest_wait_s=0.5)
    results: list[Any] = []
    try:
        with Client(service.url, TOKEN, retries=retries) as client:
            client.create_tenant("t")
            tenant = client.tenant("t")

            def ingest() -> None:
                results.extend(tenant.ingest(data, concurrency=3))

            thread = threading.Thread(target=ingest)
            thread.start()
            wait_until(lambda: tenant.facts().image_count >= 1)
            service.kill()
            service.launch("--port", port)
            thread.join(120)
            assert not thread.is_alive()
            assert [each.error for each in results] == [None] * len(data)
            images = list(tenant.images())
            assert len(images) == len(set(data))
            assert {each.id for each in images} == {each.answer.image_id for each in results}
    finally:
        end(service)
