"""`python -m bench` measures what it says, and says it in two files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.common.browser import launch_options
from bench.common.photos import people_folder
from bench.report import history, plots
from bench.report import page as report
from tests.support.folders import ROOT
from tests.support.load_server import Conversation, serving

BENCHES = ["embed", "detect", "analyze", "scaling"]
RATIOS = {
    "embed_vs_facenet_pytorch",
    "batcher_vs_raw_session",
    "detect_vs_facenet_pytorch",
    "detect_first_seen_vs_facenet_pytorch",
    "detect_first_seen_vs_repeated",
    "cascade_vs_raw_pnet",
    "analyze_vs_facenet_pytorch",
}

HTTP_RATIOS = {
    "embed_http_vs_raw_session",
    "insert_http_vs_analysis",
    "small_http_vs_analysis",
    "small_http_large_tenant_vs_analysis",
    *(
        f"{prefix}{key}"
        for prefix in ("", "embed_")
        for key in (
            "goodput_at_200_vs_capacity",
            "p99_at_90_twice_over_p99_at_200",
            "memory_before_vs_after_overload",
        )
    ),
    "fair_p99_alone_vs_flooded",
    "fair_served_flooded_vs_alone",
}
SECTIONS = "\n".join(
    f"<!-- {bench}: written by `python -m bench report` -->\n<!-- end of {bench} -->"
    for bench in ("http_embed", "http_insert", "http_small", "http_overload", "http_fair")
)


def run_quickly(bench: str, folder: Path, *more: str) -> tuple[Any, list[Any]]:
    """The document and the history lines of one small run."""
    report, history = folder / "report.json", folder / "history.jsonl"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "bench", bench, "--quick", "--rounds", "1", *more),
            *("--json", str(report), "--history", str(history)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    return json.loads(report.read_text(encoding="utf-8")), lines


@pytest.mark.long
@pytest.mark.slow
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
        assert line["configuration"]["models"]["embedder"]["provider"]
        assert line["notes"]
        for rate in line["rates"].values():
            assert len(rate["samples"]) == 1
            assert rate["min"] <= rate["percentiles"]["p50"] <= rate["max"]
        assert set(line["ratios"]) == set(line["compared"])
    scaling = lines[-1]
    assert set(scaling["curves"]) == {"embed_batch", "embed_threads", "image_size", "faces"}
    assert all(peak > 0 for peak in scaling["memory_mb"].values())


@pytest.mark.slow
def test_the_search_bench_finds_the_neighbours_of_tenants_of_every_size(tmp_path: Path) -> None:
    document, (line,) = run_quickly("search", tmp_path)
    assert set(document["ratios"]) == {
        "min_recall_at_1",
        "min_recall_at_10",
        "p50_vs_plain_index",
        "speedup_vs_exact_500k",
        "insert_500k_vs_empty",
    }
    assert document["ratios"]["min_recall_at_10"] >= 0.98
    assert [row["path"] for row in line["search"]] == ["exact"] * 2 + ["index"] * 3
    assert {row["recall_at_1"] for row in (each["matching"] for each in line["search"])} == {1.0}


@pytest.mark.long
@pytest.mark.slow
def test_the_bench_of_the_product_searches_for_people(tmp_path: Path) -> None:
    document, (line,) = run_quickly("product", tmp_path)
    assert document["ratios"].keys() >= {
        "search_by_photo_over_analysis_100k",
        "search_by_photo_over_analysis_100k_processor",
        "search_by_face_ms_500k",
        "search_by_face_processor_ms_500k",
        "search_by_face_recall_500k",
    }
    assert all(value > 0 for value in document["ratios"].values())
    assert document["ratios"]["search_by_face_recall_500k"] >= 0.98
    assert line["search_by_face_ms"]["p5"] <= line["search_by_face_ms"]["p95"]


@pytest.mark.slow
def test_the_bench_of_ingests_kills_one_and_finds_every_photo_once(tmp_path: Path) -> None:
    document, (line,) = run_quickly("ingest", tmp_path)
    assert set(document["ratios"]) == {"ingest_vs_capacity"}
    killed, resumed, again = line["tables"]["resumed"]["rows"]
    photos = line["configuration"]["photos"]
    assert photos // 2 <= int(killed[1]) == photos - int(resumed[1])
    assert again[1] == "0"
    assert resumed[3] == again[3] == "2"


@pytest.mark.slow
@pytest.mark.skipif(launch_options() is None, reason="no Chromium")
@pytest.mark.skipif(not people_folder().is_dir(), reason="no photos of many people: set LFW_DIR")
def test_the_bench_of_the_console_opens_pages_and_reviews_by_keyboard(tmp_path: Path) -> None:
    document, (line,) = run_quickly("console", tmp_path)
    assert document["ratios"].keys() == {
        "console_paint_names_100_over_1000",
        "console_paint_covers_100_over_1000",
        "shell_room_below_120_kb",
        "key_press_room_below_50_ms",
        "decisions_face_by_face_over_queue",
    }
    assert line["ratios"]["shell_room_below_120_kb"] > 1
    assert max(line["console"]["shifts"].values()) == 0
    grouped, asked, one_by_one = line["tables"]["review"]["rows"]
    assert float(asked[4]) >= float(grouped[4])
    assert float(one_by_one[4]) >= 0.99


@pytest.mark.slow
def test_soak_watches_the_memory_of_the_service(tmp_path: Path) -> None:
    document, (line,) = run_quickly("soak", tmp_path)
    idle, early, late = line["memory_mb"].values()
    assert min(idle, early, late) > 0
    assert document["ratios"] == line["ratios"]
    assert line["ratios"]["memory_early_vs_late"] == pytest.approx(early / late, abs=0.01)


@pytest.mark.slow
def test_the_bench_of_a_gpu_runs_on_cores_where_it_is_quick(tmp_path: Path) -> None:
    document, (line,) = run_quickly("gpu", tmp_path)
    assert set(document["ratios"]) == {"gpu_batcher_vs_raw_session", "gpu_detection_vs_cores"}
    assert line["rates"]["raw session, cpu/fp32, batch 4"]["median"] > 0
    assert len(line["gpu"]) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("faces_dir")
def test_max_side_counts_faces_with_and_without_a_limit(tmp_path: Path) -> None:
    _, (line,) = run_quickly("max_side", tmp_path)
    limits = line["max_side"]["limits"]
    assert list(limits) == ["0", "2048"]
    for row in limits["0"].values():
        assert row["found"] == row["expected"]
        assert sum(row["expected"]) > 0
    assert limits["2048"]["crowds"]["detect_ms"]["median"] > 0


@pytest.mark.long
@pytest.mark.slow
def test_http_measures_every_part_over_a_running_service(tmp_path: Path) -> None:
    document, lines = run_quickly("http", tmp_path, "--only", "embed,insert,small,overload,fair")
    assert [line["bench"] for line in lines] == [
        "http_embed",
        "http_insert",
        "http_small",
        "http_overload",
        "http_fair",
    ]
    embed, insert, _, overload, fair = lines
    assert document["results"] == {line["bench"]: line for line in lines}
    # Whether anything is refused within a second depends on the machine.
    assert set(document["ratios"]) >= HTTP_RATIOS
    assert all(value > 0 for value in document["ratios"].values())
    assert embed["configuration"]["models"]["embedder"]["precision"] in ("int8", "fp32", "fp16")
    assert set(embed["curves"]) == {"connections"}

    assert insert["memory_mb"]["the service's process, idle"] > 0
    shares = insert["shares"]
    parts = {"event_loop", "workers", "database", "client"}
    assert shares["processor_ms_a_photo"].keys() == parts
    assert all(value > 0 for value in shares["processor_ms_a_photo"].values())
    assert {"decode", "detect", "embed", "store"} <= shares["elapsed_ms_a_photo"].keys()

    assert set(overload["loads"]) == {"/insert-image", "/v1/embed?input=crop"}
    for rows in overload["loads"].values():
        assert [row["load"] for row in rows] == [0.9, 2.0]
        for row in rows:
            assert row["sent"] == sum(row["statuses"].values())
            assert set(row["statuses"]) <= {"200", "429"}
            assert not row["errors"]
    assert fair["fair_p99_flooded_over_alone"] > 0

    page = report.render_page(
        SECTIONS, history.latest([{**line, "quick": False} for line in lines])
    )
    assert page.count("Not measured yet") == 0
    drawn = plots.draw([{**line, "quick": False} for line in lines], tmp_path)
    assert {"connections.svg", "latency-by-load.svg"} <= {path.name for path in drawn}


def test_http_measures_any_server_by_its_url(tmp_path: Path) -> None:
    def reply(conversation: Conversation) -> None:
        authorized = conversation.headers.get("authorization") == "Bearer secret"
        form = conversation.headers["content-type"].startswith("multipart/form-data")
        conversation.answer(200 if authorized and form and b"pixels" in conversation.body else 400)

    photo, document = tmp_path / "photo.jpg", tmp_path / "found.json"
    photo.write_bytes(b"pixels")
    with serving(reply) as server:
        result = subprocess.run(
            [
                *(sys.executable, "-m", "bench", "http", "--url", server.url, "--path", "/any"),
                *("--token", "secret", "--file", str(photo), "--multipart", "--seconds", "0.3"),
                *("--connections", "1,2", "--loads", "0.02,0.05", "--json", str(document)),
                *("--history", str(tmp_path / "history.jsonl"), "--progress"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    assert "| 2 |" in result.stdout
    assert "in flight" in result.stderr
    found = json.loads(document.read_text(encoding="utf-8"))
    assert [row["connections"] for row in found["closed"]] == [1, 2]
    assert [row["load"] for row in found["loads"]] == [0.02, 0.05]
    assert all(row["statuses"].keys() == {"200"} for row in found["closed"] + found["loads"])
    assert found["capacity_per_s"] > 0
    assert not (tmp_path / "history.jsonl").exists()
