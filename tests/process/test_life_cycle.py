"""Starting, stopping and crashing: what the operator sees, and what survives."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from bench.common.server import NO_AUTHORITIES
from tests.support.command import facette
from tests.support.live import busy, end, insert, postgres_of, wait_until
from tests.support.service import ServiceProcess, lay_database


@pytest.fixture
def process(service_folder: Path, models_dir: Path) -> Iterator[ServiceProcess]:
    """A service of the test's own, gone with its database however the test ends."""
    found = ServiceProcess(service_folder, models_dir)
    yield found
    end(found)


def _metrics(process: ServiceProcess) -> str:
    return httpx.get(f"{process.url}/metrics", verify=NO_AUTHORITIES).text


def _address(process: ServiceProcess) -> tuple[str, int]:
    url = httpx.URL(process.url)
    assert url.port is not None
    return url.host, url.port


def _listens(process: ServiceProcess) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(_address(process)) == 0


def _upload(process: ServiceProcess, photo: bytes) -> tuple[bytes, bytes]:
    """Head and body of an upload, as they go over the wire."""
    with process.client() as client:
        request = client.build_request(
            "POST", "/insert-image", data={"tenant_id": "t"}, files={"image": photo}
        )
    lines = [b"%s: %s\r\n" % header for header in request.headers.raw]
    return b"POST /insert-image HTTP/1.1\r\n" + b"".join(lines) + b"\r\n", request.read()


