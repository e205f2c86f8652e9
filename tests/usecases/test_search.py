"""Search by photo and by stored face: who is found, how sure that is, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.errors import (
    FaceNotEmbeddedError,
    ModelReplacedError,
    NoFaceInBoxError,
    NotFoundError,
)
from service.domain.matching import DistanceLimit, FalseMatchCurve, MatchRule
from service.domain.search import SearchedPhoto, SearchOptions
from service.domain.types import Box, Embedding, FaceId, IngestedPhoto, ModelSpace, TenantId
from service.store.database.database import Database
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto
from service.usecases.search import SearchPeople, face_in_box
from tests.support.analysed import GOOD, MadeUpAnalyzer, near, person, photo

TENANT = TenantId("tenant")
SPACE = ModelSpace("made-up/1")
RULE = MatchRule(
    DistanceLimit(0.5, FalseMatchCurve((0.2, 0.6), (1e-6, 1e-2)), max_fmr=1e-3)
)  # 0.5 for a good face


class House:
    """One tenant, photos of made-up people in it, and searches for them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.analyzer = MadeUpAnalyzer()
        self.repository = Repository(database, SearchSettings(200))
        self.ingest = IngestPhoto(
            self.analyzer,
            self.repository,
            None,
            space=SPACE,
            rule=RULE,
            min_quality=0.4,
            on_face=lambda matched: None,
        )
        self.search = SearchPeople(
            self.analyzer, self.repository, space=SPACE, rule=RULE, min_quality=0.4
        )

    async def insert(self, *faces: Embedding, score: float = 1.0) -> IngestedPhoto:
        return await self.ingest(
            TENANT, source(self._photo(*faces, score=score)), StageClock(), free_ticket()
        )

    async def by_photo(
        self,
        *faces: Embedding,
        box: Box | None = None,
        tenant: TenantId = TENANT,
        score: float = 1.0,
        **options: object,
    ) -> SearchedPhoto:
        clock = StageClock()
        found = await self.search.by_photo(
            tenant,
            source(self._photo(*faces, score=score)),
            clock,
            free_ticket(),
            box=box,
            options=SearchOptions(**options),  # type: ignore[arg-type]
        )
        assert "search" in clock.seconds
        return found

    def _photo(self, *faces: Embedding, score: float) -> bytes:
        data = self.analyzer.add(*faces)
        analysed = self.analyzer.photos[data]
        quality = replace(GOOD, score=score)
        self.analyzer.photos[data] = replace(
            analysed, faces=tuple(replace(face, quality=quality) for face in analysed.faces)
        )
        return data

    async def rows(self) -> list[int]:
        """How many rows there are, and how many changes were counted."""
        async with self.database.maintenance() as owner:
            return [
                await owner.fetchval(statement)
                for statement in (
                    "SELECT count(*) FROM image",
                    "SELECT count(*) FROM face",
                    "SELECT count(*) FROM cluster",
                    "SELECT sum(changes) FROM tenant",
                )
            ]


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


async def test_a_photo_shows_who_an_insert_would_find(house: House) -> None:
    anna, berta = person(1), person(2)
    stored = await house.insert(anna, berta)
    before = await house.rows()
    probes = near(berta, 0.2, 901), near(anna, 0.3, 902), person(3)
    found = await house.by_photo(*probes)
    assert await house.rows() == before
    assert (found.width, found.height, found.turned) == (640, 480, 0)
    assert [face.face.quality for face in found.faces] == [GOOD] * 3
    firsts = [face.matches[0] for face in found.faces]
    assert [first.person_id for first in firsts[:2]] == [
        stored.faces[1].cluster_id,
        stored.faces[0].cluster_id,
    ]
    assert [first.nearest_face_id for first in firsts[:2]] == [
        stored.faces[1].face_id,
        stored.faces[0].face_id,
    ]
    assert [first.is_match for first in firsts] == [True, True, False]
    assert firsts[0].distance == pytest.approx(0.2, abs=1e-3)
    assert firsts[0].nearest_distance == pytest.approx(0.2, abs=1e-3)
    assert firsts[0].faces == 1
    inserted = await house.insert(*probes)
    assert [face.is_auto_matched for face in inserted.faces] == [True, True, False]
    assert inserted.faces[0].distance == pytest.approx(firsts[0].distance, abs=1e-6)


