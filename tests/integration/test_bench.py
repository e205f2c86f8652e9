"""`python -m bench` measures what it says, and says it in a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.xdist_group("bench")
def test_every_bench_runs_and_reports_its_ratios(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    result = subprocess.run(
        [sys.executable, "-m", "bench", "all", "--rounds", "1", "--json", str(report)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(report.read_text(encoding="utf-8"))
    assert set(document["results"]) == {"embed", "detect", "insert"}
    assert set(document["ratios"]) == {
        "batcher_vs_raw_session",
        "cascade_vs_raw_pnet",
        "insert_vs_analysis",
        "insert_vs_raw_sessions",
    }
    assert all(value > 0 for value in document["ratios"].values())
    assert document["results"]["insert"]["memory_mb"]["idle"] > 0
    assert document["machine"]["usable_cores"] >= 1