def test_stopping_ends_everything_and_answers_every_request_that_came_in(
    process: ServiceProcess, photo: bytes
) -> None:
    head, body = _upload(process.start(), photo)
    assert postgres_of(process)
    with socket.create_connection(_address(process)) as caller:
        caller.sendall(head + body[:-1])
        wait_until(lambda: "facette_requests_in_flight 1.0" in _metrics(process))
        with busy(process, lambda client: insert(client, photo), callers=8) as callers:
            psutil.Process(process.pid).send_signal(signal.SIGINT)
            wait_until(lambda: len(callers.last) == 8)
        wait_until(lambda: not _listens(process))
        # The rest of the request that was half received, and one behind it.
        caller.sendall(body[-1:] + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = b"".join(iter(lambda: caller.recv(65536), b""))
    assert process.wait() == 0
    assert postgres_of(process) == []
    assert set(callers.answers) == {200}
    # Each caller was told that its connection ends, and then found the port closed.
    assert [answer.headers.get("connection") for answer in callers.last] == ["close"] * 8
    assert callers.failures == {"ConnectError": 8}
    first, second = answers.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200")
    assert b"connection: close" not in first
    assert second.startswith(b"200")
    assert b"connection: close" in second
    assert "cut off" not in process.log
    assert "Traceback" not in process.log


def test_request_that_cannot_end_in_time_is_told_that_the_service_stops(
    process: ServiceProcess, photo: bytes
) -> None:
    (process.folder / "config.toml").write_text("[server]\nshutdown_timeout_s = 1\n")
    head, body = _upload(process.start(), photo)
    with socket.create_connection(_address(process)) as caller:
        caller.sendall(head + body[:-1])  # and never the rest
        wait_until(lambda: "facette_requests_in_flight 1.0" in _metrics(process))
        assert process.stop() == 0
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"stopping"' in answer
    assert "requests were cut off requests=1" in process.log
    assert "Traceback" not in process.log


def test_service_says_that_it_stops_while_it_goes_on_serving(
    process: ServiceProcess, photo: bytes
) -> None:
    (process.folder / "config.toml").write_text("[server]\nshutdown_delay_s = 600\n")
    with process.start().client() as client:
        psutil.Process(process.pid).send_signal(signal.SIGTERM)
        wait_until(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/readyz").json()["error"]["code"] == "stopping"
        answer = insert(client, photo)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        # The second signal: what is still to come is not waited for.
        assert process.stop() == 1
    assert postgres_of(process) == []


def test_a_killed_service_keeps_what_it_acknowledged_and_its_codes_are_soon_made_anew(
    process: ServiceProcess, photo: bytes
) -> None:
    (process.folder / "config.toml").write_text(
        "[match]\nexact_search_max_faces = 0\n[vector_index]\ncheck_interval_s = 0.2\n"
    )

    def is_matched_by_codes(client: httpx.Client) -> bool:
        assert insert(client, photo).status_code == 200
        return re.search(r'_searches_total{path="codes"} [1-9]', _metrics(process)) is not None

    acknowledged: list[str] = []
    with process.start().client() as client, ThreadPoolExecutor(4) as executor:
        wait_until(lambda: is_matched_by_codes(client))
        assert re.search(r"facette_face_code_bytes [1-9]", _metrics(process))
        answers = [executor.submit(insert, client, photo) for _ in range(12)]
        for number, answer in enumerate(as_completed(answers), start=1):
            try:
                acknowledged.append(answer.result().json()["image_id"])
            except httpx.TransportError:
                continue
            if number == 4:
                process.kill()
    assert 4 <= len(acknowledged) < 12
    assert postgres_of(process), "the database of a killed service goes on"
    with process.start().client() as client:
        for image_id in acknowledged:
            found = client.get("/image", params={"tenant_id": "t", "image_id": image_id})
            assert len(found.json()["face_ids"]) == 1
            assert list(process.data_dir.glob(f"uploads/*/{image_id}.jpg"))
        cluster = found.json()["cluster_ids"][0]
        size = client.get("/cluster", params={"tenant_id": "t", "cluster_id": cluster}).json()
        files = list(process.data_dir.glob("uploads/*/*.jpg"))
        # Rows the caller was never told of may exist; each has its file.
        assert len(acknowledged) <= size["number_of_images"] <= len(files)

        wait_until(lambda: is_matched_by_codes(client))
        assert re.search(r"facette_face_code_bytes [1-9]", _metrics(process))
        (face,) = insert(client, photo).json()["faces"]
        assert face["is_auto_matched"]
        asked = {"tenant_id": "t", "limit": "1000"}
        reviews = client.get("/review-pending-list", params=asked).json()
        assert len(reviews) == 1
    assert process.stop() == 0
    assert postgres_of(process) == []


def test_stale_pid_file_of_a_crashed_machine_does_not_stop_the_start(
    process: ServiceProcess,
) -> None:
    lay_database(process.data_dir)
    cluster = process.data_dir / "postgres"
    # The number now belongs to some other program: this one.
    lines = (os.getpid(), cluster, 1_700_000_000, 5432, cluster, "", "5432001 7", "ready")
    pid_file = cluster / "postmaster.pid"
    pid_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    shutil.chown(pid_file, cluster.owner(), cluster.group())
    process.start()
    assert httpx.get(f"{process.url}/readyz").status_code == 200
    assert "removing postmaster.pid" in process.log
    assert process.stop(signal.SIGTERM) == 0
    assert postgres_of(process) == []
    assert "Traceback" not in process.log


def test_second_service_on_the_same_folder_is_refused_in_one_line(
    service: ServiceProcess, models_dir: Path, tmp_path: Path
) -> None:
    other = ServiceProcess(tmp_path, models_dir, {"FACETTE_PATHS_DATA_DIR": str(service.data_dir)})
    assert other.launch().wait(60) != 0
    assert f"in use by the process {service.pid}" in other.log
    assert "Traceback" not in other.log
    assert httpx.get(f"{service.url}/readyz").status_code == 200


def _serve(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A start that fails, in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FACETTE_")}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", "serve", *arguments],
        cwd=folder,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = facette(
            tmp_path,
            *("serve", "--port", str(port)),
            environment={"FACETTE_AUTH_TOKEN": "a-token-for-tests"},
        )
    assert result.returncode == 2
    assert result.stderr.startswith(f"facette: cannot listen on 127.0.0.1:{port}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["no such host", "h\u00f6st..example"])
def test_a_host_without_an_address_is_said_in_one_line(tmp_path: Path, host: str) -> None:
    result = facette(
        tmp_path,
        *("serve", "--port", "0", "--host", host),
        environment={"FACETTE_AUTH_TOKEN": "a-token-for-tests"},
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"facette: cannot listen on {host}:0: ")
    assert result.stderr.count("\n") == 1


def test_missing_models_are_said_in_one_line(tmp_path: Path) -> None:
    lay_database(tmp_path / "data")
    result = _serve(tmp_path, "--port", "0", FACETTE_AUTH_TOKEN="a-token-for-tests")
    assert result.returncode == 2
    assert "facette export" in result.stderr
    assert result.stderr.count("\n") == 1


def test_missing_onnx_runtime_names_the_extra_to_install(tmp_path: Path, models_dir: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError", encoding="utf-8")
    result = _serve(
        tmp_path,
        "--port",
        "0",
        FACETTE_AUTH_TOKEN="a-token-for-tests",
        FACETTE_PATHS_MODELS_DIR=str(models_dir),
        PYTHONPATH=str(tmp_path),
    )
    assert result.returncode == 2
    assert "facette[cpu]" in result.stderr
    assert result.stderr.count("\n") == 1


def test_bad_setting_stops_the_start_with_its_name_and_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        '[auth]\ntoken = "a-token-for-tests"\n\n[server]\nprot = 1\n', encoding="utf-8"
    )
    result = facette(tmp_path, "serve")
    assert result.returncode == 2
    assert "line 5: [server] prot" in result.stderr


def test_init_makes_a_private_file_with_a_random_token_once(tmp_path: Path) -> None:
    first = facette(tmp_path, "init")
    path = tmp_path / "config.toml"
    assert first.returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    token = facette(tmp_path, "token").stdout.strip()
    assert len(token) >= 32
    before = path.read_bytes()
    assert facette(tmp_path, "init").returncode == 0
    assert path.read_bytes() == before
    other = tmp_path / "other"
    other.mkdir()
    facette(other, "init")
    assert facette(other, "token").stdout.strip() != token


def test_serving_does_not_import_torch(service: ServiceProcess) -> None:
    maps = Path(f"/proc/{service.pid}/maps")
    if not maps.exists():
        pytest.skip("the libraries of a process are seen through /proc, which is not here")
    libraries = maps.read_text(encoding="utf-8")
    assert "onnxruntime" in libraries
    assert "/torch/" not in libraries
