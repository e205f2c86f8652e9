"""`python -m bench` measures what it says, and says it in two files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

BENCHES = ["embed", "detect", "analyze", "insert", "scaling"]
RATIOS = {
    "embed_vs_facenet_pytorch",
    "batcher_vs_raw_session",
    "detect_vs_facenet_pytorch",
    "detect_first_seen_vs_facenet_pytorch",
    "detect_first_seen_vs_repeated",
    "cascade_vs_raw_pnet",
    "analyze_vs_facenet_pytorch",
    "insert_vs_analysis",
    "insert_vs_raw_sessions",
}


def run_quickly(bench: str, folder: Path) -> tuple[Any, list[Any]]:
    """The document and the history lines of one small run."""
    report, history = folder / "report.json", folder / "history.jsonl"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "bench", bench, "--quick", "--rounds", "1"),
            *("--json", str(report), "--history", str(history)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    return json.loads(report.read_text(encoding="utf-8")), lines


@pytest.mark.xdist_group("bench")
def test_every_bench_runs_and_reports_its_ratios(tmp_path: Path) -> None:
    document, lines = run_quickly("all", tmp_path)
    assert set(document["ratios"]) == RATIOS
    assert all(value > 0 for value in document["ratios"].values())
    assert document["machine"]["usable_cores"] >= 1

    assert [line["bench"] for line in lines] == BENCHES
    assert document["results"] == {line["bench"]: line for line in lines}
    for line in lines:
        assert line["quick"]
        assert line["commit"]
        assert line["measured_at"]
        assert {"processor", "flags", "usable_cores"} <= line["machine"].keys()
        assert {"python", "onnxruntime", "torch", "facenet-pytorch"} <= line["versions"].keys()
        assert line["configuration"]["settings"]["workers"] >= 1
        assert line["configuration"]["models"]["facenet"]["provider"]
        assert line["notes"]
        for rate in line["rates"].values():
            assert len(rate["samples"]) == 1
            assert rate["min"] <= rate["percentiles"]["p50"] <= rate["max"]
        assert set(line["ratios"]) == set(line["compared"])
    *_, insert, scaling = lines
    assert insert["memory_mb"]["the service's process, idle"] > 0
    assert set(scaling["curves"]) == {"embed_batch", "embed_threads", "image_size", "faces"}
    assert all(peak > 0 for peak in scaling["memory_mb"].values())


@pytest.mark.xdist_group("bench")
def test_soak_watches_the_memory_of_the_service(tmp_path: Path) -> None:
    document, (line,) = run_quickly("soak", tmp_path)
    idle, early, late = line["memory_mb"].values()
    assert min(idle, early, late) > 0
    assert document["ratios"] == line["ratios"]
    assert line["ratios"]["memory_early_vs_late"] == pytest.approx(early / late, abs=0.01)


@pytest.mark.xdist_group("bench")
@pytest.mark.usefixtures("faces_dir")
def test_max_side_counts_faces_with_and_without_a_limit(tmp_path: Path) -> None:
    _, (line,) = run_quickly("max_side", tmp_path)
    limits = line["max_side"]["limits"]
    assert list(limits) == ["0", "2048"]
    for row in limits["0"].values():
        assert row["found"] == row["expected"]
        assert sum(row["expected"]) > 0
    assert limits["2048"]["crowds"]["detect_ms"]["median"] > 0
