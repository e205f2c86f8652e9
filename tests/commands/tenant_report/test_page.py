"""A report on known people has their numbers, shows nothing of others, and needs no photos."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector

from service.commands.tenant_report import ReportSettings, run_tenant_report
from service.commands.tenant_report.contents import Contents, read_contents
from service.config import AuthConfig, Config, MatchConfig
from service.config.sections import DatabaseConfig, PathsConfig
from service.domain.errors import ConfigError, NotFoundError
from service.domain.types import ImageId, ModelSpace, TenantId
from service.runtime.manifest import load_manifest
from service.runtime.matching import match_rule
from service.store.blob.folder import FolderBlobStore
from service.store.blob.names import image_key
from service.store.database.database import Database, DatabaseSettings
from tests.support.analysed import near, person
from tests.support.calls import Photos
from tests.support.command import facette
from tests.support.databases import Databases
from tests.support.folders import ROOT

FAMILY, OTHER, EMPTY = TenantId("fam<i>ly & co"), TenantId("other"), TenantId("empty")
LABEL = "<script>alert('Ann')</script> & \"sons\""
SECRET = "of another tenant"
ANN, BEA, CLEO, DORA, HIDDEN, NOBODY, STRANGER = (UUID(int=n) for n in range(1, 8))


async def _fill(database: Database, uploads: Path) -> None:
    facts = load_manifest(ROOT / "models").models["embedder"].embedding
    assert facts is not None
    async with database.maintenance() as owner:
        await owner.execute("INSERT INTO embedding_model VALUES ($1, 'default', true)", facts.space)
        for tenant in (FAMILY, OTHER, EMPTY):
            await owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", tenant)
        for cluster, label, hidden in (
            *((ANN, LABEL, False), (BEA, None, False), (CLEO, None, False), (DORA, "Dora", False)),
            *((HIDDEN, "Hidden one", True), (NOBODY, "Nobody", False)),
        ):
            await owner.execute(
                "INSERT INTO cluster (tenant_id, cluster_id, label, label_key, hidden)"
                " VALUES ($1, $2, $3, lower($3), $4)",
                *(FAMILY, cluster, label, hidden),
            )
        await owner.execute(
            "INSERT INTO cluster (tenant_id, cluster_id, label, label_key) VALUES ($1, $2, $3, $3)",
            *(OTHER, STRANGER, SECRET),
        )
        await _add(owner, facts.space, FAMILY, ANN, [near(person(1), 0.1, n) for n in range(4)])
        bea = near(person(1), 0.2, 7)  # near enough to Ann to be her
        await _add(owner, facts.space, FAMILY, BEA, [near(bea, 0.1, 10 + n) for n in range(3)])
        cleo = [*(near(person(3), 0.1, 20 + n) for n in range(3)), person(4)]
        await _add(owner, facts.space, FAMILY, CLEO, cleo)
        await _add(owner, facts.space, FAMILY, DORA, [person(5)], quality=0.2)
        await _add(owner, facts.space, FAMILY, HIDDEN, [person(6)])
        await _add(owner, facts.space, OTHER, STRANGER, [person(1)])
        await owner.execute(
            "UPDATE image SET taken_at = created_at - interval '6 years' WHERE tenant_id = $1"
            " AND image_id IN (SELECT image_id FROM face WHERE cluster_id = $2)",
            *(FAMILY, ANN),
        )


async def _add(
    owner: asyncpg.Connection,
    space: str,
    tenant: TenantId,
    cluster: UUID,
    vectors: list[np.ndarray],
    quality: float = 0.97,
) -> None:
    """A photo for each face; of Ann and Cleo photos are said to be kept."""
    for n, vector in enumerate(vectors):
        ids = UUID(int=cluster.int * 1000 + n), UUID(int=cluster.int * 1000 + 500 + n)
        kept = cluster in (ANN, CLEO)
        key = image_key(tenant, ImageId(str(ids[1])), "jpg") if kept else None
        await owner.execute(
            "INSERT INTO image (tenant_id, image_id, blob_key, format, width, height, size_bytes,"
            " sha256, phash, created_at)"
            " VALUES ($1, $2, $3, 'jpeg', 200, 200, 9, repeat('a', 64), repeat('0', 16), $4)",
            *(tenant, ids[1], key, datetime(2026, 3, 5, 12, tzinfo=UTC)),
        )
        await owner.execute(
            "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks, area,"
            " confidence, is_auto_matched, quality, quality_facts, is_matchable)"
            " VALUES ($1, $2, $3, $4, '{10,10,60,70}', array_fill(20::real, '{10}'),"
            " '{10,10,50,60}', 0.99, true, $5::real, jsonb_build_object('size', 50, 'sharpness',"
            " 1, 'brightness', 1, 'contrast', 1, 'yaw', 0, 'roll', 0, 'reasons', CASE WHEN"
            " $5::real < 0.4 THEN '[\"low_contrast\"]'::jsonb ELSE '[]' END), $5::real >= 0.4)",
            *(tenant, *ids, cluster, quality),
        )
        await owner.execute(
            "INSERT INTO face_vector (tenant_id, face_id, model_space, embedding, is_matchable)"
            " VALUES ($1, $2, $3, $4, $5)",
            *(tenant, ids[0], space, HalfVector(vector), quality >= 0.4),
        )


@pytest.fixture
async def database(databases: Databases, uploads: Path) -> Database:
    return await databases.filled(_fill, uploads)


@pytest.fixture
def settings(database: Database, uploads: Path, models_dir: Path) -> ReportSettings:
    at: DatabaseSettings = database._settings
    return ReportSettings.of(
        Config(
            auth=AuthConfig(token="a-long-enough-token"),
            database=DatabaseConfig(host=at.host, port=at.port, dbname=at.dbname, user=at.user),
            paths=PathsConfig(upload_dir=uploads, models_dir=models_dir),
            match=MatchConfig(),
        )
    )


async def contents_of(database: Database, tenant: TenantId) -> Contents:
    facts = load_manifest(ROOT / "models").models["embedder"].embedding
    assert facts is not None
    async with database.maintenance() as owner:
        space = ModelSpace(facts.space)
        return await read_contents(owner, tenant, space, match_rule(facts), 0.4)


class Page(HTMLParser):
    """What stands in a page: texts, and elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self._depth = 0
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self._texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._depth += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._depth:
            self._texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


