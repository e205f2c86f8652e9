"""Another model for the faces of a running service: nothing is lost, mixed or matched wrongly."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx2 as httpx
import pytest
from PIL import Image

from service.runtime.manifest import MANIFEST_NAME
from service.store.embedded.server import running_server
from tests.support.command import facette
from tests.support.databases import connect
from tests.support.live import ConfiguredService, busy, end, insert, postgres_of, wait_until
from tests.support.models import link_models
from tests.support.rotated import add_rotated_models

_QUIET, _LIVELY = "quiet", "lively"
# A photo's two vectors differ by their precisions; by both models it would be 1, and strangers
# begin at 0.6.
_SAME_PHOTO = 0.02
_CROWDS = 8
_FIRST_WAIT_S = 0.5
_LONGER_EACH_TIME = 1.1


@pytest.fixture(scope="module")
def two_models(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default models, and rotated ones; no others that may lie there."""
    models = link_models(models_dir, tmp_path_factory.mktemp("two") / "models")
    add_rotated_models(models, "rotated", 1)
    return models


def models_below(folder: Path, two_models: Path) -> Path:
    models = link_models(two_models, folder / "models")
    link_models(two_models / "rotated", models / "rotated")
    return models


@pytest.fixture
def live(service_folder: Path, two_models: Path) -> Iterator[ConfiguredService]:
    """A service that is to get other models, and may be left in any state."""
    models = models_below(service_folder, two_models)
    service = ConfiguredService(service_folder, models)
    yield service
    end(service)


