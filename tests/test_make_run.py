"""The README's first minutes: `make run`, then the line it prints, then a second photo."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.folders import ROOT

# The environment belongs to another folder; an install from here would point it to this one.
_MAKE = ("make", "--old-file=.venv/.installed")
# The other set of models may have to be exported first.
_STARTS_WITHIN_S = 240


@pytest.fixture
def checkout(service_folder: Path) -> Path:
    """What `make run` needs of a checkout, with an environment that is installed already."""
    if not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("there is no environment made by `make setup`")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, service_folder / name)
    for name in (".venv", "models"):
        (service_folder / name).symlink_to(ROOT / name)
    return service_folder


@pytest.fixture
def make_run(
    checkout: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`make run` with the parameter's further arguments, and the file it writes to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    output = checkout / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*_MAKE, "run", f"PORT={port}", *getattr(request, "param", ())],
            cwd=checkout,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    family = psutil.Process(process.pid)
    yield process, output
    for each in [*family.children(recursive=True), family] if family.is_running() else []:
        each.kill()
    process.wait(30)


def _curl_line(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        text = output.read_text(encoding="utf-8")
        if found := re.search(r"^  (curl .+)$", text, re.MULTILINE):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(output.read_text(encoding="utf-8"))


def test_printed_line_stores_a_photo_and_a_second_one_joins_it(
    make_run: tuple[subprocess.Popen[bytes], Path], checkout: Path, portraits: list[Path]
) -> None:
    process, output = make_run
    line = _curl_line(process, output)
    shutil.copy(portraits[1], checkout / "photo.jpg")
    answers = [
        json.loads(
            subprocess.run(
                ["bash", "-c", line], cwd=checkout, capture_output=True, check=True
            ).stdout
        )
        for _ in range(2)
    ]
    first, second = (answer["faces"][0] for answer in answers)
    assert (first["is_auto_matched"], second["is_auto_matched"]) == (False, True)
    assert first["cluster_id"] == second["cluster_id"]

    service = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert "stopped" in output.read_text(encoding="utf-8")
    assert [each for each in service if each.is_running()] == []
    folder = str(checkout / "data" / "postgres")
    assert not any(
        folder in (each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("make_run", [("MODEL=sface",)], indirect=True)
@pytest.mark.timeout(420)
def test_named_model_is_exported_and_serves_a_new_database(
    make_run: tuple[subprocess.Popen[bytes], Path], checkout: Path, portraits: list[Path]
) -> None:
    line = re.sub(r"(https?://[^/\s]+)/\S+", r"\1/v1/embed", _curl_line(*make_run))
    shutil.copy(portraits[1], checkout / "photo.jpg")
    done = subprocess.run(["bash", "-c", line], cwd=checkout, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["model"]["space"].startswith("mobilenet-v1/sface-2021dec/")
    assert [len(face["embedding"]) for face in answer["faces"]] == [128]