async def page_of(settings: ReportSettings, tenant: TenantId, path: Path) -> Page:
    assert await asyncio.to_thread(run_tenant_report, settings, tenant, path) == 0
    return read(path)


def read(path: Path) -> Page:
    """A page that is whole, private, and needs nothing else."""
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    assert pages_in(path.parent) == [path.name]
    page = Page(text)
    ids = Counter(found["id"] for _, found in page.elements if "id" in found)
    assert [each for each, count in ids.items() if count > 1] == []
    used = set(re.findall(r'(?:href="|url\()#([^")]+)[")]', text))
    assert used <= set(ids)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not re.search(r"""(?:src|href)=["'](?!#|data:image/jpeg;base64,)|url\((?!#)""", text)
    assert all(each.get("alt") for each in page.all("img"))
    assert all("scope" in each for each in page.all("th"))
    assert len(page.all("h1")) == 1
    return page


def pages_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if ".html" in each.name)


async def test_numbers_of_known_people(database: Database) -> None:
    found = await contents_of(database, FAMILY)
    counts = found.counts
    assert (counts.people, counts.labelled, counts.hidden) == (6, 4, 1)
    assert (counts.faces, counts.unmatchable, counts.embedded) == (13, 1, 13)
    assert (counts.images, counts.without_file, counts.dated) == (13, 5, 4)
    assert found.sizes == ((0, 1), (1, 2), (3, 1), (4, 2))
    assert sum(found.quality.matchable) == found.quality.matchable[19] == 12
    assert sum(found.quality.unmatchable) == found.quality.unmatchable[4] == 1
    assert found.quality.reasons == (("low_contrast", 1),)
    assert found.periods.photos == ((date(2020, 3, 5), 4),)
    assert [UUID(each.person_id) for each in found.largest] == [ANN, CLEO, BEA, DORA]
    assert [each.label for each in found.largest] == [LABEL, None, None, "Dora"]
    # Neither the hidden person nor the one whose face is not matchable is compared.
    assert found.pairs.compared == found.distances.people == 3
    (pair,) = [each for each in found.pairs.pairs if each.distance <= found.limit]
    assert {UUID(pair.first), UUID(pair.second)} == {ANN, BEA}
    assert found.pairs.within == 1
    (far,) = found.faces.far
    assert (UUID(far.face_id), UUID(far.person_id)) == (UUID(int=CLEO.int * 1000 + 3), CLEO)
    assert found.faces.checked == 11
    assert (found.distances.same_pairs, found.distances.different_pairs) == (6 + 3 + 6, 3)
    assert found.distances.same_beyond == 3


