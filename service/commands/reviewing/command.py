"""`facette review`: what it is asked, and how it ends."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from facette_client import AnsweredError, Client, Review, Tenant
from facette_client.errors import AnswerError, AuthenticationError, BusyError, ForbiddenError
from service.commands.asking import NotDoneError, Place, ask
from service.commands.display import print_json, tell
from service.commands.people import find_person
from service.commands.reviewing.crops import Crops
from service.commands.reviewing.page import write_page
from service.commands.reviewing.wording import asks, evidence, named
from service.commands.statuses import Status
from service.domain.reviews import ANSWERS, ReviewKind

_STOPPING: Final = (AuthenticationError, ForbiddenError, BusyError)


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """Arguments of the command; see `facette review --help`."""

    tenant: str
    limit: int
    page: Path | None
    answers: Sequence[str]
    as_json: bool


def run_review(place: Place, options: ReviewOptions) -> int:
    """Answer questions on the terminal, or show them; returns the exit status.

    Raises:
        ConfigError: the page cannot be written.
        SystemExit: SIGTERM, or a terminal that was closed, ended it; no page that is unfinished,
            or was for this time alone, is left.
    """

    def act(client: Client) -> int:
        family = client.tenant(options.tenant)
        if options.answers:
            return _answer(family, options)
        if options.page is not None:
            return _write(family, options, options.page)
        if options.as_json:
            for question in _open(family, options):
                print_json(question)
            return Status.DONE
        if sys.stdin.isatty() and sys.stdout.isatty():
            return _converse(family, place, options)
        return _list(family, options)

    with _unwound():
        return ask(place, act)


@contextmanager
def _unwound() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind the block as Ctrl-C does: temporary files go."""
    numbers = [
        each
        for each in (signal.SIGHUP, signal.SIGTERM)
        if signal.getsignal(each) is not signal.SIG_IGN  # as nohup has it
    ]

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # a second one must not interrupt that
        raise SystemExit(128 + number)

    before = [signal.signal(each, end) for each in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _open(family: Tenant, options: ReviewOptions) -> list[Review]:
    """The questions of most worth; nobody is kept from answering them."""
    return list(itertools.islice(family.reviews(), options.limit))


def _converse(family: Tenant, place: Place, options: ReviewOptions) -> int:
    from service.commands.reviewing.session import Session, summary
    from service.commands.reviewing.terminal import Terminal

    with Terminal() as terminal:
        session = Session(family, place, options.tenant, terminal, options.limit)
        try:
            session.run()
        except KeyboardInterrupt:
            return Status.INTERRUPTED
        finally:
            with suppress(OSError):  # the terminal was closed
                print()
                tell(summary(session))
    return Status.DONE


def _list(family: Tenant, options: ReviewOptions) -> int:
    questions = _open(family, options)
    for question in questions:
        answers = ", ".join(ANSWERS[ReviewKind(question.kind)])
        tell(f"{question.id}: {asks(question)} {evidence(question)}")
        for person in question.people:
            tell(f"    {named(person)}")
        tell(f"    answers: {answers}")
    if not questions:
        tell("there is nothing to ask now")
        return Status.DONE
    example = f"{questions[0].id}={ANSWERS[ReviewKind(questions[0].kind)][-1]}"
    tell(
        "facette: nothing was answered, since there is no terminal. --answer "
        f"{example} answers one of them, --page questions.html has their pictures, "
        "--json is for scripts",
        error=True,
    )
    return Status.DONE


def _write(family: Tenant, options: ReviewOptions, page: Path) -> int:
    questions = _open(family, options)
    write_page(page, options.tenant, questions, Crops(family))
    if options.as_json:
        print_json({"page": str(page), "questions": len(questions)})
    else:
        number = "1 question" if len(questions) == 1 else f"{len(questions)} questions"
        tell(f"{page} has {number}; `facette review --tenant {options.tenant}` answers them")
    return Status.DONE


def _answer(family: Tenant, options: ReviewOptions) -> int:
    """Give each answer; one that fails, fails alone."""
    status = Status.DONE
    for each in options.answers:
        review_id, _, said = each.partition("=")
        answer, _, more = said.partition(":")
        try:
            names_somebody = bool(more) and answer != "label"
            change = family.answer_review(
                review_id,
                answer,
                label=more if answer == "label" else None,
                person_id=find_person(family, more).id if names_somebody else None,
            )
        except _STOPPING:
            raise
        except AnsweredError as error:
            stands = f"{error.answer!r} stands" if error.answer else "another change settled it"
            tell(f"facette: {each}: not saved, {stands}", error=True)
            status = Status.INCOMPLETE
        except AnswerError as error:
            tell(f"facette: {each}: not saved: {error.detail or error}", error=True)
            status = Status.INCOMPLETE
        except NotDoneError as error:
            tell(f"facette: {each}: not saved: {error.trouble.text}", error=True)
            status = Status.INCOMPLETE
        else:
            if options.as_json:
                print_json({"review_id": review_id, "answer": answer, "change_id": change.id})
            else:
                tell(f"{each}: saved, by the change {change.id}")
    return status
