"""The people nearest to a face: the same whichever way they are searched."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest

from bench.common.crowd import SPACE, Crowd, crowd, id_of, load
from service.domain.errors import FaceNotEmbeddedError, ModelReplacedError, NotFoundError
from service.domain.matching import EVIDENCE, ClusterQuery, Cohort, DistanceLimit, MatchRule
from service.domain.search import NearPeople, NearPerson, PeopleQuery
from service.domain.types import ClusterId, Embedding, FaceId, ModelSpace, TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face import people_search
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from tests.support.analysed import near, person
from tests.support.databases import Databases

TENANT = TenantId("tenant")
FACES = 8_000
PROBES = 15
LIMIT = 0.3
WANTED = 10
PATHS = ["exact", "index", "codes"]

# They share a database with an index, which takes longer to build than to search.
pytestmark = pytest.mark.xdist_group("people search")


@cache
def people() -> Crowd:
    """Some 1,000 people, some in two clusters, and some who share one."""
    found = crowd(FACES, seed=3)
    split = np.random.default_rng(5).random(FACES) < 0.2
    names = found.person_of.max() + 1
    return replace(
        found, person_of=np.where(split, (found.person_of // 2) % names, found.person_of)
    )


@cache
def rule() -> MatchRule:
    centres = people().persons[:16]
    centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return MatchRule(DistanceLimit(LIMIT), Cohort(centres, 0.1, 0.05, 1.1))


def cluster_of(number: int) -> ClusterId:
    return ClusterId(str(id_of(number)))


@cache
def summed() -> tuple[np.ndarray, ...]:
    """The people, the place of each face's person among them, sums, counts, directions of faces."""
    faces = people().faces.astype(np.float64)
    known, at = np.unique(people().person_of, return_inverse=True)
    order = np.argsort(at, kind="stable")
    sums = np.add.reduceat(faces[order], np.searchsorted(at[order], np.arange(len(known))))
    directions = faces / np.linalg.norm(faces, axis=1, keepdims=True)
    return known, at, sums, np.bincount(at), directions


def by_hand(
    probe: Embedding, only: Iterable[int] | None = None, without: int | None = None
) -> list[tuple[int, float, float, int]]:
    """Number, distance, distance of the nearest face, and number of faces of all, nearest first."""
    stored = np.asarray(probe, np.float16).astype(np.float64)
    known, at, sums, counts, directions = summed()
    cosines = directions @ stored / np.linalg.norm(stored)
    if without is not None:
        sums, counts = sums.copy(), counts.copy()
        sums[at[without]] -= people().faces[without]
        counts[at[without]] -= 1
        cosines[without] = -1
    squares = np.maximum((sums * sums).sum(axis=1), 1e-12)
    plain = 1 - (sums @ stored) * np.sqrt((1 + EVIDENCE) / (squares + EVIDENCE * counts))
    cohort = rule().cohort
    assert cohort is not None
    dense = cohort.density(np.vstack([stored, sums / np.sqrt(squares)[:, None]]))
    distances = plain + 1.1 * (dense[0] + dense[1:]) / 2
    nearest = np.full(len(known), -1.0)
    np.maximum.at(nearest, at, cosines)
    barred = (counts == 0) | (False if only is None else ~np.isin(known, list(only)))
    return [
        (int(known[n]), float(distances[n]), float(1 - nearest[n]), int(counts[n]))
        for n in np.argsort(distances)
        if not barred[n]
    ]


@dataclass
class Stored:
    """The people in a database, and the way to them."""

    database: Database
    owner: asyncpg.Connection
    path: str = "exact"
    paths: Counter[str] = field(default_factory=Counter)
    codes: CodeCache | None = None

    @property
    def repository(self) -> Repository:
        return Repository(
            self.database,
            SearchSettings(ef_search=200),
            codes=self.codes,
            on_search=lambda path: self.paths.update([path]),
        )

    async def hold_codes(self) -> None:
        """Hold the codes of the faces as they are now, if the tenant is searched by codes."""
        if self.path == "codes":
            self.codes = CodeCache(self.database)
            await self.codes.refresh(TENANT, SPACE)

    async def near(self, *probes: Embedding, **asked: object) -> NearPeople:
        """The people near to some faces, searched as by a photo: ahead of the transaction."""
        query = PeopleQuery(ClusterQuery(probes, SPACE, rule()), WANTED)
        query = replace(query, **asked)  # type: ignore[arg-type]
        async with self.repository.searching(TENANT, SPACE, query) as tenant:
            return await tenant.near_people(query)

    async def label(self, numbers: Iterable[int]) -> None:
        await self.owner.execute(
            "UPDATE cluster SET label = 'a name', label_key = 'a name'"
            " WHERE tenant_id = $1 AND cluster_id = ANY($2)",
            TENANT,
            [id_of(number) for number in numbers],
        )


