"""The commands that take a tenant out of one installation and into annew, as an operator does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from service.store.embedded.server import embedded_server
from tests.support import command
from tests.support.folders import open_folder
from tests.support.live import ConfiguredService, end, insert
from tests.support.service import ServiceProcess, lay_database

TENANT = "people of 2024"


def facette(service: ServiceProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command.facette(service.folder, *arguments, environment=service.environment)


@pytest.fixture
def new(models_dir: Path) -> Iterator[ConfiguredService]:
    """An installation that has never been started."""
    with open_folder() as folder:
        installed = ConfiguredService(folder, models_dir)
        yield installed
        if installed._process is not None:
            end(installed)


def known(client: httpx.Client, photo: bytes, tenant: str) -> dict[str, object]:
    """What the service makes of a photo; it must be of somebody it knows."""
    (face,) = insert(client, photo, tenant).json()["faces"]
    assert face["is_auto_matched"]
    return dict(face)


def test_people_are_known_where_their_tenant_was_imported(
    service: ServiceProcess,
    new: ConfiguredService,
    tenant: str,
    portraits: list[Path],
    tmp_path: Path,
) -> None:
    photo = portraits[1].read_bytes()
    with_photos, rows_alone = (str(tmp_path / name) for name in ("a.tar", "b.tar.gz"))
    with service.client() as client:
        first = insert(client, photo, tenant).json()
        (cluster_id,) = first["face_ids"].values()
        done = facette(service, "export-tenant", tenant, with_photos, "--images")  # while it runs
        assert (done.returncode, done.stderr) == (0, "")
        assert "1 images, 1 photos" in done.stdout

    # Into an installation that has never been started, out of it, and into it while it runs.
    done = facette(new, "import-tenant", with_photos, "--as", TENANT)
    assert (done.returncode, done.stderr) == (0, "")
    done = facette(new, "export-tenant", TENANT, rows_alone)
    assert done.returncode == 0, done.stderr
    new.start()
    done = facette(new, "import-tenant", rows_alone, "--as", "again")
    assert (done.returncode, done.stderr) == (0, "")
    with new.client() as client:
        for tenant in (TENANT, "again"):
            assert known(client, photo, tenant)["cluster_id"] == cluster_id
        (file,) = new.data_dir.glob(f"uploads/*/{first['image_id']}.jpg")
        assert file.read_bytes() == photo
        gone = client.delete("/tenant", params={"tenant_id": TENANT}).json()["deleted"]
        assert (gone["images"], gone["files"]) == (2, 2)
        again = client.delete("/tenant", params={"tenant_id": "again"}).json()["deleted"]
        assert (again["images"], again["files"]) == (2, 1)
    done = facette(new, "doctor")
    assert done.returncode == 0, done.stdout
    assert new.stop() == 0


def test_what_cannot_be_done_is_said_in_one_line_with_status_2(
    new: ConfiguredService, tmp_path: Path
) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"no archive")

    def refused(*arguments: str) -> str:
        done = facette(new, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "no embedded database" in refused("export-tenant", "t", str(tmp_path / "b.tar"))
    assert "no file" in refused("import-tenant", str(tmp_path / "nowhere.tar"))
    assert not (new.data_dir / "postgres").exists()
    lay_database(new.data_dir)
    with embedded_server(new.data_dir):
        assert "damaged, cut off, or no archive" in refused("import-tenant", str(archive))
        assert "There is no such tenant" in refused("export-tenant", "t", str(tmp_path / "b.tar"))
        nowhere = tmp_path / "missing" / "b.tar"
        assert "cannot be written" in refused("export-tenant", "t", str(nowhere))
    assert [each.name for each in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("name", ["", "a\nb", "a\x9bb", "cafe\u0301", "caf\udce9", "x" * 129])
def test_id_that_the_api_would_not_take_is_refused(new: ConfiguredService, name: str) -> None:
    for arguments in (("export-tenant", name, "a.tar"), ("import-tenant", "a.tar", "--as", name)):
        done = facette(new, *arguments)
        assert done.returncode == 2
        assert "1 to 128 characters" in done.stderr