async def test_similarity_and_margin_say_how_sure_it_is(house: House) -> None:
    await house.insert(person(1), person(2), person(3))
    (face,) = (await house.by_photo(near(person(2), 0.4, 901))).faces
    first, second, third = face.matches
    assert face.max_distance == pytest.approx(0.5)
    assert first.similarity == RULE.limit.similarity(first.distance, face.max_distance)
    assert first.similarity > 0.5 > second.similarity >= third.similarity
    assert first.margin == second.distance - first.distance
    assert second.margin == third.distance - second.distance
    assert third.margin is None


async def test_the_next_person_counts_for_the_margin_though_it_is_not_shown(house: House) -> None:
    await house.insert(person(1), person(2), person(3))
    probe = near(person(2), 0.4, 901)
    ((*all_of_them,),) = [face.matches for face in (await house.by_photo(probe)).faces]
    for options in ({"limit": 1}, {"max_distance": 0.5}):
        (face,) = (await house.by_photo(probe, **options)).faces
        assert list(face.matches) == all_of_them[:1]


async def test_nobody_is_within_a_distance_that_is_too_small(house: House) -> None:
    await house.insert(person(1))
    (face,) = (await house.by_photo(near(person(1), 0.3, 901), max_distance=0.1)).faces
    assert face.matches == ()


async def test_a_face_of_low_quality_needs_to_be_nearer(house: House) -> None:
    await house.insert(person(1))
    probe = near(person(1), 0.45, 901)
    for score, is_match in ((1.0, True), (0.4, False)):
        (face,) = (await house.by_photo(probe, score=score)).faces
        (match,) = face.matches
        assert match.is_match is is_match
        assert (match.similarity >= 0.5) is is_match
    assert face.max_distance == pytest.approx(0.37, abs=0.005)


async def test_a_box_says_which_face_is_meant(house: House) -> None:
    stored = await house.insert(person(1), person(2), person(3))
    found = await house.by_photo(
        person(1),
        person(2),
        person(3),
        box=Box(58, 18, 112, 80),  # the second, roughly
    )
    (face,) = found.faces
    assert face.matches[0].person_id == stored.faces[1].cluster_id
    assert face.face.detection.box == Box(60, 20, 100, 70)


async def test_a_box_beside_all_faces_is_refused(house: House) -> None:
    await house.insert(person(1))
    with pytest.raises(NoFaceInBoxError) as refused:
        await house.by_photo(person(1), person(2), box=Box(300, 300, 400, 400))
    assert refused.value.parameter == "box"
    assert refused.value.faces == 2


@pytest.mark.parametrize(
    ("box", "number"),
    [
        (Box(0, 0, 640, 480), 0),  # of equal ones the first, which is the largest
        (Box(20, 30, 21, 31), 0),  # a point in a face
        (Box(115, 20, 145, 60), 2),  # the middle of the third
        (Box(45, 10, 105, 90), 1),  # the second, and a little of the first
        (Box(10, 20, 10, 70), None),  # an edge
    ],
)
def test_the_face_that_overlaps_most_is_in_a_box(box: Box, number: int | None) -> None:
    faces = photo(person(1), person(2), person(3)).faces
    if number is None:
        assert face_in_box(faces, box) is faces[0]
    else:
        assert face_in_box(faces, box) is faces[number]


async def test_a_photo_without_faces_shows_nobody(house: House) -> None:
    await house.insert(person(1))
    assert (await house.by_photo()).faces == ()
    with pytest.raises(NoFaceInBoxError):
        await house.by_photo(box=Box(0, 0, 640, 480))


