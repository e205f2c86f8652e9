"""The history as SVG plots: same history, same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from bench.report.history import Record, latest

_OURS, _PEER, _THIRD, _FOURTH, _FIFTH = "#2563c9", "#d1660a", "#0b8a6a", "#8a4fc4", "#6b7280"
INK, _FAINT, _PAPER = "#1f2733", "#d5dae1", "#fcfcfb"
SERIES = (_OURS, _PEER, _THIRD, _FOURTH, _FIFTH)
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "facette",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "y",
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    # Light paper under everything, so that a dark page shows the same plot.
    "figure.facecolor": _PAPER,
    "axes.facecolor": _PAPER,
    "legend.frameon": False,
}
_RATIOS = {
    "embed_vs_facenet_pytorch": ("embed", "embedding, batches of 16"),
    "detect_vs_facenet_pytorch": ("detect", "detection, shapes seen before"),
    "detect_first_seen_vs_facenet_pytorch": ("detect", "detection, first-seen shapes"),
    "analyze_vs_facenet_pytorch": ("analyze", "JPEG bytes to embeddings"),
}


def draw(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write every plot that there are measurements for; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with mpl.rc_context(STYLE):
        for name, plot in _PLOTS.items():
            if (figure := plot(records)) is not None:
                written.append(folder / f"{name}.svg")
                figure.savefig(written[-1], metadata={"Date": None, "Creator": None})
    return written


def draw_reviews(records: Sequence[Record], path: Path) -> bool:
    """Draw what the questions about people lead to, if that was measured."""
    with mpl.rc_context(STYLE):
        if (figure := _review_queue(records)) is None:
            return False
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return True


def _against_the_peer(records: Sequence[Record]) -> Figure | None:
    newest = latest(records)
    shown = [(key, *what) for key, what in _RATIOS.items() if what[0] in newest]
    if not shown:
        return None
    figure = Figure(figsize=(7.6, 0.4 + 0.95 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, (key, bench, title) in zip(panels, shown, strict=True):
        record = newest[bench]
        over, under = (record["rates"][name] for name in record["compared"][key])
        _bars(axes, [over, under], record["unit"])
        axes.set_title(f"{title}: {record['ratios'][key]:.1f} times", loc="left", weight="bold")
    return figure


def _bars(axes: Axes, rates: Sequence[Mapping[str, Any]], unit: str) -> None:
    widest = max(rate["max"] for rate in rates)
    for row, (rate, color) in enumerate(zip(rates, (_OURS, _PEER), strict=True)):
        spread = [[rate["median"] - rate["min"]], [rate["max"] - rate["median"]]]
        axes.barh(row, rate["median"], height=0.7, color=color)
        axes.errorbar(rate["median"], row, xerr=spread, color=INK, linewidth=1, capsize=3)
        axes.text(rate["max"] + 0.015 * widest, row, f"{rate['median']:.1f} {unit}", va="center")
    axes.set_yticks([0, 1], ["Facette", "facenet-pytorch"])
    axes.set_xlim(0, 1.2 * widest)
    axes.invert_yaxis()
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _embedding(records: Sequence[Record]) -> Figure | None:
    return _curves(records, ("embed_batch", "embed_threads"), logarithmic=False)


def _image_size(records: Sequence[Record]) -> Figure | None:
    return _curves(records, ("image_size",), logarithmic=True)


def _faces(records: Sequence[Record]) -> Figure | None:
    return _curves(records, ("faces",), logarithmic=True)


def _connections(records: Sequence[Record]) -> Figure | None:
    return _curves(records, ("connections",), logarithmic=False, bench="http_embed")


def _curves(
    records: Sequence[Record],
    names: Sequence[str],
    *,
    logarithmic: bool,
    bench: str = "scaling",
) -> Figure | None:
    """Curves of a bench's last measurement beside each other, x doubling from tick to tick."""
    newest = latest(records).get(bench)
    if newest is None:
        return None
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        curve = newest["curves"][name]
        for line, style in zip(curve["lines"], _line_styles(curve["lines"]), strict=True):
            points = curve["lines"][line]
            x = [point["x"] for point in points]
            axes.plot(x, [point["median"] for point in points], label=line, **style)
            axes.fill_between(
                x,
                [point["min"] for point in points],
                [point["max"] for point in points],
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )
        _plain_log_x(axes, sorted({p["x"] for ps in curve["lines"].values() for p in ps}))
        axes.set_xlabel(curve["x_label"])
        axes.grid(visible=True)
    if logarithmic:
        _plain_log_y(panels[0])
    else:
        panels[0].set_ylim(0, 1.05 * max(axes.dataLim.y1 for axes in panels))
    panels[0].set_ylabel(curve["y_label"])
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _line_styles(lines: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Ours and the peer's by color, their detection dashed; other lines by color."""
    others = iter((_OURS, _PEER, _THIRD, _FOURTH))
    for line in lines:
        contestant, _, what = line.partition(", ")
        color = {"Facette": _OURS, "facenet-pytorch": _PEER}.get(contestant) or next(others)
        dashed = "--" if what == "detection" else "-"
        yield {"color": color, "linestyle": dashed, "marker": "o", "markersize": 4}


def _latency_by_load(records: Sequence[Record]) -> Figure | None:
    """Percentiles of the accepted, and the p99 of the refused, by load."""
    newest = latest(records).get("http_overload")
    if newest is None:
        return None
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    panels = figure.subplots(1, len(newest["loads"]), squeeze=False, sharey=True)[0]
    lines = {
        "p50": ("latency_ms", "p50", _THIRD),
        "p90": ("latency_ms", "p90", _PEER),
        "p99": ("latency_ms", "p99", _OURS),
        "p99 of refusals": ("refused_ms", "p99", _FIFTH),
    }
    for axes, (path, rows) in zip(panels, newest["loads"].items(), strict=True):
        for label, (kind, share, color) in lines.items():
            shown = [row for row in rows if row[kind]]
            axes.plot(
                [row["load"] * 100 for row in shown],
                [row[kind][share] for row in shown],
                label=label,
                color=color,
                marker="o",
                markersize=4,
            )
        axes.axvline(100, color=_FAINT, linewidth=1)
        axes.set_title(path, loc="left")
        axes.set_xlabel("load, % of capacity")
        axes.grid(visible=True)
    _plain_log_y(panels[0])
    panels[0].set_ylabel("ms from the intended send")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _roofline(records: Sequence[Record]) -> Figure | None:
    """The networks under the roofs of one core."""
    newest = latest(records).get("roofline")
    if newest is None:
        return None
    found = newest["roofline"]
    best = {name: rate["max"] for name, rate in found["peaks"].items()}
    bandwidth = max(best["read, one core"], best["copy, one core"])
    rows = found["networks"]
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    left, right = (1, 2 * max(row["intensity"] for row in rows))
    for kind, color in (("int8", _OURS), ("float32", _PEER)):
        if (peak := best.get(f"{kind}, one core")) is not None:
            x = [left, peak / bandwidth, right]
            axes.plot(x, [left * bandwidth, peak, peak], color=color, label=f"roof of {kind}")
        mine = sorted(
            (row for row in rows if row["kind"] == kind), key=lambda row: row["intensity"]
        )
        at = [row["intensity"] for row in mine]
        for n, row in enumerate(mine):
            reached = row["reached"]
            axes.plot([row["intensity"]] * 2, [reached["min"], reached["max"]], color=_FAINT)
            # Neighbours have their numbers on two sides.
            axes.annotate(
                str(rows.index(row) + 1),
                (row["intensity"], reached["max"]),
                textcoords="offset points",
                xytext=(5 if n % 2 else -5, 2),
                fontsize=8,
                horizontalalignment="left" if n % 2 else "right",
            )
        axes.scatter(at, [row["reached"]["max"] for row in mine], color=color, s=18, zorder=3)
    for n, row in enumerate(rows, 1):
        axes.plot([], [], " ", label=f"{n}  {row['network']}")
    axes.set_xscale("log")
    _plain_log_y(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("multiply-adds a byte from memory")
    axes.set_ylabel("10^9 multiply-adds/s, one core")
    axes.grid(visible=True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _review_queue(records: Sequence[Record]) -> Figure | None:
    """Wrong pairs by the number of answered questions, a panel for each tenant."""
    newest = latest(records).get("review")
    if newest is None:
        return None
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    panels = figure.subplots(1, len(newest["curves"]), squeeze=False, sharey=True)[0]
    for axes, (name, curve) in zip(panels, newest["curves"].items(), strict=True):
        for (line, points), color in zip(curve["lines"].items(), SERIES, strict=False):
            errors = [point["median"] for point in points]
            axes.plot([point["x"] for point in points], errors, label=line, color=color)
        axes.axhline(1 - newest["configuration"]["recall"], color=_FAINT, linewidth=1)
        axes.set_yscale("log")
        axes.set_title(
            f"{name.replace('_', ' ')}, {newest['review'][name]['faces']:,} faces", loc="left"
        )
        axes.set_xlabel(curve["x_label"])
        axes.grid(visible=True)
    panels[0].set_ylabel(curve["y_label"])
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _over_time(records: Sequence[Record]) -> Figure | None:
    keys = [*_RATIOS, "batcher_vs_raw_session"]
    colors = (_OURS, _PEER, _THIRD, _FOURTH, _FIFTH)
    # The last measurement of a bench stands for its commit.
    ratios: dict[str, dict[str, float]] = {}
    for record in records:
        ratios.setdefault(record["commit"], {}).update(record["ratios"])
    commits = [commit for commit, found in ratios.items() if found.keys() & set(keys)]
    if not commits:
        return None
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    axes = figure.subplots()
    for key, color in zip(keys, colors, strict=True):
        points = [(at, ratios[c][key]) for at, c in enumerate(commits) if key in ratios[c]]
        x, y = [at for at, _ in points], [value for _, value in points]
        axes.plot(x, y, label=key, color=color, marker="o", markersize=4)
    _plain_log_y(axes)
    axes.set_xticks(range(len(commits)), commits, rotation=30 if len(commits) > 6 else 0)
    axes.set_xlim(-0.5, len(commits) - 0.5)
    axes.set_ylim(0.5, 50)
    axes.set_ylabel("ratio, higher is better")
    axes.grid(visible=True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _plain_log_y(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _plain_log_x(axes: Axes, ticks: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


_PLOTS: dict[str, Callable[[Sequence[Record]], Figure | None]] = {
    "facenet-pytorch": _against_the_peer,
    "embedding": _embedding,
    "image-size": _image_size,
    "faces": _faces,
    "ratios": _over_time,
    "connections": _connections,
    "latency-by-load": _latency_by_load,
    "roofline": _roofline,
}
