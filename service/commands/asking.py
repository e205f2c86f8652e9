"""Asks a service on behalf of a user, and says in words what went wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from facette_client import (
    AuthenticationError,
    BusyError,
    Client,
    FacetteError,
    ForbiddenError,
    MergedError,
    NotFoundError,
    PhotoError,
    Retries,
    ServiceError,
    UnreachableError,
)
from facette_client.errors import AnswerError
from service.commands.display import tell
from service.commands.statuses import Status

# A user waits for the answer.
_RETRIES = Retries(attempts=4, within_s=20.0)


@dataclass(frozen=True, slots=True)
class Place:
    """A service: its address, what is shown to it, and where the address comes from, in words."""

    url: str
    key: str | None = field(repr=False)
    named_by: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a command ends: its exit status, what happened, and what to do."""

    status: Status
    text: str
    advice: str

    def say(self) -> int:
        """Print it; returns the exit status."""
        tell(f"facette: {self.text}", indent="  ", error=True)
        if self.advice:
            tell(f"  -> {self.advice}", indent="     ", error=True)
        return self.status


class NotDoneError(Exception):
    """A command cannot go on; what to say about it."""

    def __init__(self, text: str, advice: str, status: Status = Status.INCOMPLETE) -> None:
        super().__init__(text)
        self.trouble = Trouble(status, text, advice)


def ask(place: Place, act: Callable[[Client], int]) -> int:
    """Do something with a service; returns the exit status."""
    try:
        with Client(place.url, place.key, retries=_RETRIES) as client:
            return act(client)
    except NotDoneError as error:
        return error.trouble.say()
    except FacetteError as error:
        return trouble_of(error, place).say()


def trouble_of(error: FacetteError, place: Place) -> Trouble:
    """What an error of the client means to a user."""
    text = error.detail or str(error) if isinstance(error, AnswerError) else str(error)
    match error:
        case UnreachableError():
            return Trouble(
                Status.UNREACHABLE,
                f"nothing answers at {place.url}: {text}",
                f"the address comes from {place.named_by}. `facette serve` starts a service here; "
                "--url or FACETTE_URL names another one",
            )
        case AuthenticationError():
            shown = "no key was shown" if not place.key else "the key is not one of its keys"
            return Trouble(
                Status.REFUSED,
                f"{place.url} refuses the request: {shown}",
                "give one by --key or FACETTE_KEY. Where the service runs, `facette keys create` "
                "makes a key, and `facette token` prints its token",
            )
        case ForbiddenError():
            return Trouble(
                Status.REFUSED,
                f"the key may not do this: {text}",
                "`facette keys list`, where the service runs, shows what a key may do; `facette "
                "keys create --scope write` makes one that may change things",
            )
        case MergedError():
            return Trouble(
                Status.INCOMPLETE,
                f"the person was merged into {error.merged_into}",
                "name that person instead",
            )
        case NotFoundError():
            return Trouble(
                Status.INCOMPLETE,
                text,
                "the tenant may have another name: a key finds no tenant but its own",
            )
        case BusyError() | ServiceError():
            return Trouble(
                Status.UNREACHABLE,
                f"{place.url} cannot do it now: {text}",
                "try again later; the service's log has the reason"
                + (f" by {error.request_id}" if error.request_id else ""),
            )
        case PhotoError():
            return Trouble(Status.INCOMPLETE, text, "take another photo, or save it as JPEG")
    return Trouble(Status.INCOMPLETE, text, "")
