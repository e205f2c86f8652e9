"""The table of operations in docs/api.md, written from the lists that the contract is made of.

Run as a module to write the page anew: `python -m tests.support.operations_page`.
"""

from __future__ import annotations

import re
from pathlib import Path

from service.api.contract.pages import PAGES
from service.api.v1.operations import OPERATIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
_MARKED = re.compile(r"(<!-- operations: .*? -->\n).*(<!-- end of operations -->)", re.DOTALL)


def table() -> str:
    """One row an operation, those of a group together: route, scope, effect."""
    listed = [
        *((each.tag, each.method, each.path, str(each.scope), each.summary) for each in OPERATIONS),
        *((each.tag, "GET", each.path, "", each.summary) for each in PAGES),
    ]
    tags = list(dict.fromkeys(row[0] for row in listed))
    rows = [
        f"| `{method} {path}` | {scope} | {summary} |"
        for _, method, path, scope, summary in sorted(listed, key=lambda row: tags.index(row[0]))
    ]
    return "\n".join(["| operation | scope | effect |", "| --- | --- | --- |", *rows]) + "\n"


def render(page: str) -> str:
    """The page with its marked part written anew."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
