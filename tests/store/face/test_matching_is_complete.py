"""What matching looks up shows every cluster that a face may join, whichever way it searches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.common.crowd import SPACE, Crowd, crowd, id_of, load
from service.domain.matching import (
    EVIDENCE,
    ClusterQuery,
    Cohort,
    DistanceLimit,
    MatchRule,
    reach_of,
)
from service.domain.types import ClusterId, Embedding, TenantId
from service.store.database.database import Database
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from tests.support.databases import Databases

TENANT = TenantId("tenant")
FACES = 3_000
PROBES = 75
# A limit at which many a face has several clusters to choose from.
LIMIT = 0.42


# They share a database with an index.
pytestmark = pytest.mark.xdist_group("matching is complete")


@cache
def people() -> Crowd:
    """Some people are in two clusters, and two share one, as they may be in life."""
    found = crowd(FACES, seed=3)
    split = np.random.default_rng(5).random(FACES) < 0.2
    names = found.person_of.max() + 1
    return replace(
        found, person_of=np.where(split, (found.person_of // 2) % names, found.person_of)
    )


@cache
def faces() -> tuple[np.ndarray, np.ndarray]:
    """All faces, and their directions, in double precision."""
    found = people().faces.astype(np.float64)
    return found, found / np.linalg.norm(found, axis=1, keepdims=True)


@cache
def rule() -> MatchRule:
    centres = people().persons[:16]
    centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return MatchRule(DistanceLimit(LIMIT), Cohort(centres, 0.1, 0.05, 1.1))


def by_hand(probe: Embedding) -> dict[ClusterId, tuple[float, float, int]]:
    """Distance, nearest face and number of faces of each cluster in reach, by all faces of all."""
    cohort = rule().cohort
    assert cohort is not None
    vectors, directions = faces()
    cluster_of = people().person_of
    stored = np.asarray(probe, np.float16).astype(np.float64)
    near = 1 - directions @ stored / np.linalg.norm(stored)
    order = np.argsort(near)
    within = order[: int(np.searchsorted(near[order], reach_of(LIMIT), side="right"))]
    # The 32 nearest faces, or 256 where these are of several clusters.
    for count in (32, 256):
        clusters = set(cluster_of[within[:count]].tolist())
        if len(clusters) <= 1:
            break
    found = {}
    for cluster in clusters:
        members = vectors[cluster_of == cluster]
        total = members.sum(axis=0)
        length, count = float(total @ total), len(members)
        plain = 1 - float(total @ stored) * ((1 + EVIDENCE) / (length + EVIDENCE * count)) ** 0.5
        dense = [float(cohort.density(v[None])[0]) for v in (stored, total / length**0.5)]
        found[ClusterId(str(id_of(cluster)))] = (
            plain + 1.1 * sum(dense) / 2,
            float(near[cluster_of == cluster].min()),
            count,
        )
    return found


async def _fill(database: Database, _: Path) -> None:
    async with database.maintenance() as owner:
        await load(owner, TENANT, people())


async def _index(database: Database, _: Path) -> None:
    await Indexer(database, IndexSettings(100, 100, 16, 64, 64, 0, 3600.0)).round([TENANT])


@pytest.mark.parametrize("path", ["exact", "index", "codes"])
async def test_every_way_of_searching_finds_the_clusters_that_may_be_joined(
    databases: Databases, uploads: Path, path: str
) -> None:
    if path == "exact":
        database = await databases.filled(_fill, uploads)
    else:
        database = await databases.filled(_index, uploads, onto=_fill)
    codes = CodeCache(database)
    if path == "codes":
        await codes.refresh(TENANT, SPACE)
    paths: Counter[str] = Counter()
    repository = Repository(
        database,
        SearchSettings(ef_search=200),
        codes=codes if path == "codes" else None,
        on_search=lambda used: paths.update([used]),
    )
    several = joins = whole = 0
    for probe in people().more_faces(PROBES, np.random.default_rng(6)):
        query = ClusterQuery((probe,), SPACE, rule())
        async with repository.inserting(TENANT, query) as (_, candidates):
            (found,) = candidates.of_faces
        wanted = by_hand(probe)
        whole += {each.cluster_id for each in found} == wanted.keys()
        assert {each.cluster_id for each in found} <= wanted.keys()
        nearest_by_hand = min(wanted, key=lambda cluster: wanted[cluster][0], default=None)
        assert [each.cluster_id for each in found[:1]] == [nearest_by_hand][: len(wanted)]
        for each in found:
            distance, nearest, count = wanted[each.cluster_id]
            assert each.distance == pytest.approx(distance, abs=1e-5)
            assert each.nearest >= nearest - 1e-3
            assert path == "codes" or each.nearest == pytest.approx(nearest, abs=1e-3)
            assert each.faces == count
        assert list(found) == sorted(found, key=lambda each: each.distance)
        several += len(found) > 1
        joins += bool(found) and found[0].distance <= candidates.max_distances[0]
    assert set(paths) == {path}
    # Codes lead to the nearest faces, and may leave out one of dozens at the edge of the reach.
    assert whole >= (PROBES if path != "codes" else 0.95 * PROBES)
    assert several > PROBES // 5
    assert joins > PROBES // 2


async def test_a_cluster_none_of_whose_faces_count_is_never_joined(
    database: Database,
) -> None:
    some = crowd(40, seed=1)
    probe, person = some.faces[0], int(some.person_of[0])
    async with database.maintenance() as owner:
        await load(owner, TENANT, some)
        await owner.execute(
            "UPDATE face SET is_matchable = false WHERE tenant_id = $1 AND cluster_id = $2",
            TENANT,
            id_of(person),
        )
    repository = Repository(database, SearchSettings(ef_search=200))
    query = ClusterQuery((probe,), SPACE, MatchRule(DistanceLimit(0.5)))
    async with repository.inserting(TENANT, query) as (_, candidates):
        found = {each.cluster_id for each in candidates.of_faces[0]}
    assert ClusterId(str(id_of(person))) not in found
