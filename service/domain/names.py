"""The rule for names: ids of tenants, and all other ids of callers.

The rule is the same for query strings, forms, archives and the command line. It excludes invisible
characters and all but one spelling of each letter, so two names that look alike are equal. A name
outside the rule is refused, never normalised: a gateway that authorises the name as it was sent
would otherwise check a name that the service does not use.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_NAME_LENGTH: Final = 128
"""In code points."""

NAME_RULE: Final = (
    f"1 to {MAX_NAME_LENGTH} characters in Unicode's normal form C, not only blanks, "
    "and none of them a control or an invisible character"
)
"""The rule in words that follow "must have"."""

INVISIBLE: Final = (
    r"\u0000-\u001f\u007f-\u009f"  # control, C0 and C1
    r"\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"  # invisible
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks of direction
    r"\u200b-\u200d\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"  # without width
    r"\ufe00-\ufe0f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Ranges of a regular expression's class: control characters, separators of lines, and Unicode's
Default_Ignorable_Code_Point, which has the bidirectional and the zero-width ones."""

# Lone surrogates are the remains of bytes that are not UTF-8; no stored text has any.
_FORBIDDEN: Final = re.compile(rf"[{INVISIBLE}\ud800-\udfff]")


def is_name(text: str) -> bool:
    """Whether a text follows `NAME_RULE`."""
    return (
        len(text) <= MAX_NAME_LENGTH
        and bool(text.strip())
        and not _FORBIDDEN.search(text)
        and unicodedata.is_normalized("NFC", text)
    )
