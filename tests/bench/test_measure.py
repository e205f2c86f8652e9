"""The arithmetic that every figure goes through, and the page that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.accuracy.parity import ReferenceFace, compare, summarize
from bench.common.measure import Samples, interleave, percentile, ratio
from bench.common.photos import never_seen
from bench.common.processor import processor_s, tree_s
from bench.common.result import Result
from bench.inprocess import max_side, setup_size
from bench.report import history, plots, tables
from bench.report import page as report
from service.domain.types import Box
from tests.support.analysed import person, photo


async def test_contestants_take_turns_after_one_warm_up_each() -> None:
    order: list[str] = []

    def work(name: str):
        async def run() -> int:
            order.append(name)
            return 10

        return run

    rates = await interleave({"a": work("a"), "b": work("b")}, rounds=3)
    assert order == ["a", "b"] * 4
    assert len(rates["a"].values) == len(rates["b"].values) == 3


def test_samples_show_their_median_and_their_extremes() -> None:
    samples = Samples((5.0, 1.0, 3.0))
    assert (samples.median, samples.spread) == (3.0, (1.0, 5.0))


def test_ratio_is_taken_round_by_round() -> None:
    # A machine that slowed down in the second round slowed both alike.
    assert ratio(Samples((10.0, 5.0, 20.0)), Samples((5.0, 2.5, 10.0))) == 2.0


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)]
)
def test_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_same_face_elsewhere_and_another_face_here_are_told_apart() -> None:
    found = photo(person(1), person(2))
    boxes = [face.detection.box for face in found.faces]
    same = [ReferenceFace(box, 0.99, person(n)) for n, box in enumerate(boxes, start=1)]
    assert compare("same", same, found).same_faces
    moved = [same[0], ReferenceFace(Box(500, 500, 550, 550), 0.99, person(2))]
    assert not compare("moved", moved, found).same_faces
    assert not compare("one more", same[:1], found).same_faces
    rows = [compare("same", same, found), compare("moved", moved, found)]
    summary = summarize(rows)
    assert summary["photos_with_the_same_faces"] == 1
    assert summary["share_with_cosine_0.99"] == 0.75


def test_inverted_rates_are_costs() -> None:
    assert Samples((10.0, 4.0)).inverted(1000).values == (100.0, 250.0)


def test_first_seen_photos_never_have_a_size_twice() -> None:
    photos = [np.zeros((768, 1024, 3), np.uint8)] * 8 + [np.zeros((1024, 683, 3), np.uint8)]
    shapes = [cut.shape for number in range(40) for cut in never_seen(photos, number)]
    assert len(set(shapes)) == len(shapes)
    assert min(min(shape[:2]) for shape in shapes) > 400
    assert not {photo.shape for photo in photos} & set(shapes)


def measurement(commit: str, *, rate: float, quick: bool = False) -> history.Record:
    """An embed line in which ours runs at `rate` and the peer at 10."""
    result = Result(
        unit="faces/s",
        rates={"ours": Samples((rate, rate)), "theirs": Samples((10.0, 10.0))},
        compared={"embed_vs_facenet_pytorch": ("ours", "theirs")},
        configuration={
            "settings": {"workers": 2},
            "models": {"facenet": {"provider": "CPUExecutionProvider", "precision": "fp32"}},
        },
        notes=["As noted."],
    )
    origin = {
        "measured_at": "2026-01-02T03:04:05+00:00",
        "commit": commit,
        "machine": {"processor": "A processor", "flags": ["avx2"], "usable_cores": 2},
        "versions": {"python": "3.11.7"},
    }
    return history.record("embed", result, origin, quick=quick)


def test_history_is_appended_to_and_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "history.jsonl"
    assert history.read(path) == []
    lines = [measurement("a", rate=20), measurement("b", rate=30)]
    for line in lines:
        history.append(path, line)
    assert history.read(path) == lines
    assert history.latest(lines)["embed"]["commit"] == "b"


def test_quick_runs_are_not_reported() -> None:
    lines = [measurement("a", rate=20), measurement("b", rate=30, quick=True)]
    assert history.latest(lines)["embed"]["commit"] == "a"


def test_ratio_of_figures_that_are_no_rates_is_rendered() -> None:
    record = measurement("abc", rate=20)
    found = Result(
        unit="",
        rates={},
        compared={},
        configuration=record["configuration"],
        notes=["As noted."],
        details={"memory_mb": {"early": 90, "late": 100}},
        other_ratios={"memory_early_vs_late": 0.9},
    )
    text = tables.render({**record, **found.document()})
    assert "| `memory_early_vs_late` | **0.90** |" in text
    assert "| early | 90 |" in text
    assert "rounds;" not in text
    assert "\n\ncommit abc, 2026-01-02;" in text


def test_faces_lost_to_a_limit_are_counted_by_height() -> None:
    heights = (20, 30, 60, 100, 200)
    boxes = [Box(300 * n, 0, 300 * n + height, height) for n, height in enumerate(heights)]
    unlimited = [max_side.Search(boxes, [9.0, 11.0], [20.0, 20.0])]
    # The two smallest are lost, and another stands where there was none.
    limited = [
        max_side.Search([*boxes[2:4], Box(0, 500, 20, 520), boxes[4]], [4.0, 6.0], [10.0, 12.0])
    ]
    row = max_side.compare(unlimited, limited)
    assert (row["expected"], row["found"]) == ([2, 1, 2], [0, 1, 2])
    assert (row["detect_ms"]["median"], row["whole_ms"]["median"]) == (5, 11)
    found = {"photos": row, "crowds": row}
    assert "| 1024 | 3 of 5 | 5.00 | 11.0 | 0 of 2 | 1 of 1 | 2 of 2 | 5.00 | 11.0 |" in (
        tables.max_side({"height_bins": (40, 80), "limits": {"1024": found}})
    )


def test_page_is_rendered_between_its_markers_only() -> None:
    page = (
        "before\n<!-- embed: written by `python -m bench report` -->\nold\n<!-- end of embed -->\n"
        "<!-- detect: written by `python -m bench report` -->\nold\n<!-- end of detect -->\nafter\n"
    )
    text = report.render_page(page, {"embed": measurement("abc", rate=25)})
    assert text.startswith("before\n<!-- embed:")
    assert text.endswith("<!-- end of detect -->\nafter\n")
    assert "| `embed_vs_facenet_pytorch` | **2.50** | 2.50 to 2.50 |" in text
    assert "2 rounds; commit abc, 2026-01-02; A processor, 2 cores (avx2)" in text
    assert "- As noted." in text
    assert "Not measured yet." in text
    assert "old" not in text
    assert report.render_page(text, {"embed": measurement("abc", rate=25)}) == text


def test_plots_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    lines = history.measured(history.read(history.PATH))
    first, second = (plots.draw(lines, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert {path.name for path in first} == {path.name for path in report.PLOTS.iterdir()}
    pages = "".join(page.read_text("utf-8") for page in (report.FIGURES, report.ROOFLINE))
    assert all(f"](../bench/plots/{path.name})" in pages for path in first)


def test_size_of_a_folder_counts_files_and_no_links(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"1234567")
    (tmp_path / "link").symlink_to(tmp_path / "below" / "file")
    assert setup_size._bytes_in(tmp_path) == 7


def test_quick_set_up_takes_one_package_with_its_hashes(tmp_path: Path) -> None:
    lines = setup_size._first_package(tmp_path).read_text(encoding="utf-8").splitlines()
    assert "==" in lines[0]
    assert len(lines) > 1
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:])


def test_processor_time_of_a_process_is_finer_than_a_tick_of_the_kernel() -> None:
    own = os.getpid()
    before = processor_s(own)
    started = time.process_time_ns()
    while time.process_time_ns() - started < 1_000_000:
        pass
    assert processor_s(own) - before >= 0.001
    assert processor_s(own) == pytest.approx(time.process_time(), abs=0.5)


def test_processor_time_of_a_process_that_ended_is_asked_for_in_vain() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        pass
    with pytest.raises(ProcessLookupError, match=str(process.pid)):
        processor_s(process.pid)


def test_processor_time_of_a_tree_counts_what_a_process_started() -> None:
    # The one below computes; its parent waits for it.
    below = "n = 0\nfor i in range(3_000_000): n += i\nprint('done', flush=True)\ninput()"
    above = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {below!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", above], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        own, tree = processor_s(process.pid), tree_s(psutil.Process(process.pid))
    assert tree > own > 0.0
