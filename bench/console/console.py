"""The console in a real browser: first paints, bytes, key presses, layout shifts, and a review."""

from __future__ import annotations

from collections.abc import Sequence

from bench.common.harness import default_settings, describe, sessions
from bench.common.measure import Samples, percentile
from bench.common.photos import people_folder
from bench.common.result import Effort, Result
from bench.console import opening, reviewing
from bench.console.place import Place, open_place
from bench.console.reviewing import Labelled, Reviewed

_MOST_SHELL_KB = 120
_MOST_PRESS_MS = 50


async def run(effort: Effort) -> Result:
    """Measure each page; `effort.scale` makes the reviewed set of photos smaller.

    Raises:
        RuntimeError: there is no Chromium.
        SystemExit: there are no labelled photos.
    """
    if not people_folder().is_dir():
        raise SystemExit(
            "no labelled photos: set LFW_DIR to a folder with a folder for each person"
        )
    async with open_place(effort) as place:
        print("  people of two tenants", flush=True)
        paints = await opening.paints(place)
        print("  labelled photos", flush=True)
        labelled = await reviewing.insert(place)
        begun = await reviewing.clusters(place, labelled)
        async with place.signed_in(reviewing.TENANT) as context:
            print("  shifts", flush=True)
            shifts = await opening.shifts(place, context, reviewing.TENANT)
            print(f"  review of {len(labelled.faces)} faces", flush=True)
            asked = await reviewing.review(place, labelled, context)
    one_by_one = reviewing.face_by_face(begun, labelled.people, asked.last)
    return _result(place, paints, labelled, shifts, asked, one_by_one)


def _result(
    place: Place,
    paints: opening.Paints,
    labelled: Labelled,
    shifts: dict[str, float],
    asked: Reviewed,
    one_by_one: Reviewed,
) -> Result:
    rates = {
        f"{what}, {size:,} people": each.inverted(1e3)
        for what, found in (("names", paints.names), ("names and covers", paints.covers))
        for size, each in found.items()
    }
    few, many = paints.names
    press = percentile(asked.question_ms, 0.5) if asked.question_ms else _MOST_PRESS_MS
    rows = [
        *(
            _row(f"first paint of {what}, {size:,} people, ms", each)
            for what, found in (("names", paints.names), ("names and covers", paints.covers))
            for size, each in found.items()
        ),
        _spread("key press to the next question, ms", asked.question_ms),
        _spread("key press to the next question and its faces, ms", asked.faces_ms),
        _spread("Enter behind a name to the next question, ms", asked.named_ms),
        ["compressed size of the page with its files, kB", f"{paints.shell_kb:.1f}", ""],
        [
            f"largest layout shift of {len(shifts)} pages, on a screen and a phone",
            f"{max(shifts.values()):.4f}",
            max(shifts, key=lambda name: shifts[name]) if max(shifts.values()) else "",
        ],
    ]
    settings = default_settings()
    return Result(
        unit="a second",
        rates=rates,
        compared={
            f"console_paint_{what}_{few}_over_{many}": (
                f"{shown}, {few:,} people",
                f"{shown}, {many:,} people",
            )
            for what, shown in (("names", "names"), ("covers", "names and covers"))
        },
        other_ratios={
            "shell_room_below_120_kb": _MOST_SHELL_KB / paints.shell_kb,
            "key_press_room_below_50_ms": _MOST_PRESS_MS / press,
            "decisions_face_by_face_over_queue": one_by_one.decisions / asked.decisions,
        },
        details={
            "tables": {
                "pages": {
                    "head": ["", "median", "smallest to largest round, or percentiles"],
                    "rows": rows,
                },
                "review": _review_table(labelled, asked, one_by_one),
            },
            "console": {
                "shifts": shifts,
                "shell_kb": paints.shell_kb,
                "kinds": dict(asked.kinds),
                "seconds": asked.seconds,
                "recall_by_decisions": {
                    name: [[number, round(each.recall, 5)] for number, each in found.curve]
                    for name, found in (("queue", asked), ("face_by_face", one_by_one))
                },
            },
        },
        configuration={
            **describe(settings, sessions(settings)),
            "people": many,
            "faces": len(labelled.faces),
        },
        notes=[
            (
                "First paints: from the navigation, in a browser profile with an empty cache, "
                "until the people in sight of a window are painted. Key presses: "
                f"{len(asked.question_ms)} answers of the review by one key, from the key event "
                "until the next question is painted; behind a name people of that name are looked "
                "for first."
            ),
            (
                f"Review: {len(labelled.faces)} labelled faces of {len(labelled.names)} people, "
                "answered through the page by keyboard by a program that knows everybody, until "
                "pairs have recall 0.99 and precision 0.999, or nothing is asked any more. It does "
                "not think, so decisions a minute are what page and service allow. A face that it "
                "marks as somebody else's counts as a decision, too."
            ),
            (
                "Face by face: each face in the order of the photos is one decision, on whatever "
                "page, until pairs are as good; so it is counted from the same clusters and not "
                "pressed."
            ),
        ],
    )


def _row(name: str, samples: Samples) -> list[str]:
    low, high = samples.spread
    return [name, f"{samples.median:.0f}", f"{low:.0f} to {high:.0f}"]


def _spread(name: str, values: Sequence[float]) -> list[str]:
    if not values:
        return [name, "", ""]
    middle, high, worst = (percentile(list(values), share) for share in (0.5, 0.95, 0.99))
    return [name, f"{middle:.1f}", f"p95 {high:.1f}, p99 {worst:.1f}"]


def _review_table(
    labelled: Labelled, asked: Reviewed, one_by_one: Reviewed
) -> dict[str, list[str] | list[list[str]]]:
    faces = len(labelled.faces)

    def row(name: str, found: Reviewed, rate: str) -> list[str]:
        last = found.last
        return [
            name,
            f"{found.decisions:,}",
            f"{faces / found.decisions:.2f}",
            f"{last.precision:.4f}",
            f"{last.recall:.4f}",
            rate,
        ]

    begun = asked.curve[0][1]
    return {
        "head": [
            "",
            "decisions",
            "faces per decision",
            "precision",
            "recall",
            "decisions a minute",
        ],
        "rows": [
            [
                "as the service grouped them",
                "0",
                "",
                f"{begun.precision:.4f}",
                f"{begun.recall:.4f}",
                "",
            ],
            row("in the order of the queue", asked, f"{60 * asked.decisions / asked.seconds:.0f}"),
            row("face by face", one_by_one, ""),
        ],
    }
