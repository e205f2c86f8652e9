"""Arguments of the commands for users: photos go in, are searched for, and are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice, Number

from service.cli.addresses import Named, place_of
from service.cli.values import ConfigPath, TenantName

_INSTEAD = Group("Instead of answering on the terminal", sort_key=1, validator=LimitedChoice(0, 1))
_AtOnce = Annotated[int, Parameter(validator=Number(gte=1, lte=256))]
_Questions = Annotated[int, Parameter(validator=Number(gte=1, lte=10_000))]
_People = Annotated[int, Parameter(validator=Number(gte=1, lte=100))]
_Minutes = Annotated[float, Parameter(validator=Number(gte=0, lte=1440))]


def _check_answers(_: Any, answers: list[str] | None) -> None:
    for each in answers or ():
        review_id, _, answer = each.partition("=")
        if not review_id or not answer:
            raise ValueError("an answer is the id of a question, =, and what is answered")


def ingest(
    folders: list[Path],
    /,
    *,
    tenant: TenantName,
    report: Path | None = None,
    at_once: _AtOnce = 32,
    wait_minutes: _Minutes = 5.0,
    hidden: bool = False,
    retry_refused: bool = False,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """Send the photos of folders to a service, each once.

    It sends as many at a time as the service takes. A photo that the tenant has already is not
    sent, so the same command goes on after an interruption. A photo that fails, fails alone.

    Args:
        folders: folders, searched with all folders in them, or photos
        tenant: the tenant that gets the photos, by a name of your choice
        report: write there what failed and why, as JSON lines
        at_once: photos under way at a time, at most
        wait_minutes: how long to wait for a service that stores nothing, before giving up
        hidden: also take files and folders whose names begin with a dot
        retry_refused: also send photos that this service refused before
        json: print the summary as one JSON object
    """
    from service.commands.ingest.command import IngestOptions, run_ingest
    from service.commands.ingest.journal import state_file

    return run_ingest(
        place_of(service, config),
        IngestOptions(
            folders=folders,
            tenant=tenant,
            report=report,
            at_once=at_once,
            patience_s=wait_minutes * 60,
            hidden=hidden,
            retry_refused=retry_refused,
            as_json=json,
        ),
        state_file(),
    )


def search(
    photo: Path,
    /,
    *,
    tenant: TenantName,
    limit: _People = 3,
    labelled: bool = False,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """Find the people of a tenant who look most like the faces of a photo; nothing is stored.

    Args:
        photo: the photo
        tenant: the tenant whose people are searched
        limit: people for each face
        labelled: only people with a label
        json: print one JSON object
    """
    from service.commands.searching import run_search

    return run_search(
        place_of(service, config), tenant, photo, limit=limit, labelled=labelled, as_json=json
    )


def compare(
    first: Path,
    second: Path,
    /,
    *,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """Say whether two photos show the same people; nothing is stored.

    Args:
        first: a photo
        second: another photo
        json: print one JSON object
    """
    from service.commands.searching import run_compare

    return run_compare(place_of(service, config), first, second, as_json=json)


def review(
    *,
    tenant: TenantName,
    limit: _Questions = 100,
    page: Annotated[Path | None, Parameter(group=_INSTEAD)] = None,
    answer: Annotated[list[str] | None, Parameter(group=_INSTEAD, validator=_check_answers)] = None,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """Answer the questions that only a person can answer, by single keys.

    Pictures are shown by kitty, Ghostty, WezTerm, Konsole and iTerm2; for other terminals a page
    has them, which is named. Without a terminal the questions are listed.

    Args:
        tenant: the tenant
        limit: answers, or questions that are shown, at most
        page: write the questions with their pictures to this file of HTML, which is replaced
        answer: answer one question, like 17=same, 17=label:Anna or 17=other:Anna; several times
            for several
        json: print a JSON object a line
    """
    from service.commands.reviewing import ReviewOptions, run_review

    options = ReviewOptions(tenant, limit, page, answer or (), json)
    return run_review(place_of(service, config), options)
