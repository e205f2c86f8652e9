"""Answers one question after the other on a terminal."""

from __future__ import annotations

import hashlib
import shutil
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facette_client import (
    AnsweredError,
    BusyError,
    Change,
    ConflictError,
    DecisionConflictError,
    NotFoundError,
    Person,
    Review,
    ServiceError,
    Tenant,
    UnreachableError,
)
from service.commands.asking import NotDoneError, Place, trouble_of
from service.commands.display import printable, tell
from service.commands.people import find_person, people_called
from service.commands.reviewing.crops import Crops, in_a_row
from service.commands.reviewing.page import write_page
from service.commands.reviewing.terminal import Graphics, Terminal, picture
from service.commands.reviewing.wording import HELP, REPLIES, asks, evidence, keys_of, named

# What is shown comes from a short list, which is asked for anew after each answer: an answer may
# settle further questions, and change what is worth most.
_AT_ONCE: Final = 10
_MOST: Final = 100
# As long as somebody may look at one question; each answer begins it anew.
_LEASE_S: Final = 300
_ALIKE: Final = 5
_TAKEN_BACK: Final = ("u", "\x7f", "\x08")
_ASKS_FOR_MORE: Final = ("a", "n", "m")
_END: Final = ("q", "", "\x04")


@dataclass(frozen=True, slots=True)
class _Reply:
    answer: str
    label: str | None = None
    person_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Past:
    """A saved answer."""

    question: Review
    change: Change