async def _fill(database: Database, _: Path) -> None:
    async with database.maintenance() as owner:
        await load(owner, TENANT, people())
        await owner.execute("ANALYZE")


async def _index(database: Database, _: Path) -> None:
    await Indexer(database, IndexSettings(100, 100, 16, 64, 64, 0, 3600.0)).round()


@pytest.fixture
async def stored(databases: Databases, uploads: Path) -> AsyncIterator[Stored]:
    """The people without an index or codes."""
    database = await databases.filled(_fill, uploads)
    async with database.maintenance() as owner:
        yield Stored(database, owner)


@pytest.fixture(params=PATHS)
async def reached(
    databases: Databases, uploads: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Stored]:
    """The people, who are searched in each of the ways once the codes are held."""
    if request.param == "exact":
        database = await databases.filled(_fill, uploads)
    else:
        database = await databases.filled(_index, uploads, onto=_fill)
    async with database.maintenance() as owner:
        yield Stored(database, owner, request.param)


def check(found: Sequence[NearPerson], wanted: list[tuple[int, float, float, int]]) -> float:
    """Compare an answer with the brute-force one; returns the share of people that it has."""
    facts = {cluster_of(number): facts for number, *facts in wanted}
    excess = [0.0]
    assert [each.distance for each in found] == sorted(each.distance for each in found)
    for each in found:
        distance, nearest, count = facts[each.cluster_id]
        assert each.distance == pytest.approx(distance, abs=1e-5)
        assert each.nearest >= nearest - 1e-3
        excess.append(each.nearest - nearest)
        assert each.faces == count
    # Among many people codes choose the face that is compared: it looks much like the nearest one.
    assert max(excess) < 0.15
    assert np.mean(excess) < 0.02
    best = {cluster_of(number) for number, *_ in wanted[:WANTED]}
    assert len(found) == len(best)
    return len(best & {each.cluster_id for each in found}) / max(1, len(best))


async def test_every_way_of_searching_finds_the_nearest_people(reached: Stored) -> None:
    await reached.hold_codes()
    probes = [
        *people().more_faces(PROBES, np.random.default_rng(1)),
        *crowd(PROBES, seed=9).faces,  # of nobody here
    ]
    recall = []
    for start in range(0, len(probes), 5):  # as photos of five faces
        some = probes[start : start + 5]
        near_people = await reached.near(*some)
        assert near_people.max_distances == (LIMIT,) * len(some)
        for probe, found in zip(some, near_people.of_faces, strict=True):
            wanted = by_hand(probe)
            recall.append(check(found, wanted))
            assert found[0].cluster_id == cluster_of(wanted[0][0])
    assert set(reached.paths) == {reached.path}
    assert np.mean(recall) >= 0.98


async def test_given_people_are_all_compared(reached: Stored) -> None:
    await reached.hold_codes()
    rng = np.random.default_rng(2)
    for probe in people().more_faces(5, rng):
        some = rng.choice(np.unique(people().person_of), 300, replace=False)
        strangers = (ClusterId(str(uuid4())), ClusterId("no id"), ClusterId(""))
        among = (*strangers, *(cluster_of(int(each)) for each in some), cluster_of(int(some[0])))
        ((*found,),) = (await reached.near(probe, among=among)).of_faces
        assert check(found, by_hand(probe, some)) == 1


async def test_among_nobody_there_is_nobody(stored: Stored) -> None:
    assert (await stored.near(people().faces[0], among=())).of_faces == ((),)


@pytest.mark.parametrize("labelled", [0, 4, 600])
async def test_people_with_a_label_are_found_among_many_or_few(
    reached: Stored, labelled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people_search, "MAX_AMONG", 500)
    await reached.hold_codes()
    rng = np.random.default_rng(labelled)
    some = rng.choice(np.unique(people().person_of), labelled, replace=False)
    await reached.label(some.tolist())
    recall = []
    for probe in people().more_faces(10, rng):
        ((*found,),) = (await reached.near(probe, only_labelled=True)).of_faces
        recall.append(check(found, by_hand(probe, some)))
    assert np.mean(recall) >= 0.98 or labelled == 0