async def test_page_shows_pictures_and_escapes_what_people_wrote(
    settings: ReportSettings,
    uploads: Path,
    tmp_path: Path,
    photos: Photos,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blobs = FolderBlobStore(uploads)
    for person_id in (ANN, CLEO):
        for n in range(4):
            image = ImageId(str(UUID(int=person_id.int * 1000 + 500 + n)))
            if (person_id, n) != (CLEO, 3):
                await blobs.put(blobs.key(FAMILY, image, "jpg"), photos.hopper)
    page = await page_of(settings, FAMILY, tmp_path / "r.html")
    assert LABEL in page.text
    assert "People 6 4 labelled, 2 not; 1 hidden" in page.text
    assert "1 pair of people is as near as one person" in page.text
    assert "1 of 11 checked faces would not join their own person now" in page.text
    assert (
        "1 picture of this page cannot be made, for want of a photo that is there and whole"
        in page.text
    )
    assert "9 of 13 do not say when" in page.text
    assert SECRET not in page.text
    assert "Hidden one" not in page.text
    assert any(LABEL in str(each["alt"]) for each in page.all("img"))
    assert "the page lacks 1 of its pictures" in capsys.readouterr().err


async def test_report_without_photos_says_so(
    settings: ReportSettings, uploads: Path, tmp_path: Path
) -> None:
    nowhere = replace(settings, blobs=uploads / "not mounted")
    page = await page_of(nowhere, FAMILY, tmp_path / "r.html")
    assert "No photo can be read: paths.upload_dir: there is no folder" in page.text
    assert "2 pictures of this page cannot be made, since the photos were not kept" in page.text
    assert page.all("img") == []
    assert "no picture" in page.text


async def test_tenant_without_a_face_has_a_page_and_another_one_has_none(
    settings: ReportSettings, tmp_path: Path
) -> None:
    page = await page_of(settings, EMPTY, tmp_path / "r.html")
    assert "no faces yet" in page.text
    assert "Distances" not in page.text
    before = (tmp_path / "r.html").read_bytes()
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(
            run_tenant_report, settings, TenantId("nowhere"), tmp_path / "r.html"
        )
    assert (tmp_path / "r.html").read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        await asyncio.to_thread(run_tenant_report, settings, EMPTY, tmp_path / "nowhere" / "r.html")
    assert pages_in(tmp_path) == ["r.html"]


def test_command_that_cannot_run_says_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('[auth]\ntoken = "a-token-for-tests"\n')
    done = facette(tmp_path, "report", "--tenant", "t")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no embedded database" in done.stderr
    monkeypatch.delitem(sys.modules, "service.commands.tenant_report.page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = facette(tmp_path, "report", "--tenant", "t")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{sys.executable} -m pip install 'facette[report]'" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]
