"""The page of a report: HTML that holds its styles, charts and pictures, and no script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from service.commands.tenant_report import charts
from service.commands.tenant_report.contents import Contents
from service.commands.tenant_report.crops import Crops
from service.commands.tenant_report.distances import BIN_WIDTH, FARTHEST
from service.domain.types import ClusterId, FaceId, TenantId
from service.store.face.census import QUALITY_STEPS, Periods

_PACKAGE: Final = "service.commands.tenant_report"
_SHORT_ID = 8
_FIRST_SIZES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What a page says of itself.

    model, space: the name of the models, and the space of their vectors.
    lowest_quality: of a matchable face. unreadable: why no photo can be read; empty where some can.
    """

    tenant_id: TenantId
    made_at: datetime
    model: str
    space: str
    lowest_quality: float
    unreadable: str


def render_page(facts: PageFacts, contents: Contents, crops: Crops) -> str:
    """The page as HTML. All texts of the tenant are escaped."""
    environment = Environment(
        loader=PackageLoader(_PACKAGE, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(counted=counted, day=_day, number=_number, short=_short)
    sizes, periods = size_bars(contents.sizes), period_bars(contents.periods)

    def picture(face: FaceId | None) -> str:
        """The address of a face's picture, which holds its bytes; empty where there is none."""
        data = None if face is None else crops.files.get(face)
        return "" if data is None else f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"

    def name(person: ClusterId) -> str:
        """The label of a person, or one made of the id."""
        return contents.people[person].label or f"Person {_short(person)}"

    counts = contents.counts
    return environment.get_template("page.html.jinja").render(
        facts=facts,
        contents=contents,
        counts=counts,
        crops=crops,
        style=_style(environment),
        picture=picture,
        name=name,
        sizes=sizes,
        periods=periods,
        bin_width=BIN_WIDTH,
        farthest=FARTHEST,
        quality_steps=QUALITY_STEPS,
        # Drawn where the page has the place for it: there may be nothing to draw. They have no text
        # of the tenant.
        sizes_chart=lambda: Markup(charts.sizes_chart(sizes)),  # noqa: S704
        distances_chart=lambda: Markup(charts.distances_chart(contents.distances)),  # noqa: S704
        quality_chart=lambda: Markup(  # noqa: S704
            charts.quality_chart(contents.quality, facts.lowest_quality)
        ),
        periods_chart=lambda: Markup(  # noqa: S704
            charts.periods_chart(contents.periods.length, periods)
        ),
    )


def size_bars(sizes: Sequence[tuple[int, int]]) -> list[tuple[str, int]]:
    """The number of people by their number of faces: 0, 1, 2, then doubling ranges.

    Args:
        sizes: numbers of faces, each with the number of people who have as many.
    """
    largest = max((size for size, _ in sizes), default=1)
    bounds = [(size, size) for size in _FIRST_SIZES]
    while bounds[-1][1] < largest:
        low = bounds[-1][1] + 1
        bounds.append((low, 2 * low - 2))
    bars = [
        (
            str(low) if low == high else f"{low:,}\u2013{high:,}",
            sum(people for size, people in sizes if low <= size <= high),
        )
        for low, high in bounds
    ]
    return bars if bars[0][1] else bars[1:]  # people without faces are rare


def period_bars(periods: Periods) -> list[tuple[str, int]]:
    """The number of photos of each period from the first to the last, also of those without one."""
    if not periods.photos:
        return []
    photos = dict(periods.photos)
    first, last = periods.photos[0][0], periods.photos[-1][0]
    bars, period = [], first
    while period <= last:
        bars.append((_name_of(period, periods.length), photos.get(period, 0)))
        period = _next(period, periods.length)
    return bars


def _next(period: date, length: str) -> date:
    if length == "day":
        return period + timedelta(days=1)
    if length == "week":
        return period + timedelta(days=7)
    if length == "month":
        return date(period.year + period.month // 12, period.month % 12 + 1, 1)
    return date(period.year + 1, 1, 1)


def _name_of(period: date, length: str) -> str:
    """As ISO 8601 writes it; a week is named by its first day."""
    return period.isoformat()[: {"month": 7, "year": 4}.get(length, 10)]


def _style(environment: Environment) -> Markup:
    loader = environment.loader
    assert loader is not None
    return Markup(loader.get_source(environment, "page.css")[0])  # noqa: S704  # a file beside this


def _number(value: int) -> str:
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """A number with its noun: "1 face", "2 faces"."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def _day(value: datetime) -> str:
    return f"{value:%Y-%m-%d}"


def _short(identifier: str) -> str:
    return identifier[:_SHORT_ID]
