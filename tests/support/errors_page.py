"""The table of docs/errors.md, written from the table of errors in the code.

Run as a module to write the page anew: `python -m tests.support.errors_page`.
"""

from __future__ import annotations

import re
from pathlib import Path

from service.api.error_table import WHEN, entries

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
_MARKED = re.compile(r"(<!-- errors: .*? -->\n).*(<!-- end of errors -->)", re.DOTALL)


def table() -> str:
    """One row an error: status, code, and when it is answered."""
    rows = [f"| {each.status} | `{each.code}` | {each.when} |" for each in entries(WHEN)]
    return "\n".join(["| status | code | when |", "| --- | --- | --- |", *rows]) + "\n"


def render(page: str) -> str:
    """The page with its marked part written anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
