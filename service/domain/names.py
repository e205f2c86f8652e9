"""Which texts may name something: tenants, and every other id that a caller gives.

One rule for query strings, forms, archives and the command line. It leaves out what nobody sees in
a name, and all spellings of a letter but one, so that a name is not taken for another. A name
outside the rule is refused and never changed: a gateway that lets callers through by the name they
send would otherwise check another name than the one that is served.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MAX_NAME_LENGTH: Final = 128
"""In characters, which are code points."""

NAME_RULE: Final = (
    f"1 to {MAX_NAME_LENGTH} characters in Unicode's normal form C, not only blanks, "
    "and none of them a control or an invisible character"
)
"""What `is_name` asks for, in words that follow "must have"."""

INVISIBLE: Final = (
    r"\u0000-\u001f\u007f-\u009f"  # control, C0 and C1
    r"\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"  # drawn as nothing
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turn the direction of what follows
    r"\u200b-\u200d\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"  # of no width
    r"\ufe00-\ufe0f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Ranges of a regular expression's class: control characters, separators of lines, and Unicode's
Default_Ignorable_Code_Point, which has the bidirectional and the zero-width ones."""

# Halves of surrogate pairs are what is left of bytes that are no UTF-8; no stored text has any.
_FORBIDDEN: Final = re.compile(rf"[{INVISIBLE}\ud800-\udfff]")


def is_name(text: str) -> bool:
    """Whether something may be named so: see `NAME_RULE`."""
    return (
        len(text) <= MAX_NAME_LENGTH
        and bool(text.strip())
        and not _FORBIDDEN.search(text)
        and unicodedata.is_normalized("NFC", text)
    )
