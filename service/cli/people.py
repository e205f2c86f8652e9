"""Arguments of `facette people`. A person is named by the id, or by a label that one person has."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice, Number

from service.cli.addresses import Named, place_of
from service.cli.values import ConfigPath, TenantName

_LABELS = Group("Labels", sort_key=1, validator=LimitedChoice(0, 1))
_Count = Annotated[int, Parameter(validator=Number(gte=0))]


def list_people(
    *,
    tenant: TenantName,
    order: Literal["faces", "label", "recency"] | None = None,
    labelled: Annotated[bool, Parameter(group=_LABELS)] = False,
    unlabelled: Annotated[bool, Parameter(group=_LABELS)] = False,
    prefix: str | None = None,
    hidden: bool = False,
    limit: _Count = 50,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """List the people of a tenant, those with most faces first.

    Args:
        tenant: the tenant
        order: by number of faces, by label, or by the newest photo
        labelled: only people with a label
        unlabelled: only people without a label
        prefix: only people whose label begins like this, by label
        hidden: only people who are hidden
        limit: people at most; 0 for all
        json: print a JSON object a line
    """
    from service.commands.people import PeopleFilter, run_list

    which = PeopleFilter(
        order, True if labelled else False if unlabelled else None, prefix, hidden, limit
    )
    return run_list(place_of(service, config), tenant, which, as_json=json)


def show(
    person: str,
    /,
    *,
    tenant: TenantName,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """Show what is known of a person, and who looks like them.

    Args:
        person: the id, or the label
        tenant: the tenant
        json: print one JSON object
    """
    from service.commands.people import run_show

    return run_show(place_of(service, config), tenant, person, as_json=json)


def rename(
    person: str,
    label: str,
    /,
    *,
    tenant: TenantName,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """Give a person another label.

    Args:
        person: the id, or the label so far
        label: the new label; '' for none
        tenant: the tenant
        json: print one JSON object
    """
    from service.commands.people import run_rename

    return run_rename(place_of(service, config), tenant, person, label, as_json=json)


def merge(
    person: str,
    into: str,
    /,
    *,
    tenant: TenantName,
    json: bool = False,
    service: Named | None = None,
    config: ConfigPath,
) -> int:
    """Merge a person into another one, who keeps id and label.

    Args:
        person: the id or the label of the person who goes
        into: the id or the label of the person who stays
        tenant: the tenant
        json: print one JSON object
    """
    from service.commands.people import run_merge

    return run_merge(place_of(service, config), tenant, person, into, as_json=json)
