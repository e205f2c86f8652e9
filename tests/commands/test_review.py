"""`facette review`: questions are answered by keys, shown with their pictures, and listed."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from PIL import Image

from bench.common.server import TOKEN, ServiceProcess
from service.commands.reviewing.terminal import Graphics, picture
from service.commands.statuses import Status
from tests.support.calls import Photos
from tests.support.command import facette
from tests.support.pseudo_terminal import PseudoTerminal

KEYS = "? help"


class Reviewer:
    """Somebody whose tenant has two people, without names and asked about."""

    def __init__(self, service: ServiceProcess, client: httpx.Client, tenant: str, folder: Path):
        self.tenant = tenant
        self.folder = folder
        self.environment = {
            "FACETTE_URL": service.url,
            "FACETTE_KEY": TOKEN,
            "PATH": "/usr/bin",
            "LANG": "C.UTF-8",
        }
        self._client = client

    def run(self, *words: str, status: Status = Status.DONE) -> str:
        """A command without a terminal; what it says on both outputs."""
        words = ("review", "--tenant", self.tenant, *words)
        done = facette(self.folder, *words, environment=self.environment)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def terminal(self, *words: str, **more: Any) -> PseudoTerminal:
        words = ("review", "--tenant", self.tenant, *words)
        return PseudoTerminal(self.folder, words, self.environment, **more)

    def get(self, path: str) -> list[dict[str, Any]]:
        """A list of the tenant."""
        found: list[dict[str, Any]] = self._client.get(f"/v1/tenants/{self.tenant}/{path}").json()[
            "items"
        ]
        return found

    def answer(self, review_id: str, **reply: str) -> None:
        """Answer a question as somebody else."""
        path = f"/v1/tenants/{self.tenant}/reviews/{review_id}"
        self._client.post(path, json=reply).raise_for_status()

    def labels(self) -> set[str | None]:
        return {each["label"] for each in self.get("people")}


@pytest.fixture
def reviewer(
    service: ServiceProcess, client: httpx.Client, tenant: str, photos: Photos, tmp_path: Path
) -> Iterator[Reviewer]:
    for photo in (photos.astronaut, photos.hopper):
        path = f"/v1/tenants/{tenant}/images"
        client.post(path, content=photo, headers={"Content-Type": "image/jpeg"}).raise_for_status()
    return Reviewer(service, client, tenant, tmp_path)


def test_questions_are_answered_taken_back_and_named_by_keys(reviewer: Reviewer) -> None:
    with reviewer.terminal() as screen:
        first = screen.shows(KEYS)
        assert "Who is this?" in first
        assert "a or n name  x ignore" in first
        page = re.search(r"file://(\S+)", first)
        assert page is not None
        written = Path(page[1])
        assert written.stat().st_mode & 0o777 == 0o600
        assert written.read_text().count('src="data:image/jpeg;base64,') == 2
        screen.press("u")
        screen.shows("no answer of this session")
        screen.press("?")
        screen.shows("end; all answers are saved")
        screen.press("\x1b[A")  # an arrow is no answer
        screen.press("n")
        screen.shows("name: ")
        screen.press("Eileen \n")
        screen.shows("saved: Eileen")
        screen.shows(KEYS)
        assert "Eileen" in reviewer.labels()
        screen.press("u")
        screen.shows("taken back")
        screen.shows(KEYS)
        assert reviewer.labels() == {None}
        screen.press("a")
        screen.shows("name: ")
        screen.press("Eileen\n")
        screen.shows(KEYS)
        screen.press("n")
        screen.shows("name: ")
        screen.press("eileen\n")  # who is there
        assert "has this name" in screen.shows("other keys: back")
        screen.press("a")
        screen.shows("saved: same")
        screen.shows("there is nothing to ask now")
        status, shown = screen.ends()
    assert status == Status.DONE
    assert "answers: 2 saved, 1 taken back" in shown
    assert reviewer.labels() == {"Eileen"}
    assert not written.exists()


def test_somebody_else_who_came_first_is_shown_and_later_is_later(reviewer: Reviewer) -> None:
    with reviewer.terminal() as screen:
        first = screen.shows(KEYS)
        asked = re.search(r"^(\d+): Who", first, re.MULTILINE)
        assert asked is not None
        reviewer.answer(asked[1], answer="label", label="Grace")
        screen.press("x")
        screen.shows("not saved: somebody answered this first, and 'label' stands")
        screen.shows(KEYS)
        screen.press("m")
        screen.shows("number, name or id: ")
        screen.press("Nobody\n")
        screen.shows("nobody is called 'Nobody'")
        screen.shows(KEYS)
        screen.press("mx")  # the second one too soon: it is no answer
        screen.shows("number, name or id: ")
        screen.press("\n")
        screen.shows(KEYS)
        screen.press("s")
        screen.shows("the questions that are left are for later")
        status, shown = screen.ends()
    assert status == Status.DONE
    assert "answers: 0 saved, 1 not saved" in shown
    assert reviewer.labels() == {"Grace", None}


@pytest.mark.parametrize("by", ["SIGTERM", "a closed window"])
def test_no_page_with_faces_is_left_where_it_is_stopped(reviewer: Reviewer, by: str) -> None:
    with reviewer.terminal() as screen:
        page = re.search(r"file://(\S+)", screen.shows(KEYS))
        assert page is not None
        if by == "SIGTERM":
            screen.signal(signal.SIGTERM)
            status, shown = screen.ends()
            assert status == Status.TERMINATED
            assert "answers: 0 saved" in shown
        else:
            assert screen.close() != Status.DONE
    assert not Path(page[1]).parent.exists()


def test_pictures_are_shown_where_the_terminal_says_that_it_can(reviewer: Reviewer) -> None:
    with reviewer.terminal(is_kitty=True) as screen:
        shown = screen.shows(KEYS)
        pieces = re.findall(r"\x1b_G(?:a=T,f=100,q=2,c=\d+,r=9,)?m=[01];([^\x1b]*)\x1b", shown)
        picture_shown = Image.open(io.BytesIO(base64.b64decode("".join(pieces))))
        assert (picture_shown.format, picture_shown.size) == ("PNG", (160, 160))
        assert "file://" not in shown
        screen.press("\x03")  # Ctrl-C
        assert screen.ends()[0] == Status.INTERRUPTED


# Questions of its own: those of another terminal are held back from this one for a while.
def test_pictures_are_shown_by_the_protocol_of_iterm2(reviewer: Reviewer) -> None:
    with reviewer.terminal("--limit", "1", name="iTerm2 3.5") as screen:
        shown = screen.shows(KEYS)
        assert "\x1b]1337;File=inline=1;size=" in shown
        screen.press("x")
        screen.shows("1 answers, as --limit has it")
        assert screen.ends()[0] == Status.DONE


def test_a_wide_picture_fits_the_terminal() -> None:
    written = io.BytesIO()
    Image.new("RGB", (1600, 160)).save(written, "PNG")
    shown = picture(Graphics.KITTY, written.getvalue(), 80)
    assert shown.startswith("\x1b_Ga=T,f=100,q=2,c=80,r=4,m=0;")


def test_without_a_terminal_questions_are_listed_written_and_answered(reviewer: Reviewer) -> None:
    listed = reviewer.run()
    questions = [json.loads(line) for line in reviewer.run("--json").splitlines()]
    assert len(questions) == 2
    assert len(reviewer.run("--json", "--limit", "1").splitlines()) == 1
    one, other = (each["id"] for each in questions)
    for each in (one, other):
        assert f"{each}: Who is this?" in listed
    assert "--answer" in listed
    assert "\x1b" not in listed

    reviewer.run("--page", "questions.html")
    page = reviewer.folder / "questions.html"
    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text()
    assert text.count('src="data:image/jpeg;base64,') == 2
    assert all(f'<section id="{each}">' in text for each in (one, other))
    assert not re.search(r"<script|(?:src|href)=\"(?!data:)", text)
    missing = reviewer.run("--page", "no/folder.html", status=Status.NOT_RUN)
    assert "cannot be written" in missing

    said = reviewer.run(
        *("--answer", f"{one}=label:Ann", "--answer", f"{one}=ignore"),
        *("--answer", "77=yes", "--answer", f"{other}=same:Nobody", "--answer", f"{other}=maybe"),
        status=Status.INCOMPLETE,
    )
    assert f"{one}=label:Ann: saved" in said
    assert f"{one}=ignore: not saved, 'label' stands" in said
    for each in ("77=yes", f"{other}=same:Nobody", f"{other}=maybe"):
        assert f"{each}: not saved" in said
    (told,) = reviewer.run("--answer", f"{other}=same:Ann", "--json").splitlines()
    assert json.loads(told)["answer"] == "same"
    assert reviewer.labels() == {"Ann"}
    assert "there is nothing to ask now" in reviewer.run()


def test_a_reviewer_without_a_key_or_a_service_is_told_so(reviewer: Reviewer) -> None:
    reviewer.environment["FACETTE_KEY"] = "wrong"
    reviewer.run("--json", status=Status.REFUSED)
    with reviewer.terminal() as screen:
        assert screen.ends()[0] == Status.REFUSED
    reviewer.environment["FACETTE_URL"] = "http://127.0.0.1:9"
    reviewer.run("--page", "p.html", status=Status.UNREACHABLE)
