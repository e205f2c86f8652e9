"""Renders the measurements: tables between the markers of the pages, and the plots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.report import operating, plots, quotes, tables
from bench.report.history import Record, latest, measured

BENCH = Path(__file__).resolve().parents[1]
DOCS = BENCH.parent / "docs"
FIGURES = DOCS / "figures.md"
MATCHING = DOCS / "matching.md"
REVIEWS = DOCS / "reviews.md"
ROOFLINE = DOCS / "roofline.md"
PLOTS = BENCH / "plots"
PAGES = (BENCH.parent / "README.md", FIGURES, MATCHING, REVIEWS, ROOFLINE)

SECTION = re.compile(
    r"(?P<begin><!-- (?P<bench>\w+): written by `python -m bench report` -->\n)"
    r".*?"
    r"(?P<end><!-- end of (?P=bench) -->)",
    re.DOTALL,
)
_MISSING = "Not measured yet.\n"


def write(records: Sequence[Record]) -> None:
    """Bring the pages and the plots up to date with the last measurement of each bench."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(render_page(text, latest(records)), encoding="utf-8")
        print(f"wrote {page}")
    operating.draw(operating.recorded(), MATCHING.with_name("matching.svg"))
    for path in plots.draw(measured(records), PLOTS):
        print(f"wrote {path}")
    if plots.draw_reviews(measured(records), REVIEWS.with_suffix(".svg")):
        print(f"wrote {REVIEWS.with_suffix('.svg')}")


def render_page(text: str, newest: Mapping[str, Record]) -> str:
    """The page, with every marked section rendered anew.

    A section is named after a bench, after a table of `quotes`, `operating` for the recorded
    curves, or `embedders` for the embedders side by side.
    """
    return SECTION.sub(
        lambda match: f"{match['begin']}\n{_body(match['bench'], newest)}\n{match['end']}", text
    )


def _body(name: str, newest: Mapping[str, Record]) -> str:
    if name == "operating":
        return operating.table(operating.recorded())
    if name == "embedders":
        return operating.embedders(newest["accuracy"]) if "accuracy" in newest else _MISSING
    if name in quotes.TABLES:
        return quotes.TABLES[name](newest) if quotes.NEEDS[name] <= newest.keys() else _MISSING
    return tables.render(newest[name]) if name in newest else _MISSING