class Session:
    """Questions and answers on a terminal.

    Args:
        place: of the tenant's service. limit: the largest number of answers.

    Attributes:
        answered: the number of answers that stand. taken_back: of those that this session undid.
        stale: of those that came too late.
    """

    def __init__(
        self, family: Tenant, place: Place, tenant: str, terminal: Terminal, limit: int
    ) -> None:
        self._family = family
        self._place = place
        self._tenant = tenant
        self._terminal = terminal
        self._limit = limit
        # The same terminal is given the same questions again, another one of the key others.
        device = f"{socket.gethostname()} {terminal.name}"
        self._reviewer = f"terminal-{hashlib.sha256(device.encode()).hexdigest()[:16]}"
        self._crops = Crops(family)
        self._graphics = Graphics.NONE
        self._page: Path | None = None
        self._on_page: set[str] = set()
        self._past: list[_Past] = []
        self._later: set[str] = set()
        self._reopened: Review | None = None
        self.answered = 0
        self.taken_back = 0
        self.stale = 0

    def run(self) -> None:
        """Ask until nothing is left, the limit is reached, or the person ends it."""
        with ExitStack() as stack:
            self._graphics = self._terminal.graphics()
            if self._graphics is Graphics.NONE:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="facette-review-"))
                self._page = Path(folder) / "questions.html"
            while self.answered < self._limit:
                question = self._next()
                if question is None:
                    return
                self._show(question)
                if not self._act(question):
                    return
            tell(f"{self._limit} answers, as --limit has it; the same command goes on")

    def _next(self) -> Review | None:
        """The question to ask now; None when there is none."""
        if self._reopened is not None:
            question, self._reopened = self._reopened, None
            return question
        open_now = self._family.next_reviews(
            limit=min(_MOST, _AT_ONCE + len(self._later)), lease_s=_LEASE_S, reviewer=self._reviewer
        )
        for number, question in enumerate(open_now):
            if question.id not in self._later:
                if self._page is not None and question.id not in self._on_page:
                    self._write_page(self._page, list(open_now[number:]))
                return question
        if open_now:
            tell("nothing further to ask: the questions that are left are for later")
        else:
            tell("there is nothing to ask now; another reviewer may have some questions open")
        return None

    def _write_page(self, page: Path, questions: list[Review]) -> None:
        write_page(page, self._tenant, questions, self._crops)
        first = not self._on_page
        self._on_page = {each.id for each in questions}
        if first:
            tell("this terminal shows no pictures; a page has them until this command ends:")
        else:
            tell("the page has further questions now, load it again:")
        print(f"  {page.as_uri()}", flush=True)

    def _show(self, question: Review) -> None:
        print()
        tell(f"{question.id}: {asks(question)}")
        tell(f"  {evidence(question)}", indent="  ")
        for person in question.people:
            tell(f"  {named(person)}", indent="    ")
        if self._graphics is not Graphics.NONE:
            png = in_a_row(self._crops.sides(question))
            columns = shutil.get_terminal_size().columns
            print(picture(self._graphics, png, columns), end="", flush=True)
        self._offer(keys_of(question))

    def _offer(self, keys: str) -> None:
        """Show which keys answer; what was typed before answers nothing."""
        self._terminal.forget_keys()
        tell(keys, indent="  ")

    def _act(self, question: Review) -> bool:
        """Take keys until the question is done with; returns whether to go on."""
        while True:
            key = self._terminal.key()
            if key in _END:
                return False
            if key in _TAKEN_BACK:
                if self._take_back():
                    return True
                continue
            if key == "?":
                for line in HELP:
                    tell(line, indent="       ")
                continue
            if key == "s" and "s" not in REPLIES[question.kind]:
                self._later.add(question.id)
                return True
            reply = self._reply(question, key)
            if reply is not None and self._send(question, reply):
                return True
            if reply is not None or key in _ASKS_FOR_MORE:
                self._offer(keys_of(question))

    def _reply(self, question: Review, key: str) -> _Reply | None:
        """What a key answers; None where it answers nothing."""
        if (answer := REPLIES[question.kind].get(key)) is not None:
            return _Reply(answer)
        is_new = question.kind == "new_person"
        try:
            if is_new and key in ("a", "n"):
                return self._name(question)
            if key == "m" and (is_new or question.kind == "weak_match"):
                other = self._choose(question)
                if other is not None:
                    return _Reply("same" if is_new else "other", person_id=other)
        except NotDoneError as error:
            tell(f"{error.trouble.text}: {error.trouble.advice}", indent="  ")
        return None

    def _name(self, question: Review) -> _Reply | None:
        label = self._terminal.line("name: ")
        if not label:
            return None
        person = question.people[0]
        others = [each for each in people_called(self._family, label) if each.id != person.id]
        for other in others:
            tell(f"{_line(other)} has this name")
            self._offer("a the same person  x another one  other keys: back")
            key = self._terminal.key()
            if key == "a":
                return _Reply("same", person_id=other.id)
            if key != "x":
                return None
        return _Reply("label", label=label)

    def _choose(self, question: Review) -> str | None:
        """The id of a person who looks alike, or of one who is named."""
        person = question.people[0]
        without = {person.id}
        alike = [
            self._family.person(each.person_id)
            for each in self._family.similar(person.id, limit=_ALIKE)
            if each.person_id not in without
        ]
        for number, each in enumerate(alike, 1):
            tell(f"  {number}  {_line(each)}", indent="     ")
        typed = self._terminal.line("number, name or id: ")
        if not typed:
            return None
        if typed.isdecimal() and 1 <= int(typed) <= len(alike):
            return alike[int(typed) - 1].id
        return find_person(self._family, typed).id

    def _send(self, question: Review, reply: _Reply, *, override: bool = False) -> bool:
        """Save an answer; returns whether the question is done with."""
        try:
            change = self._family.answer_review(
                question.id,
                reply.answer,
                label=reply.label,
                person_id=reply.person_id,
                override=override,
            )
        except AnsweredError as error:
            self.stale += 1
            if error.answer is None:
                tell("not saved: another change settled this question meanwhile")
            else:
                tell(f"not saved: somebody answered this first, and {error.answer!r} stands")
            return True
        except DecisionConflictError as error:
            tell(f"not saved: {error.detail}", indent="  ")
            self._offer("a make this the last word  other keys: back")
            return self._terminal.key() == "a" and self._send(question, reply, override=True)
        except NotFoundError as error:
            tell(f"not saved: {error.detail}", indent="  ")
            return True
        except (UnreachableError, BusyError, ServiceError) as error:
            tell(f"not saved yet: {trouble_of(error, self._place).text}", indent="  ")
            tell("answer again when the service is back", indent="  ")
            return False
        self._past.append(_Past(question, change))
        self.answered += 1
        tell(f"saved: {reply.label or reply.answer.replace('_', ' ')}")
        return True

    def _take_back(self) -> bool:
        """Undo the last answer; returns whether its question is asked now."""
        if not self._past:
            tell("there is no answer of this session to take back")
            return False
        past = self._past[-1]
        try:
            self._family.undo(past.change.id)
        except (ConflictError, NotFoundError) as error:
            self._past.pop()  # the next one to take back is that before it
            if error.code == "change_undone":  # by somebody else; otherwise the answer stands
                self.answered -= 1
            tell(f"not taken back: {error.detail}", indent="  ")
            return False
        except (UnreachableError, BusyError, ServiceError) as error:
            tell(f"not taken back yet: {trouble_of(error, self._place).text}", indent="  ")
            return False
        self._past.pop()
        self.answered -= 1
        self.taken_back += 1
        self._reopened = past.question
        tell(f"taken back: the answer to {past.question.id}")
        return True


def summary(session: Session) -> str:
    """What became of a session, in a line."""
    said = [f"{session.answered} saved"]
    if session.taken_back:
        said.append(f"{session.taken_back} taken back")
    if session.stale:
        said.append(f"{session.stale} not saved, since others came first")
    return f"answers: {', '.join(said)}"


def _line(person: Person) -> str:
    faces = "1 face" if person.face_count == 1 else f"{person.face_count:,} faces"
    return printable(f"{person.label or 'nobody known'}, {faces}, {person.id}")
