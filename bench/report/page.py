"""Renders what was measured: the tables of the pages, between their markers, and the plots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.report import operating, plots, tables
from bench.report.history import Record, latest, measured

BENCH = Path(__file__).resolve().parents[1]
PAGE = BENCH / "README.md"
PLOTS = BENCH / "plots"
README = BENCH.parent / "README.md"
MATCHING = README.parent / "docs" / "matching.md"

_SECTION = re.compile(
    r"(?P<begin><!-- (?P<bench>\w+): written by `python -m bench report` -->\n)"
    r".*?"
    r"(?P<end><!-- end of (?P=bench) -->)",
    re.DOTALL,
)


def write(records: Sequence[Record], page: Path = PAGE, folder: Path = PLOTS) -> None:
    """Bring the page and the plots up to date with the last measurement of each bench."""
    for each in (page, README, MATCHING) if page == PAGE else (page,):
        text = each.read_text(encoding="utf-8")
        each.write_text(render_page(text, latest(records)), encoding="utf-8")
        print(f"wrote {each}")
    if page == PAGE:
        operating.draw(operating.recorded(), MATCHING.with_name("matching.svg"))
    for path in plots.draw(measured(records), folder):
        print(f"wrote {path}")


def render_page(text: str, newest: Mapping[str, Record]) -> str:
    """The page with what stands between the markers of each bench written anew.

    Between those of `operating` stands what the recorded curves mean, between those of `embedders`
    the ways to compare faces, side by side.
    """

    def section(match: re.Match[str]) -> str:
        bench = match["bench"]
        if bench == "operating":
            body = operating.table(operating.recorded())
        elif bench == "embedders" and "accuracy" in newest:
            body = operating.embedders(newest["accuracy"])
        else:
            body = tables.render(newest[bench]) if bench in newest else "Not measured yet.\n"
        return f"{match['begin']}\n{body}\n{match['end']}"

    return _SECTION.sub(section, text)
