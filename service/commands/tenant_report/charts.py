"""The charts of a report: SVG elements whose colours follow the page, without script or style."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from service.commands.tenant_report.distances import BIN_WIDTH, Distances
from service.store.face.census import QUALITY_STEPS, Quality

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# What is drawn in these colours takes those of the page, light or dark, by its CSS variables.
_INK, _FAINT, _FIRST, _SECOND, _MARK = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES: Final = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
    _MARK: "var(--mark)",
}
_INCHES = (7.6, 2.7)
_FONT_POINTS = 9
_MOST_LABELS = 12
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_SETTINGS: Final[dict[RcKeyType, Any]] = {
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "font.size": _FONT_POINTS,
    "grid.color": _FAINT,
    "grid.linewidth": 0.4,
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "facette",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def sizes_chart(bars: Sequence[tuple[str, int]]) -> str:
    """The number of people by the number of their faces; each bar has a name and a height."""
    with _chart("sizes") as (axes, made):
        _bars(axes, [name for name, _ in bars], [height for _, height in bars])
        axes.set_xlabel("faces of a person")
        axes.set_ylabel("people")
    return made[0]


def distances_chart(distances: Distances) -> str:
    """The share of pairs in each bin of distances, of one person and of two, and the limit."""
    with _chart("distances") as (axes, made):
        edges = np.arange(len(distances.same) + 1) * BIN_WIDTH
        highest = 0.0
        for counts, colour, name in (
            (distances.same, _FIRST, "one person"),
            (distances.different, _SECOND, "two people"),
        ):
            if not (total := sum(counts)):
                continue
            shares = np.asarray(counts) / total
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.3, linewidth=0)
            axes.stairs(shares, edges, color=colour, linewidth=1.5)
            top = int(np.argmax(shares))
            axes.annotate(
                name,
                (edges[top] + BIN_WIDTH / 2, shares[top]),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                color=colour,
                weight="bold",
            )
            highest = max(highest, float(shares[top]))
        axes.axvline(distances.limit, color=_MARK, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.annotate(
            f"limit {distances.limit:.3f}",
            (distances.limit, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            color=_MARK,
        )
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(0, (highest or 1) * 1.3)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.set_xlabel("distance of two faces")
        axes.set_ylabel("share of pairs")
    return made[0]


def quality_chart(quality: Quality, lowest: float) -> str:
    """The number of faces by their quality, those that are not matchable apart.

    Args:
        lowest: the lowest quality of a matchable face.
    """
    with _chart("quality") as (axes, made):
        edges = np.arange(QUALITY_STEPS) / QUALITY_STEPS
        width = 0.9 / QUALITY_STEPS
        axes.bar(edges, quality.unmatchable, width, align="edge", color=_SECOND)
        axes.bar(
            edges, quality.matchable, width, align="edge", color=_FIRST, bottom=quality.unmatchable
        )
        axes.axvline(lowest, color=_MARK, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.annotate(
            f"matched from {lowest:g} on",
            (lowest, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            color=_MARK,
        )
        axes.set_xlim(0, 1)
        axes.set_xticks(np.arange(0, 1.01, 0.2))
        _count_upwards(axes)
        axes.set_xlabel("quality")
        axes.set_ylabel("faces")
        axes.margins(y=0.2)
    return made[0]


def periods_chart(length: str, bars: Sequence[tuple[str, int]]) -> str:
    """The number of photos of each period; each bar has a name and a height.

    Args:
        length: the name of such a period.
    """
    with _chart("periods") as (axes, made):
        _bars(axes, [name for name, _ in bars], [photos for _, photos in bars])
        axes.set_xlabel(length)
        axes.set_ylabel("photos")
    return made[0]


def _bars(axes: Axes, names: Sequence[str], heights: Sequence[int]) -> None:
    axes.bar(range(len(names)), heights, width=0.85, color=_FIRST)
    step = -(-len(names) // _MOST_LABELS)
    axes.set_xticks(range(0, len(names), step), names[::step])
    axes.set_xlim(-0.6, max(len(names), 3) - 0.4)  # a lone bar does not fill the chart
    _count_upwards(axes)
    if len(names) <= _MOST_LABELS:
        for place, height in enumerate(heights):
            axes.annotate(
                f"{height:,}",
                (place, height),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
            )
    axes.margins(y=0.15)


def _count_upwards(axes: Axes) -> None:
    """The vertical axis counts: whole numbers, in groups of three digits."""
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


@contextmanager
def _chart(name: str) -> Iterator[tuple[Axes, list[str]]]:
    """Axes to draw on; the list has the SVG element when the block has ended."""
    made: list[str] = []
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=_INCHES, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        yield axes, made
        stream = io.BytesIO()
        FigureCanvasSVG(figure)
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    made.append(_embedded(stream.getvalue(), name))


def _embedded(svg: bytes, name: str) -> str:
    """An SVG file as an element of a page: no id that another chart has, no colour of its own."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)  # noqa: S314  # matplotlib has written it just now
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r"[(\"]#([\w-]+)[)\"]", text))
    for each in root.iter():
        if each.get("id") not in used:
            each.attrib.pop("id", None)
    for size in ("width", "height"):
        del root.attrib[size]
    root.set("aria-hidden", "true")  # the figure has the name, and a table the numbers
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r'( id="|[("]#)([\w-]+)', rf"\1{name}-\2", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text
