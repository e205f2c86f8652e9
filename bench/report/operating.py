"""The recorded curves: limits by the number of people as a table, match rates as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.report.history import Record
from bench.report.plots import INK, SERIES, STYLE
from export.embedders import curves, records
from export.embedders.curves import Curve
from service.domain.matching import DistanceLimit
from service.runtime.matching import false_match_curve

_PEOPLE = (10, 1_000, 100_000)


def recorded() -> list[Curve]:
    """The curves beside the export's code, FaceNet's default space first."""
    found = records.read_all(curves.FOLDER, Curve)
    return sorted(
        found, key=lambda each: (not each.space.startswith("inception"), -len(each.space))
    )


def name_of(space: str) -> str:
    """The name of a space in tables."""
    if not space.startswith("inception"):
        return "SFace"
    return "FaceNet" if "/box" in space else "FaceNet, compatible"


def table(found: Sequence[Curve]) -> str:
    """For each space its limit by the number of people, as Markdown."""
    head = "| | pairs of strangers | recommended: wrong joins, FMR at most |"
    rule = "| --- | --- | --- |"
    for people in _PEOPLE:
        head += f" limit among {people:,} people: distance, FMR, TPR |"
        rule += " --- |"
    return "\n".join([head, rule, *map(_row, found)]) + "\n"


def _row(each: Curve) -> str:
    cells = [
        name_of(each.space),
        f"{each.curve.stranger_pairs:,}",
        f"{each.recommended_max_wrong_joins:.2%}, {each.recommended_max_fmr:.0e}",
    ]
    curve = false_match_curve(each.curve)
    limit = DistanceLimit(
        each.recommended_max_distance,
        curve,
        each.recommended_max_fmr,
        each.recommended_max_wrong_joins,
    )
    for people in _PEOPLE:
        distance, rate = limit.at(people), limit.rate_at(people)
        # A rate below one pair of all measured ones is extrapolated.
        said = (
            "modelled" if rate < 1 / each.curve.stranger_pairs else f"{_hits(each, distance):.2f}"
        )
        cells.append(f"{distance:.3f}, {rate:.0e}, {said}")
    return f"| {' | '.join(cells)} |"


def _hits(each: Curve, distance: float) -> float:
    """The TPR at a distance, between the two points next to it."""
    points = each.curve.points
    after = next(
        (n for n, point in enumerate(points) if point.distance >= distance), len(points) - 1
    )
    if after == 0 or points[after].distance == distance:
        return points[after].tpr
    low, high = points[after - 1], points[after]
    share = (distance - low.distance) / (high.distance - low.distance)
    return low.tpr + share * (high.tpr - low.tpr)


def draw(found: Sequence[Curve], path: Path) -> None:
    """FMR with its band, and TPR, over the distance; as an SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 5.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for each, color in zip(found, SERIES, strict=False):
            points = each.curve.points
            x = [point.distance for point in points]
            upper.fill_between(
                x,
                [p.fmr_low for p in points],
                [p.fmr_high for p in points],
                color=color,
                alpha=0.15,
            )
            upper.plot(x, [p.fmr for p in points], color=color, label=name_of(each.space))
            lower.plot(x, [p.tpr for p in points], color=color)
        upper.set_yscale("log")
        upper.set_title("strangers taken for one person (FMR), with its 95 % band", loc="left")
        lower.set_title("one person recognised (TPR)", loc="left")
        lower.set_xlabel("distance between two faces", color=INK)
        upper.legend()
        for axes in (upper, lower):
            axes.grid(axis="y")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def embedders(record: Record) -> str:
    """The ways to compare faces side by side, from a measurement of `accuracy`, as Markdown."""
    rows = []
    for name, served in record["served"].items():
        key = name.lower().replace(", ", "_")
        ratios, clustering = record["ratios"], served["clustering"]
        cells = [
            name,
            f"{ratios[f'{key}_tpr_at_fmr_1e-4']:.3f}",
            f"{ratios[f'{key}_precision']:.4f}, {ratios[f'{key}_recall']:.4f}",
            f"{clustering['precision']:.4f}, {clustering['recall']:.4f}",
            f"{served['photos_per_s']:.0f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    columns = (
        "",
        "TPR at FMR 1e-4",
        "joined in 24 orders: precision, recall",
        "through the service",
        "photos/s of 250 px, 12 clients",
    )
    return (
        "\n".join([f"| {' | '.join(columns)} |", "| --- | --- | --- | --- | --- |", *rows]) + "\n"
    )
