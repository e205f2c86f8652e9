"""Kinds of arguments that several commands take, and how they are checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from service.domain.names import NAME_RULE, is_name

_LONGEST_DAYS = 36_500


def _check_tenant(_: Any, tenant: str | None) -> None:
    if tenant is not None and not is_name(tenant):
        raise ValueError(f"an id must have {NAME_RULE}")


def _check_key_id(_: Any, text: str) -> None:
    from service.domain.keys import KeyText, is_key_id

    if KeyText.parse(text.encode(errors="replace")) is None and not is_key_id(text):
        raise ValueError("an id is what stands between the first two underscores")


def _whole(least: int, most: int) -> Callable[[Any, Any], None]:
    return Number(gte=least, lte=most)


ConfigPath = Annotated[Path, Parameter(parse=False)]
"""The configuration file, which `--config` names for every command."""

TenantName = Annotated[str, Parameter(validator=_check_tenant)]
"""A tenant id that the API accepts as well."""

KeyName = Annotated[str, Parameter(validator=_check_key_id)]
"""The id of a key, or the key itself."""

Days = Annotated[int, Parameter(validator=_whole(1, _LONGEST_DAYS))]
DaysOrNone = Annotated[int, Parameter(validator=_whole(0, _LONGEST_DAYS))]
Hours = Annotated[int, Parameter(validator=_whole(0, 24 * _LONGEST_DAYS))]

PortNumber = Annotated[int, Parameter(validator=_whole(0, 65_535))]
"""A TCP port; 0 lets the system choose one."""

PassedOn = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
"""Words that another program reads."""
