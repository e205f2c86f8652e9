"""A conversation of `facette review` with a service and a terminal that a test plays."""

from __future__ import annotations

import json

import httpx2 as httpx

from facette_client import Client, Retries
from service.commands.asking import Place
from service.commands.reviewing.session import Session
from service.commands.reviewing.terminal import Graphics, Terminal

PLACE = Place("http://host", "key", "a test")


class Typist(Terminal):
    """A terminal without a device: keys come in bursts, each typed after the former was read."""

    name = "tty"

    def __init__(self, *bursts: str) -> None:
        self._bursts = iter(bursts)
        self._keys = ""

    def _read(self) -> str:
        return next(self._bursts, "")

    def forget_keys(self) -> None:
        self._keys = ""

    def graphics(self) -> Graphics:
        return Graphics.KITTY


class Service:
    """Has one question, whose answers and undoings are answered as a test says."""

    def __init__(self, *answers: httpx.Response) -> None:
        self._answers = iter(answers)
        self.sent: list[dict[str, object]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.sent.append(json.loads(request.content or b"{}"))
            return next(self._answers)
        items = [QUESTION] if request.url.path.endswith("/reviews/next") else []
        return httpx.Response(200, json={"items": items, "next": None})


PERSON = {"id": "p", "label": "Ann", "face_count": 2, "cover_face_id": None}
QUESTION = {
    "id": "1",
    "kind": "odd_face",
    "created_at": "2026-01-01T00:00:00Z",
    "people": [PERSON],
    "face": None,
    "distance": None,
    "other_distance": None,
    "similarity": None,
    "margin": None,
    "why": "It looks odd",
    "settles": 1,
    "chance": 0.5,
    "worth": 0.5,
    "put_off": False,
}
CHANGE = {
    "id": "7",
    "at": "2026-01-01T00:00:00Z",
    "kind": "review.answered",
    "key_id": None,
    "by_machine": False,
    "subject": {},
    "undoable": True,
    "undoes": None,
    "undone_by": None,
}
SAVED = httpx.Response(200, json=CHANGE)


def refused(code: str) -> httpx.Response:
    body = {"status": 409, "code": code, "detail": f"It is {code}."}
    return httpx.Response(409, json=body)


def held(service: Service, *bursts: str, limit: int = 9) -> Session:
    """A session that has ended."""
    transport, retries = httpx.MockTransport(service), Retries(attempts=1)
    with Client(PLACE.url, "key", transport=transport, retries=retries) as client:
        session = Session(client.tenant("t"), PLACE, "t", Typist(*bursts), limit)
        session.run()
    return session


def test_a_key_that_was_pressed_twice_is_not_the_last_word() -> None:
    """It overrides a decision only where that was shown before."""
    service = Service(refused("decision_conflict"), refused("decision_conflict"), SAVED)
    assert held(service, "aa", "x", "a", "a", limit=1).answered == 1
    assert [each["override"] for each in service.sent] == [False, False, True]


def test_an_answer_that_cannot_be_taken_back_stands() -> None:
    """It counts, unlike one that somebody else took back."""
    service = Service(SAVED, SAVED, SAVED, refused("change_undone"), refused("change_in_use"))
    session = held(service, "a", "a", "a", "u", "u", "q")
    assert (session.answered, session.taken_back) == (2, 0)
