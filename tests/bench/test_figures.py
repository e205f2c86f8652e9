"""Figures in the documentation come from the history, and never from a hand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from bench.http import overload
from bench.peers import rounds
from bench.report import history, quotes
from bench.report import page as report
from bench.search import search
from service.api import forms, image_bytes, intake
from service.commands.tenant_report import contents
from service.config import SECTIONS
from service.domain import calibration, matching, names
from service.process import connection
from service.runtime import choice
from service.store.embedded import cluster
from service.usecases import reembed, shown
from tests.support.folders import ROOT

# Not docs/experiments.md and docs/threads.md, which are notebooks and say so, nor pages of tables
# that another test compares with the code.
PAGES = (
    *("README.md", "CONTRIBUTING.md", "bench/README.md"),
    *("docs/api.md", "docs/errors.md", "docs/figures.md", "docs/matching.md", "docs/operations.md"),
    "docs/roofline.md",
)
_UNITS = (
    r"%|x(?=\s)|(?:us|ms|s|min|h|KiB|MiB|kB|MB|GB|MP|px|times|cores?|seconds?|minutes?|hours?|faces?"
    r"|photos?|requests?|inserts?|vectors?|connections?|headers|bytes|characters|people)\b"
    r"|\w+/s\b|/s\b"
)
# A number with a unit that something measures, or with a fraction. An address or the third number
# of a version is neither.
_FIGURE = re.compile(
    rf"(?<![\w.:/-])(?:\d[\d,]*(?:\.\d+)?\s?(?:{_UNITS})|\d[\d,]*\.\d+)(?![\w.]*\d)"
)


def _head_kib() -> str:
    return f"{connection.MAX_HEAD_BYTES // 1024} KiB"


def _python() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["requires-python"].removeprefix(">="))


# Numbers that are no measurements: limits of the code, and the oldest releases that work.
ALLOWED = {
    _python(),
    # Of pgvector: halfvec came with 0.7, iterative scans with 0.8.
    *("0.7", "0.8"),
    # Of the OpenAPI Specification.
    "3.1",
    _head_kib(),
    f"{connection.MAX_HEADERS} headers",
    f"{connection.MAX_PIPELINED} requests",
    f"{connection._UNREAD_S:.0f} s",
    f"{names.MAX_NAME_LENGTH} characters",
    f"{forms.MAX_PLAIN_BODY_BYTES >> 20} MiB",
    f"{image_bytes.MEMORY_BYTES >> 20} MiB",
    f"{intake.MIN_BYTES_PER_S >> 10} KiB",
    f"{intake.GRACE_S:.0f} s",
    f"{cluster._LONGEST_FOLDER} bytes",
    f"{choice.TIE_MARGIN:.0%}".replace("%", " %"),
    f"{reembed._BATCH_FACES} faces",
    f"{shown._MAX_BYTES >> 20} MiB",
    f"{contents._SAMPLED_FACES_OF_A_PERSON} faces",
    f"{contents._SAMPLED_PEOPLE:,} people",
    f"{calibration.FEWEST_PEOPLE} people",
    f"{matching.REACH_BEYOND_LIMIT:.2f}",
    f"{matching._DOUBTED_ABOVE:.1f}",
    # The loads of benches.
    f"{overload._NEAR:.0%}".replace("%", " %"),
    f"{rounds.LOAD:.0%}".replace("%", " %"),
    f"{overload._REFUSED_WITHIN_MS:.0f} ms",
    f"{search._SIZES[-1]:,} faces",
    f"{rounds.CONNECTIONS} connections",
    f"{SECTIONS['detection'].model_fields['min_face_size'].default} px",
}


def handwritten(text: str) -> str:
    """A page without its marked sections, its code, and where its links lead."""
    text = report.SECTION.sub("", text)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ {4,}\S.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`\n]+`", "", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_written_by_hand(page: str) -> None:
    text = handwritten((ROOT / page).read_text(encoding="utf-8"))
    found = {" ".join(match[0].split()) for match in _FIGURE.finditer(text)}
    assert found - ALLOWED == set()


@pytest.mark.parametrize(
    "sentence",
    [
        "it takes 68 ms at p99",
        "0.83 of the capacity",
        "346 faces/s in all",
        "6.1 x as fast",
        "within 5% of it",
        "two cores and 313 MB",
        "1,639 inserts, none lost",
    ],
)
def test_a_figure_is_told_from_other_numbers(sentence: str) -> None:
    assert {match[0] for match in _FIGURE.finditer(sentence)} - ALLOWED
    assert not _FIGURE.search("port 8000 on 127.0.0.1, release 2.5.3, status 429, INT8, in 2 steps")


def test_every_allowed_number_is_used() -> None:
    text = " ".join(handwritten((ROOT / page).read_text("utf-8")) for page in PAGES)
    assert {number for number in ALLOWED if number not in " ".join(text.split())} == set()


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_page_shows_the_last_measurement_of_each_bench(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert report.render_page(text, history.latest(history.read(history.PATH))) == text
    assert "Not measured yet." not in text


def test_every_bench_of_the_history_has_its_place_on_the_page_of_figures() -> None:
    shown = {
        match["bench"]
        for page in (report.FIGURES, report.MATCHING, report.ROOFLINE)
        for match in report.SECTION.finditer(page.read_text("utf-8"))
    }
    shown |= quotes.NEEDS["reviews"]  # a page of its own
    measured = set(history.latest(history.read(history.PATH)))
    # Replaced by http_insert; its lines stay in the history.
    assert measured - {"insert"} <= shown


def test_quoted_figures_are_of_the_newest_record() -> None:
    newest = history.latest(history.read(history.PATH))
    assert quotes.TABLES.keys() == quotes.NEEDS.keys()
    changed = {
        **newest,
        "http_embed": {**newest["http_embed"], "ratios": {"embed_http_vs_raw_session": 0.123}},
    }
    assert "0.12 of the raw model session" in quotes.serving(changed)
    lacking = {name: record for name, record in newest.items() if name != "http_embed"}
    page = (
        "<!-- serving: written by `python -m bench report` -->\n<!-- end of serving -->\n"
        "<!-- parity: written by `python -m bench report` -->\n<!-- end of parity -->\n"
    )
    text = report.render_page(page, lacking)
    assert text.count("Not measured yet.") == 1
    assert "photos with the same faces" in text