@pytest.fixture(scope="module")
def crowd(portraits: list[Path]) -> bytes:
    """A photo with a dozen faces of one person."""
    with Image.open(portraits[0]) as file:
        face = file.convert("RGB").crop((120, 0, 350, 300)).resize((108, 140))
    sheet = Image.new("RGB", (4 * face.width, 3 * face.height), "gray")
    for place in range(12):
        sheet.paste(face, (place % 4 * face.width, place // 4 * face.height))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """A `facette reembed` beside the service, as a process of its own; it ends with the block."""

    def __init__(self, service: ConfiguredService, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "reembed", "--model", "rotated", *options],
            cwd=service.folder,
            env={**service.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Its priority is the lowest. Where the kernel groups processes by session, that holds
            # within its own, and the tests of other workers do not starve it.
            start_new_session=True,
            # A shell starts its background jobs with SIGINT ignored, which children inherit.
            preexec_fn=_heed_interrupts,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[str, str]:
        """What it printed, on both streams, up to its end."""
        return self.process.communicate(timeout=240)


def vectors(service: ConfiguredService) -> Counter[str]:
    """How many vectors the service's database has of each space."""

    async def ask() -> Counter[str]:
        address = running_server(service.data_dir)
        assert address is not None
        connection = await connect(address)
        rows = await connection.fetch("SELECT model_space, count(*) FROM face_vector GROUP BY 1")
        await connection.close()
        return Counter({row["model_space"]: row["count"] for row in rows})

    return asyncio.run(ask())


async def hold_up_writing(service: ConfiguredService) -> asyncpg.Connection:
    """Let no vector be written in a database that is about to be started, until it is stopped."""
    while True:
        try:
            if (address := running_server(service.data_dir)) is not None:
                connection = await connect(address)
                break
        except (OSError, asyncpg.CannotConnectNowError):
            pass  # it is only just starting
        await asyncio.sleep(0.01)
    await connection.execute("BEGIN; LOCK TABLE face_vector IN SHARE MODE")
    return connection


async def end_connection(connection: asyncpg.Connection) -> None:
    connection.terminate()


def space_of(models: Path) -> str:
    manifest = json.loads((models / MANIFEST_NAME).read_text(encoding="utf-8"))
    return str(manifest["models"]["embedder"]["embeddings"][0]["space"])


def accepted(client: httpx.Client, photo: bytes, tenant: str) -> list[dict[str, Any]]:
    """The faces of a photo, inserted as soon as the service has loaded the database's model."""
    answers: list[httpx.Response] = []

    def is_accepted() -> bool:
        answers.append(insert(client, photo, tenant))
        return answers[-1].status_code == 200

    wait_until(is_accepted)
    assert {each.json()["error"]["code"] for each in answers[:-1]} <= {"model_replaced"}
    return list(answers[-1].json()["faces"])


def everything(client: httpx.Client, tenant: str, images: list[str]) -> dict[str, Any]:
    """What callers see of a tenant: its reviews, and the faces of images with their clusters."""
    reviews = client.get("/review-pending-list", params={"tenant_id": tenant, "limit": 1000}).json()
    faces = [
        client.get("/faces", params={"tenant_id": tenant, "image_id": image, "limit": 100}).json()
        for image in images
    ]
    sizes = {
        face["cluster_id"]: client.get(
            "/cluster", params={"tenant_id": tenant, "cluster_id": face["cluster_id"]}
        ).json()
        for group in faces
        for face in group
    }
    return {"reviews": reviews, "faces": faces, "sizes": sizes}


@pytest.mark.long
def test_faces_change_over_to_another_model_while_photos_come_in(
    live: ConfiguredService, portraits: list[Path], crowd: bytes
) -> None:
    live.start()
    old, new = space_of(live.folder / "models"), "rotated/1"
    photo, other = portraits[1].read_bytes(), portraits[0].read_bytes()
    with live.client() as client:
        images = [insert(client, other, _QUIET).json()["image_id"]]
        images += [insert(client, crowd, _QUIET).json()["image_id"] for _ in range(_CROWDS)]
        (first,) = insert(client, photo, _LIVELY).json()["faces"]
        before = everything(client, _QUIET, images)
    answers: list[httpx.Response] = []

    def insert_again(client: httpx.Client) -> httpx.Response:
        # The command steps back for photos. Each is later than the one before, so that it catches
        # up with them on any machine.
        time.sleep(_FIRST_WAIT_S * _LONGER_EACH_TIME ** len(answers))
        answers.append(insert(client, photo, _LIVELY))
        return answers[-1]

    with busy(live, insert_again, callers=1):
        with Command(live, "--json") as killed:
            lines = map(json.loads, iter(killed.line, ""))
            progress = next((facts for facts in lines if facts["added"]), None)
            killed.process.kill()
            _, errors = killed.end()
        assert progress is not None, errors
        done = vectors(live)[new]
        assert 0 < progress["added"] <= done < 12 * _CROWDS
        with Command(live) as resumed:
            said, errors = resumed.end()
        assert resumed.process.returncode == 0, errors
        answered = len(answers)
        wait_until(lambda: any(each.status_code == 200 for each in answers[answered + 1 :]))
    embedded = int(said.rpartition(" were embedded")[0].rpartition("; ")[2].replace(",", ""))
    refused = [each for each in answers if each.status_code != 200]
    taken = [face for each in answers if each.status_code == 200 for face in each.json()["faces"]]

    assert all(each.json()["error"]["code"] == "model_replaced" for each in refused)
    assert all(each.headers["Retry-After"] == "5" for each in refused)
    assert {face["cluster_id"] for face in taken} == {first["cluster_id"]}
    assert max(face["distance"] for face in taken) < _SAME_PHOTO
    with live.client() as client:
        assert everything(client, _QUIET, images) == before
        (again,) = accepted(client, other, _QUIET)
        assert again["cluster_id"] == before["faces"][0][0]["cluster_id"]
        assert again["distance"] < _SAME_PHOTO
        recognized = client.post("/v1/embed", content=photo, headers={"Content-Type": "image/png"})
        assert recognized.json()["model"]["space"] == new
    # What the killed command did was not done again, and of the old vectors none is left.
    total = 1 + 12 * _CROWDS + 1 + len(taken) + 1
    assert vectors(live) == Counter({new: total})
    assert old != new
    assert embedded <= total - done

    assert live.stop() == 0
    live.start()
    with live.client() as client:
        (again,) = insert(client, photo, _LIVELY).json()["faces"]
    assert again["cluster_id"] == first["cluster_id"]
    assert again["distance"] < _SAME_PHOTO
    assert live.stop() == 0
    assert "Traceback" not in live.log


@pytest.mark.long
def test_command_without_a_service_can_be_stopped_and_the_service_then_needs_its_model(
    live: ConfiguredService, crowd: bytes
) -> None:
    live.start()
    with live.client() as client:
        assert insert(client, crowd).status_code == 200
    assert live.stop() == 0
    for how in (signal.SIGTERM, signal.SIGINT):
        # With no service beside it, it starts the database itself.
        with Command(live) as command, asyncio.Runner() as runner:
            connection = runner.run(hold_up_writing(live))
            assert command.line().startswith("embedding: 0 of 12 faces")
            command.process.send_signal(how)
            _, errors = command.end()
            runner.run(end_connection(connection))
        assert command.process.returncode == 128 + how
        assert "the same command continues from here" in errors
        assert "Traceback" not in errors
        assert postgres_of(live) == []
    with Command(live) as command:
        said, errors = command.end()
    assert command.process.returncode == 0, errors
    assert "12 were embedded" in said
    shutil.move(live.folder / "models" / "rotated", live.folder / "elsewhere")
    assert live.launch().wait(60) == 2
    line = live.log.strip().splitlines()[-1]
    assert "searched by the model rotated (rotated/1), which is not in" in line
    assert "facette reembed --model NAME" in line
    assert "Traceback" not in live.log


def test_settings_are_reloaded_while_the_database_does_not_say_which_model_is_active(
    live: ConfiguredService,
) -> None:
    live.start()
    for each in postgres_of(live):
        each.kill()
    live.configure("[server]\nmax_wait_ms = 4000\n")
    log = live.hang_up("reloaded")
    assert "the running model is kept" in log
    assert "changed=server.max_wait_ms models=kept" in log


def test_unknown_model_is_refused_with_the_names_that_there_are(
    service_folder: Path, two_models: Path
) -> None:
    models = models_below(service_folder, two_models)
    service = ConfiguredService(service_folder, models)
    done = facette(
        service.folder, "reembed", "--model", "vggface2", environment=service.environment
    )
    assert done.returncode == 2
    assert "there is no model 'vggface2'" in done.stderr
    assert "(available: default, compatible, rotated, rotated-compatible)" in done.stderr
