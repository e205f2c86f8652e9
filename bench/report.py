"""Renders the history: the tables of bench/README.md, between their markers, and the plots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import plots, tables
from bench.history import Record, latest, measured

PAGE = Path(__file__).parent / "README.md"
PLOTS = Path(__file__).parent / "plots"

_SECTION = re.compile(
    r"(?P<begin><!-- (?P<bench>\w+): written by `python -m bench report` -->\n)"
    r".*?"
    r"(?P<end><!-- end of (?P=bench) -->)",
    re.DOTALL,
)


def write(records: Sequence[Record], page: Path = PAGE, folder: Path = PLOTS) -> None:
    """Bring the page and the plots up to date with the last measurement of each bench."""
    text = page.read_text(encoding="utf-8")
    page.write_text(render_page(text, latest(records)), encoding="utf-8")
    print(f"wrote {page}")
    for path in plots.draw(measured(records), folder):
        print(f"wrote {path}")


def render_page(text: str, newest: Mapping[str, Record]) -> str:
    """The page with what stands between the markers of each bench written anew."""

    def section(match: re.Match[str]) -> str:
        bench = match["bench"]
        body = tables.render(newest[bench]) if bench in newest else "Not measured yet.\n"
        return f"{match['begin']}\n{body}\n{match['end']}"

    return _SECTION.sub(section, text)