async def test_who_is_hard_to_find_among_nearer_people_is_found_by_label(
    reached: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More people have a label than are all compared, and all of them are far away."""
    monkeypatch.setattr(people_search, "MAX_AMONG", 100)
    await reached.hold_codes()
    probe = people().faces[0]
    far = [number for number, *_ in by_hand(probe)[-300:]]
    await reached.label(far)
    ((*found,),) = (await reached.near(probe, only_labelled=True)).of_faces
    assert check(found, by_hand(probe, far)) >= 0.9


async def test_given_people_without_a_label_are_left_out(stored: Stored) -> None:
    some = np.unique(people().person_of)[:20]
    await stored.label(some[:5].tolist())
    among = tuple(cluster_of(int(each)) for each in some)
    ((*found,),) = (await stored.near(people().faces[0], among=among, only_labelled=True)).of_faces
    assert {each.cluster_id for each in found} == set(among[:5])


async def test_a_stored_face_is_no_neighbour_of_itself(reached: Stored) -> None:
    await reached.hold_codes()
    recall = []
    for number in range(10):
        searching = reached.repository.searching_by_face(TENANT, SPACE, FaceId(str(id_of(number))))
        async with searching as (tenant, face, embedding):
            assert embedding == pytest.approx(people().faces[number])
            query = PeopleQuery(ClusterQuery((embedding,), SPACE, rule()), WANTED, without=face)
            ((*found,),) = (await tenant.near_people(query)).of_faces
        assert face.face_id not in {each.nearest_face for each in found}
        recall.append(check(found, by_hand(people().faces[number], without=number)))
    assert np.mean(recall) >= 0.98


async def test_a_tenant_with_a_huge_person_still_shows_the_others(reached: Stored) -> None:
    """Half of all faces are one person's, so that the nearest faces are of nobody else."""
    whole = np.unique(people().person_of)
    joined = whole[: len(whole) // 2]
    await reached.owner.execute(
        "UPDATE face SET cluster_id = $3 WHERE tenant_id = $1 AND cluster_id = ANY($2)",
        TENANT,
        [id_of(int(number)) for number in joined[1:]],
        id_of(int(joined[0])),
    )
    await reached.hold_codes()
    ((*found,),) = (await reached.near(people().faces[0])).of_faces
    assert len({each.cluster_id for each in found}) == WANTED


async def test_what_people_put_together_is_as_near_as_its_nearest_face(reached: Stored) -> None:
    """The sum of faces that look different is like none of them."""
    put = int(people().person_of[0])
    probe = people().faces[0]
    far = np.argsort(people().faces @ probe)[:40].tolist()
    await reached.owner.execute(
        "UPDATE face SET cluster_id = $3, is_auto_matched = false"
        " WHERE tenant_id = $1 AND face_id = ANY($2)",
        TENANT,
        [id_of(number) for number in far],
        id_of(put),
    )
    await reached.hold_codes()
    ((before, *_),) = (await reached.near(probe)).of_faces
    assert before.cluster_id != cluster_of(put) or before.distance > LIMIT
    await reached.owner.execute(
        "UPDATE face SET is_auto_matched = false WHERE tenant_id = $1 AND face_id = $2",
        TENANT,
        id_of(0),
    )
    query = ClusterQuery((probe,), SPACE, rule())
    async with reached.repository.inserting(TENANT, query) as (_, candidates):
        (joined,) = candidates.of_faces
    ((first, *_),) = (await reached.near(probe)).of_faces
    assert first.cluster_id == joined[0].cluster_id == cluster_of(put)
    assert first.distance == pytest.approx(joined[0].distance, abs=1e-5)
    assert first.nearest_face == FaceId(str(id_of(0)))


async def test_people_of_small_tenants_are_all_compared(database: Database) -> None:
    """Also where there are fewer than wanted, and where no face of a person counts."""
    async with database.maintenance() as owner:
        await load(owner, TENANT, crowd(40, seed=1))
        hidden = int(crowd(40, seed=1).person_of[0])
        await owner.execute(
            "UPDATE face SET is_matchable = false WHERE tenant_id = $1 AND cluster_id = $2",
            TENANT,
            id_of(hidden),
        )
        found = await Stored(database, owner).near(crowd(40, seed=1).faces[0])
    known = set(crowd(40, seed=1).person_of.tolist()) - {hidden}
    assert {each.cluster_id for each in found.of_faces[0]} == {cluster_of(n) for n in known}


async def test_a_search_without_faces_is_answered(stored: Stored) -> None:
    assert await stored.near() == NearPeople((), ())


async def test_the_distances_are_those_of_an_insert(stored: Stored) -> None:
    for probe in people().more_faces(10, np.random.default_rng(4)):
        query = ClusterQuery((probe,), SPACE, rule())
        async with stored.repository.inserting(TENANT, query) as (_, candidates):
            (joined,) = candidates.of_faces
        ((*found,),) = (await stored.near(probe)).of_faces
        by_insert = {each.cluster_id: each.distance for each in joined}
        for each in found:
            if each.cluster_id in by_insert:
                assert each.distance == pytest.approx(by_insert[each.cluster_id], abs=1e-6)
        if joined and joined[0].distance <= LIMIT:
            assert found[0].cluster_id == joined[0].cluster_id


async def test_a_search_waits_for_no_writer_and_changes_nothing(stored: Stored) -> None:
    async with stored.repository.writing(TENANT):
        async with asyncio.timeout(30):
            assert (await stored.near(people().faces[0])).of_faces[0]
    async with stored.repository.searching(TENANT, SPACE) as tenant:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await tenant._connection.execute(SQL["lock_known_tenant"], TENANT)


async def test_a_tenant_that_is_not_there_is_not_found(stored: Stored) -> None:
    with pytest.raises(NotFoundError, match="tenant"):
        async with stored.repository.searching(TenantId("another"), SPACE):
            pass


async def test_vectors_of_a_model_that_is_not_active_are_not_searched(stored: Stored) -> None:
    await stored.owner.execute(
        "INSERT INTO embedding_model (model_space, name, is_active) VALUES ('other/1', 'o', true)"
    )
    refused: list[None] = []
    repository = Repository(
        stored.database, SearchSettings(), on_replaced=lambda: refused.append(None)
    )
    with pytest.raises(ModelReplacedError):
        async with repository.searching(TENANT, SPACE):
            pass
    assert refused == [None]
    face, space = FaceId(str(id_of(0))), ModelSpace("other/1")
    with pytest.raises(FaceNotEmbeddedError):
        async with repository.searching_by_face(TENANT, space, face):
            pass


@pytest.mark.parametrize("face_id", [str(id_of(FACES + 1)), "no id", str(id_of(0)).upper() + " "])
async def test_a_face_that_is_not_there_is_not_found(stored: Stored, face_id: str) -> None:
    with pytest.raises(NotFoundError, match="face"):
        async with stored.repository.searching_by_face(TENANT, SPACE, FaceId(face_id)):
            pass


@pytest.mark.parametrize("reached", ["codes"], indirect=True)
async def test_a_person_who_is_gone_is_passed_over_before_the_codes_are(reached: Stored) -> None:
    """As between a probe and its transaction: nobody tells the codes of this test."""
    await reached.hold_codes()
    probe = people().faces[5]
    ((nearest, *others),) = (await reached.near(probe)).of_faces
    await reached.owner.execute(
        "WITH gone AS (DELETE FROM face WHERE tenant_id = $1 AND cluster_id = $2)"
        " DELETE FROM cluster WHERE tenant_id = $1 AND cluster_id = $2",
        TENANT,
        UUID(nearest.cluster_id),
    )
    ((*found,),) = (await reached.near(probe)).of_faces
    assert [each.cluster_id for each in found[: len(others)]] == [
        each.cluster_id for each in others
    ]
    assert len(found) == WANTED


@pytest.mark.parametrize("reached", ["codes"], indirect=True)
async def test_a_new_face_is_found_before_its_code_is_held(reached: Stored) -> None:
    await reached.hold_codes()
    look = person(77)
    async with reached.owner.transaction():
        await reached.owner.execute(
            "INSERT INTO cluster (tenant_id, cluster_id) VALUES ($1, $2)", TENANT, id_of(FACES)
        )
        await reached.owner.execute(
            "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks, area,"
            " confidence, is_auto_matched) SELECT tenant_id, $2, image_id, $2, box, landmarks,"
            " area, confidence, false FROM face WHERE tenant_id = $1 AND face_id = $3",
            TENANT,
            id_of(FACES),
            id_of(0),
        )
        await reached.owner.execute(
            "INSERT INTO face_vector (tenant_id, face_id, model_space, embedding)"
            " VALUES ($1, $2, $3, $4)",
            TENANT,
            id_of(FACES),
            SPACE,
            look,
        )
    ((first, *_),) = (await reached.near(near(look, 0.1, 1))).of_faces
    assert first.cluster_id == cluster_of(FACES)
    assert set(reached.paths) == {"codes"}
