"""The choice of a response's media type by the request's Accept header.

Source: RFC 9110, sections 12.4.2 (weights) and 12.5.1 (Accept).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105
_RANGE: Final = re.compile(rf"({_TOKEN})/({_TOKEN})")
_WEIGHT: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_PARAMETER: Final = re.compile(rf'{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*")')
# Text between separators; a separator inside a quoted string does not count.
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"?'
_BETWEEN_COMMAS: Final = re.compile(rf'(?:[^",]|{_QUOTED})+')
_BETWEEN_SEMICOLONS: Final = re.compile(rf'(?:[^";]|{_QUOTED})+')
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class _MediaRange:
    """One element of the header. type, subtype: lower case, "*" for any. weight: 0 to 1."""

    type: str
    subtype: str
    weight: float
    has_parameters: bool

    @property
    def specificity(self) -> int:
        return (self.type != _ANY) + (self.subtype != _ANY)

    def matches(self, type_: str, subtype: str) -> bool:
        """Whether the range covers a media type that has no parameters."""
        return (
            not self.has_parameters
            and self.type in (_ANY, type_)
            and self.subtype in (_ANY, subtype)
        )


def preferred(accept: str, offers: Sequence[str]) -> str:
    """The media type of `offers` that the client prefers.

    The most specific range that matches a type gives the type its weight, and the highest weight
    wins. Of equal weights, a type that the header names wins over one that a wildcard covers; of
    two named types, the one that is named first; and else the one that is offered first. A header
    that accepts none of the types is disregarded, and so are malformed elements.

    Args:
        accept: value of the header; empty where there is none.
        offers: media types without parameters, in lower case; the default first.
    """
    ranges = [found for each in _BETWEEN_COMMAS.findall(accept) if (found := _parsed(each))]
    return max(offers, key=lambda offer: _rank(offer, ranges))


def _rank(offer: str, ranges: Sequence[_MediaRange]) -> tuple[float, bool, int]:
    """A key that is larger for a preferred type: weight, whether it is named, and position."""
    type_, _, subtype = offer.partition("/")
    matching = [
        (each.specificity, -position, each.weight)
        for position, each in enumerate(ranges)
        if each.matches(type_, subtype)
    ]
    if not matching:
        return (0.0, False, 0)
    specificity, position, weight = max(matching)
    is_named = specificity == 2 and weight > 0
    return (weight, is_named, position if is_named else 0)


def _parsed(element: str) -> _MediaRange | None:
    """One element of the header; None where it is malformed."""
    range_text, _, rest = element.partition(";")
    parameters = (part.strip() for part in _BETWEEN_SEMICOLONS.findall(rest))
    found = _RANGE.fullmatch(range_text.strip())
    if found is None or (found[1] == _ANY and found[2] != _ANY):
        return None
    weight, has_parameters = 1.0, False
    for parameter in filter(None, parameters):
        if _PARAMETER.fullmatch(parameter) is None:
            return None
        name, _, value = parameter.partition("=")
        if name.lower() != "q":
            has_parameters = True
        elif _WEIGHT.fullmatch(value) is None:
            return None
        else:
            weight = float(value)
    return _MediaRange(found[1].lower(), found[2].lower(), weight, has_parameters)