async def test_a_stored_face_shows_its_person_by_the_other_faces(house: House) -> None:
    first = (await house.insert(person(1))).faces[0]
    second = (await house.insert(near(person(1), 0.2, 901))).faces[0]
    other = (await house.insert(person(2))).faces[0]
    assert second.cluster_id == first.cluster_id
    before = await house.rows()
    found = await house.search.by_face(TENANT, first.face_id, options=SearchOptions())
    assert await house.rows() == before
    assert found.face.face_id == first.face_id
    assert [each.person_id for each in found.matches] == [first.cluster_id, other.cluster_id]
    assert found.matches[0].nearest_face_id == second.face_id
    assert found.matches[0].distance == pytest.approx(0.2, abs=1e-3)
    assert found.matches[0].faces == 1
    assert found.matches[0].is_match
    assert found.matches[0].margin == found.matches[1].distance - found.matches[0].distance


async def test_a_person_of_that_face_alone_is_no_answer(house: House) -> None:
    alone = (await house.insert(person(1))).faces[0]
    found = await house.search.by_face(TENANT, alone.face_id, options=SearchOptions())
    assert found.matches == ()


async def test_a_stored_face_of_low_quality_is_searched_by_but_nobody_is_found_by_it(
    house: House,
) -> None:
    good = (await house.insert(person(1))).faces[0]
    bad = (await house.insert(near(person(1), 0.3, 901), score=0.1)).faces[0]
    assert not bad.is_matchable
    found = await house.search.by_face(TENANT, bad.face_id, options=SearchOptions())
    assert [each.nearest_face_id for each in found.matches] == [good.face_id]
    assert found.max_distance == pytest.approx(0.37, abs=0.005)
    found = await house.search.by_face(TENANT, good.face_id, options=SearchOptions())
    assert found.matches == ()


async def test_a_tenant_or_a_face_that_is_not_there_is_not_found(house: House) -> None:
    face = (await house.insert(person(1))).faces[0]
    options = SearchOptions()
    other = TenantId("another")
    with pytest.raises(NotFoundError, match="tenant"):
        await house.by_photo(person(1), tenant=other)
    with pytest.raises(NotFoundError, match="tenant"):
        await house.by_photo(tenant=other)
    with pytest.raises(NotFoundError, match="tenant"):
        await house.search.by_face(other, face.face_id, options=options)
    with pytest.raises(NotFoundError, match="face"):
        await house.search.by_face(TENANT, FaceId("no id"), options=options)


async def test_another_model_finds_nothing_of_this_one(house: House) -> None:
    face = (await house.insert(person(1))).faces[0]
    async with house.database.maintenance() as owner:
        await owner.execute(
            "INSERT INTO embedding_model (model_space, name, is_active) VALUES ('new', 'n', true)"
        )
    with pytest.raises(ModelReplacedError):
        await house.by_photo(person(1))
    following = SearchPeople(
        house.analyzer, house.repository, space=ModelSpace("new"), rule=RULE, min_quality=0.4
    )
    with pytest.raises(FaceNotEmbeddedError):
        await following.by_face(TENANT, face.face_id, options=SearchOptions())


async def test_faces_of_another_tenant_are_never_found(house: House) -> None:
    await house.insert(person(1))
    foreign = TenantId("foreign")
    data = house.analyzer.add(person(2))
    theirs = await house.ingest(foreign, source(data), StageClock(), free_ticket())
    among = (theirs.faces[0].cluster_id,)
    (face,) = (await house.by_photo(person(2), among=among)).faces
    assert face.matches == ()
    with pytest.raises(NotFoundError, match="face"):
        await house.search.by_face(TENANT, theirs.faces[0].face_id, options=SearchOptions())


def test_made_up_strangers_are_strangers() -> None:
    assert abs(float(np.dot(person(1), person(2)))) < 0.3
