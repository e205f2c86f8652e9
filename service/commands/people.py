"""`facette people`: lists, shows, renames and merges the people of a tenant."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from facette_client import Client, Person, Tenant
from service.commands.asking import NotDoneError, Place, ask
from service.commands.display import day, print_json, print_table, printable
from service.commands.statuses import Status

_HEAD = ("id", "label", "newest", "faces", "images")
_MOST_SIMILAR = 5


@dataclass(frozen=True, slots=True)
class PeopleFilter:
    """Which people are listed; `limit` 0 is all, and None in `labelled` is both."""

    order: Literal["faces", "label", "recency"] | None
    labelled: bool | None
    prefix: str | None
    hidden: bool
    limit: int


def run_list(place: Place, tenant: str, which: PeopleFilter, *, as_json: bool) -> int:
    """Print people as a table, or as JSON lines as they are read."""

    def act(client: Client) -> int:
        found = client.tenant(tenant).people(
            order=which.order, labelled=which.labelled, hidden=which.hidden, prefix=which.prefix
        )
        shown = itertools.islice(found, which.limit or None)
        if as_json:
            for person in shown:
                print_json(person)
            return Status.DONE
        rows = [_row(person) for person in shown]
        if not rows:
            print("there is nobody; `facette ingest` sends photos of people")
            return Status.DONE
        print_table(_HEAD, rows, numbers=2)
        if which.limit and next(found, None) is not None:
            print(f"and more: --limit {2 * which.limit} shows as many, --limit 0 all")
        return Status.DONE

    return ask(place, act)


def run_show(place: Place, tenant: str, name: str, *, as_json: bool) -> int:
    """Print what is known of a person, and the people who look alike."""

    def act(family: Tenant) -> int:
        person = find_person(family, name)
        alike = family.similar(person.id, limit=_MOST_SIMILAR)
        if as_json:
            print_json({"person": person, "similar": alike})
            return Status.DONE
        for title, value in (
            ("id", person.id),
            ("label", person.label or "none"),
            ("external id", person.external_id or "none"),
            ("faces", f"{person.face_count} on {person.image_count} images"),
            ("newest", day(person.last_face_at)),
            ("hidden", "yes" if person.hidden else "no"),
        ):
            print(f"{title:<12} {printable(value)}")
        if alike:
            print("\nwho looks alike:")
            rows = [
                (match.person_id, family.person(match.person_id).label or "",
                 f"{match.similarity:.3f}")
                for match in alike
            ]  # fmt: skip
            print_table(("id", "label", "similarity"), rows, numbers=1)
        return Status.DONE

    return _with(place, tenant, act)


def run_rename(place: Place, tenant: str, name: str, label: str, *, as_json: bool) -> int:
    """Give a person a label, or take it away where the new one is empty."""

    def act(family: Tenant) -> int:
        person = find_person(family, name)
        changed = family.change_person(person.id, label=label or None, if_version=person.version)
        before, after = person.label or "without a label", changed.label or "without a label"
        _say(changed, f"{changed.id} was {before}, and is {after}", as_json=as_json)
        return Status.DONE

    return _with(place, tenant, act)


def run_merge(place: Place, tenant: str, name: str, into: str, *, as_json: bool) -> int:
    """Merge a person into another one."""

    def act(family: Tenant) -> int:
        gone, kept = find_person(family, name), find_person(family, into)
        merged = family.merge(gone.id, into=kept.id)
        who = merged.label or merged.id
        text = f"{who} has {merged.face_count} faces on {merged.image_count} images now"
        _say(merged, text, as_json=as_json)
        return Status.DONE

    return _with(place, tenant, act)


def _with(place: Place, tenant: str, act: Callable[[Tenant], int]) -> int:
    return ask(place, lambda client: act(client.tenant(tenant)))


def find_person(family: Tenant, name: str) -> Person:
    """The person with an id, or the one with a label.

    Raises:
        NotDoneError: nobody has the label, or several have.
    """
    if _is_id(name):
        return family.person(name)
    found = people_called(family, name)
    if len(found) == 1:
        return found[0]
    if not found:
        advice = "`facette people list --labelled` shows the labels, and the ids of all others"
        raise NotDoneError(f"nobody is called {name!r}", advice)
    ids = ", ".join(f"{each.id} ({each.face_count} faces)" for each in found)
    raise NotDoneError(f"{len(found)} people are called {name!r}", f"name one by the id: {ids}")


def people_called(family: Tenant, label: str) -> list[Person]:
    """All people with a label, without regard to case."""
    wanted = label.casefold()
    return [
        person
        for person in family.people(prefix=label, hidden=None)
        if (person.label or "").casefold() == wanted
    ]


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def _row(person: Person) -> tuple[str, ...]:
    return (
        person.id,
        person.label or "",
        day(person.last_face_at),
        f"{person.face_count:,}",
        f"{person.image_count:,}",
    )


def _say(person: Person, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(person)
    else:
        print(printable(text))
