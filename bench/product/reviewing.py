"""The queue of questions, answered by a reviewer who knows everybody: how many it takes.

Faces are inserted as the service does it. Then the questions of most worth are answered, and in
another copy of the database the oldest ones, until the clusters are as good as wanted; or people
are looked through one by one, the largest first, without any question.

The made-up people are as hard to tell apart as those of Labeled Faces in the Wild are for FaceNet,
and their rule is measured on other made-up people as `bench accuracy --record` does it on photos.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import asyncpg
import numpy as np

from bench.accuracy.joining import Clustering, judge
from bench.accuracy.people import GOOD_QUALITY, Labels, Vectors, embed, find_faces, open_embedder
from bench.accuracy.population import curve_of, make_cohort, pairs_of
from bench.common.crowd import SPACE, Spread, crowd
from bench.common.harness import MODELS
from bench.common.measure import Samples
from bench.common.photos import people_folder, photo_paths
from bench.common.result import Curve, Effort, Result
from service.app.settings import rule_of
from service.batching import Ticket, free_ticket
from service.config.sections import MatchConfig
from service.domain.errors import ReviewAnsweredError
from service.domain.matching import DistanceLimit, MatchRule
from service.domain.people import PersonEdit
from service.domain.reviews import Answer, Question, Reply, ReviewKind
from service.domain.search import SearchOptions
from service.domain.types import (
    AnalyzedPhoto,
    Box,
    ClusterId,
    Detection,
    EmbeddedFace,
    FaceId,
    FaceQuality,
    ModelSpace,
    PhotoSource,
    ReviewId,
    TenantId,
)
from service.runtime.manifest import load_manifest
from service.runtime.matching import false_match_curve
from service.runtime.sessions import SessionSettings
from service.store.database.database import Database, DatabaseSettings
from service.store.embedded.server import EmbeddedAddress, embedded_server
from service.store.embedded.settings import EmbeddedSettings
from service.store.face.asking import DatabaseAskingTurns
from service.store.face.code_cache import CodeCache
from service.store.face.repository import Repository
from service.store.face.reviews import ReviewReader
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.asking import AskQuestions
from service.usecases.ingest import IngestPhoto
from service.usecases.people import People
from service.usecases.ports import PhotoAnalyzer
from service.usecases.reviews import Reviews
from service.usecases.search import SearchPeople

_TENANT = TenantId("reviewed")
_FACES = 20_000
_QUICK_FACES = 200
_BY_WORTH, _BY_AGE, _BY_PERSON = "by worth", "by age", "person by person"
# As the console takes them.
_MOST_AT_ONCE = 30
# Of the faces: so many questions are answered between two looks at the outcome.
_AT_ONCE = 0.01
_RECALL, _PRECISION = 0.99, 0.999
_MAX_QUESTIONS = 40_000
# As the console shows them with a question: of two people the newest faces of each, of one person
# all, and those who look alike.
_SHOWN_FACES = {ReviewKind.SAME_PERSON: 12, ReviewKind.NEW_PERSON: None}
_LOOK_ALIKES = 12
# The oldest questions are answered until as many times those of most worth do not suffice.
_MOST_TIMES = 3
# Of strangers 1e-3, 1e-4 and 1e-5 are within distances of 0.460, 0.403 and 0.356 (on photos 0.496,
# 0.413 and 0.349), and with them 0.941, 0.893 and 0.813 of the pairs of one person (0.966, 0.892
# and 0.764). Joined one by one, 6,000 faces have a precision of 0.989 and a recall of 0.930 (on
# photos 0.986 and 0.938).
_AS_MEASURED = Spread(512, 1.2, 0.0, 0.36, 0.3)
_MEASURED_FACES, _QUICK_MEASURED_FACES = 6_600, 2_000
# Of the photos 51 of 4,500 are below the quality from which others are matched, and hardly farther
# from their people: a cosine of 0.63 instead of 0.68 in the mean.
_POOR = 0.011
_POINTS_OF_A_LINE = 100


@dataclass(frozen=True, slots=True)
class Labelled:
    """Faces of which it is known whose they are, and the model of their vectors.

    people: int64 [n]. qualities: float64 [n], their scores.
    """

    name: str
    vectors: Vectors
    people: Labels
    qualities: np.ndarray
    space: ModelSpace
    rule: MatchRule

    def some(self, most: int, seed: int) -> Labelled:
        """At most so many faces, of people drawn until there are as many."""
        names = np.unique(self.people)
        np.random.default_rng(seed).shuffle(names)
        sizes = np.bincount(self.people)[names]
        kept = np.isin(self.people, names[: int(np.searchsorted(np.cumsum(sizes), most)) + 1])
        return replace(
            self,
            vectors=self.vectors[kept],
            people=self.people[kept],
            qualities=self.qualities[kept],
        )


class _Analyzer:
    """Answers the number of a face with its analysis."""

    def __init__(self, faces: Labelled) -> None:
        self._faces = faces

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto:
        """A photo with one face."""
        number = int(await read())
        quality = FaceQuality(
            float(self._faces.qualities[number]), 120.0, 60.0, 128.0, 50.0, 0.0, 0.0
        )
        points = tuple((20.0 + each, 30.0 + each) for each in range(5))
        face = EmbeddedFace(
            Detection(Box(10.0, 20.0, 50.0, 70.0), points, 0.99),
            self._faces.vectors[number],
            quality,
        )
        return AnalyzedPhoto("jpeg", 640, 480, f"{number:016x}", (face,))


class Reviewer:
    """A reviewer who knows everybody, and the state that the answers lead to.

    Args:
        numbers: of the faces, by their ids.
    """

    def __init__(
        self, database: Database, codes: CodeCache, faces: Labelled, numbers: dict[str, int]
    ) -> None:
        self._database = database
        self._labelled = faces
        self._numbers = numbers
        repository = Repository(database, SearchSettings(), codes=codes)
        self._reviews = Reviews(repository)
        self._people = People(repository)
        self._search = SearchPeople(
            cast(PhotoAnalyzer, _Analyzer(faces)), repository, space=faces.space, rule=faces.rule
        )
        self._ask = AskQuestions(
            repository,
            DatabaseAskingTurns(database),
            space=faces.space,
            rule=faces.rule,
            joins=False,
        )
        self._at_once = min(_MOST_AT_ONCE, max(1, round(_AT_ONCE * len(faces.people))))
        self.kinds: Counter[str] = Counter()

    async def work(self, most: int, *, by_age: bool) -> list[tuple[int, Clustering]]:
        """Answer until the clusters are good enough; how good after how many questions.

        Args:
            most: so many questions are answered at most.
        """
        await self._ask.of_tenant(_TENANT)
        answered = 0
        curve = [(0, await self.judged())]
        while not _is_enough(curve[-1][1]) and answered < most:
            questions = await (self._oldest() if by_age else self._best())
            if not questions:
                break
            for question in questions:
                answered += await self._answer(question)
            await self._ask.of_tenant(_TENANT)
            curve.append((answered, await self.judged()))
        return curve

    async def judged(self) -> Clustering:
        """How well clusters and people agree."""
        return judge(await self.clusters(), self._labelled.people)

    async def clusters(self) -> Labels:
        """The cluster of each face, as a number: int64 [n]."""
        async with self._database.snapshot(_TENANT) as connection:
            rows = await connection.fetch("SELECT face_id, cluster_id FROM face")
        places: dict[str, int] = {}
        clusters = np.empty(len(rows), np.int64)
        for row in rows:
            place = places.setdefault(str(row["cluster_id"]), len(places))
            clusters[self._numbers[str(row["face_id"])]] = place
        return clusters

    async def _best(self) -> list[Question]:
        return await self._reviews.next(_TENANT, "reviewer", self._at_once, 3600)

    async def _oldest(self) -> list[Question]:
        async with self._database.snapshot(_TENANT) as connection:
            rows = await connection.fetch(
                "SELECT review_id FROM review WHERE tenant_id = $1 AND NOT put_off"
                " ORDER BY review_id LIMIT $2",
                _TENANT,
                self._at_once,
            )
            found = await ReviewReader(connection, _TENANT).of_ids(
                [ReviewId(row["review_id"]) for row in rows]
            )
        return sorted(found, key=lambda each: each.review_id)

    async def _answer(self, question: Question) -> int:
        """Answer a question as it is now; 0 where an answer just before settled it."""
        async with self._database.snapshot(_TENANT) as connection:
            (now,) = await ReviewReader(connection, _TENANT).of_ids([question.review_id]) or (None,)
        if now is None:
            return 0
        self.kinds[question.kind] += 1
        taken_out = await self._take_out(now)
        reply = await self._reply(now)
        with suppress(ReviewAnsweredError):  # by what was taken out
            await self._reviews.answer(_TENANT, question.review_id, replace(reply, override=True))
        return 1 + taken_out

    async def _take_out(self, question: Question) -> int:
        """Take faces of others out of the people of a question, as far as the console shows them.

        Returns:
            The number of the faces, of which each one was looked at.
        """
        if question.kind not in _SHOWN_FACES:
            return 0
        taken_out = 0
        for person in question.people:
            who = await self._who(person.person_id)
            for face in await self._faces(person.person_id, _SHOWN_FACES[question.kind]):
                if self._labelled.people[self._numbers[face]] != who:
                    await self._people.split(
                        _TENANT, person.person_id, [face], PersonEdit(), None, override=True
                    )
                    taken_out += 1
        return taken_out

    async def _reply(self, question: Question) -> Reply:
        own = question.people[0].person_id
        who = await self._who(own, None if question.face is None else question.face.face_id)
        if question.kind is ReviewKind.NEW_PERSON:
            known = await self._known(who, own)
            if known is not None:
                return Reply(Answer.SAME, person_id=known)
            return Reply(Answer.LABEL, label=f"person {who}")
        if question.kind is ReviewKind.SAME_PERSON:
            is_same = who == await self._who(question.people[1].person_id)
            return Reply(Answer.SAME if is_same else Answer.DIFFERENT)
        assert question.face is not None
        face = int(self._labelled.people[self._numbers[question.face.face_id]])
        if face == who:
            return Reply(Answer.YES)
        if question.kind is ReviewKind.WEAK_MATCH and len(question.people) > 1:
            other = question.people[1].person_id
            if face == await self._who(other):
                return Reply(Answer.OTHER, person_id=other)
        return Reply(Answer.NO)

    async def _who(self, person_id: ClusterId, but: FaceId | None = None) -> int:
        """Whom most faces of a cluster show, or most of the others but one."""
        people = Counter(
            int(self._labelled.people[self._numbers[each]])
            for each in await self._faces(person_id)
            if each != but
        )
        return min(people, key=lambda each: (-people[each], each)) if people else -1

    async def _faces(self, person_id: ClusterId, most: int | None = None) -> list[FaceId]:
        """The faces of a person, newest first."""
        async with self._database.snapshot(_TENANT) as connection:
            rows = await connection.fetch(
                "SELECT face_id FROM face WHERE tenant_id = $1 AND cluster_id = $2"
                " ORDER BY seq DESC LIMIT $3",
                _TENANT,
                person_id,
                most,
            )
        return [FaceId(str(row["face_id"])) for row in rows]

    async def _known(self, who: int, own: ClusterId) -> ClusterId | None:
        """Somebody else who has the name already, or is among those who look alike."""
        named = await self._named(who, own)
        if named is not None:
            return named
        options = SearchOptions(limit=_LOOK_ALIKES)
        for match in await self._search.similar(_TENANT, own, options=options):
            if await self._who(match.person_id) == who:
                return match.person_id
        return None

    async def _named(self, who: int, own: ClusterId) -> ClusterId | None:
        """Somebody else who has the name already."""
        async with self._database.snapshot(_TENANT) as connection:
            found = await connection.fetchval(
                "SELECT cluster_id FROM cluster"
                " WHERE tenant_id = $1 AND label = $2 AND cluster_id <> $3 LIMIT 1",
                _TENANT,
                f"person {who}",
                own,
            )
        return None if found is None else ClusterId(str(found))


async def run(effort: Effort) -> Result:
    """Answer the questions of each tenant, by worth and by age."""
    most = _QUICK_FACES if effort.quick else max(_QUICK_FACES, round(_FACES * effort.scale))
    tenants = [made_up(most, effort.seed or 0)]
    if people_folder().is_dir() and not effort.quick:
        tenants.append((await photographed()).some(most, effort.seed or 0))
    details: dict[str, object] = {}
    curves: dict[str, Curve] = {}
    ratios: dict[str, float] = {}
    for faces in tenants:
        print(f"  {faces.name}: {len(faces.people)} faces", flush=True)
        found = await _reviewed(faces)
        details[faces.name] = found.details()
        curves[faces.name] = found.curve()
        ratios |= found.ratios(faces.name)
    return Result(
        unit="questions",
        rates={},
        compared={},
        other_ratios=ratios,
        details={"review": details},
        curves=curves,
        configuration={"faces": most, "recall": _RECALL, "precision": _PRECISION},
        notes=[
            (
                f"Questions until pairs have recall {_RECALL} and precision {_PRECISION}, or null. "
                f"Where {_MOST_TIMES} times those of most worth did not suffice by age, the ratio "
                "is at least that."
            ),
            "The reviewer knows everybody, and answers up to thirty questions at a time.",
        ],
    )


@dataclass(frozen=True, slots=True)
class _Reviewed:
    """What it took: for each way the points of a line, questions and how good it is then."""

    faces: int
    lines: dict[str, list[tuple[int, Clustering]]]
    kinds: dict[str, Counter[str]]

    def needed(self, line: str) -> int | None:
        """The questions of a line; None where they did not suffice."""
        number, last = self.lines[line][-1]
        return number if _is_enough(last) else None

    def details(self) -> dict[str, object]:
        return {
            "faces": self.faces,
            "lines": {
                line: {
                    "questions": self.needed(line),
                    "kinds": dict(self.kinds.get(line, ())),
                    "first": _numbers(points[0]),
                    "last": _numbers(points[-1]),
                }
                for line, points in self.lines.items()
            },
        }

    def ratios(self, name: str) -> dict[str, float]:
        by_worth = self.needed(_BY_WORTH)
        others = {"age": self.needed(_BY_AGE), "people": self.needed(_BY_PERSON)}
        if not by_worth:
            return {}
        ratios = {
            f"{name}_{way}_over_worth": each / by_worth for way, each in others.items() if each
        }
        if others["age"] is None:
            ratios[f"{name}_age_over_worth"] = self.lines[_BY_AGE][-1][0] / by_worth
        return ratios

    def curve(self) -> Curve:
        return Curve(
            "questions answered",
            "pairs missed or wrong, of those of one person",
            {
                line: {float(number): Samples((_errors(found),)) for number, found in points}
                for line, points in self.lines.items()
            },
        )


def _numbers(point: tuple[int, Clustering]) -> dict[str, float]:
    number, found = point
    return {
        "questions": number,
        "recall": round(found.recall, 5),
        "precision": round(found.precision, 5),
        "clusters": found.clusters,
    }


def _errors(found: Clustering) -> float:
    return 1 - found.recall + found.recall * (1 / found.precision - 1)


def _is_enough(found: Clustering) -> bool:
    return found.recall >= _RECALL and found.precision >= _PRECISION


async def _reviewed(faces: Labelled) -> _Reviewed:
    lines: dict[str, list[tuple[int, Clustering]]] = {}
    kinds: dict[str, Counter[str]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="facette-bench-") as name,
        embedded_server(Path(name), EmbeddedSettings(shared_buffers_mb=512)) as address,
    ):
        async with _opened(address, address.dbname) as (database, codes):
            numbers = await _inserted(database, codes, faces)
        for line in (_BY_WORTH, _BY_AGE):
            copy = line.replace(" ", "_")
            await _copied(address, copy)
            async with _opened(address, copy) as (database, codes):
                await codes.refresh(_TENANT, faces.space)
                reviewer = Reviewer(database, codes, faces, numbers)
                if not lines:
                    clusters = await reviewer.clusters()
                    lines[_BY_PERSON] = looked_through(clusters, faces.people)
                    print(f"    {_BY_PERSON}: {_numbers(lines[_BY_PERSON][-1])}", flush=True)
                by_age = line == _BY_AGE
                most = _MOST_TIMES * lines[_BY_WORTH][-1][0] if by_age else _MAX_QUESTIONS
                lines[line] = await reviewer.work(most, by_age=by_age)
                kinds[line] = reviewer.kinds
                print(f"    {line}: {_numbers(lines[line][-1])} {reviewer.kinds}", flush=True)
    return _Reviewed(len(faces.people), lines, kinds)


@asynccontextmanager
async def _opened(address: EmbeddedAddress, name: str) -> AsyncIterator[tuple[Database, CodeCache]]:
    """A database and the codes of its faces, which are kept up to date meanwhile."""
    database = await Database.open(
        DatabaseSettings(address.socket_dir, address.port, name, address.user, "", 4, 30.0, 600.0)
    )
    try:
        codes = CodeCache(database)
        reading = asyncio.create_task(codes.run())
        try:
            yield database, codes
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    finally:
        await database.close()


async def _copied(address: EmbeddedAddress, name: str) -> None:
    """Copy the database; nobody may be connected to it."""
    connection = await asyncpg.connect(
        host=address.socket_dir, port=address.port, user=address.user, database="postgres"
    )
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{address.dbname}"')
    finally:
        await connection.close()


async def _inserted(database: Database, codes: CodeCache, faces: Labelled) -> dict[str, int]:
    """Insert every face, in random order; the number of each by its id."""
    ingest = IngestPhoto(
        cast(PhotoAnalyzer, _Analyzer(faces)),
        Repository(database, SearchSettings(), codes=codes),
        None,
        space=faces.space,
        rule=faces.rule,
        min_quality=GOOD_QUALITY,
        on_face=lambda matched: None,
    )
    order = list(range(len(faces.people)))
    random.Random(0).shuffle(order)  # noqa: S311
    numbers: dict[str, int] = {}
    for number in order:
        stored = await ingest(_TENANT, _read(number), StageClock(), free_ticket())
        numbers[stored.faces[0].face_id] = number
    async with database.maintenance() as connection:
        await connection.execute("ANALYZE")
    return numbers


def _read(number: int) -> PhotoSource:
    async def read() -> bytes:
        return str(number).encode()

    return read


def looked_through(clusters: Labels, people: Labels) -> list[tuple[int, Clustering]]:
    """How good it is after so many people were looked through, the largest first, until enough.

    Whoever is looked at is named, and faces of others are taken out: each is looked at as well.
    """
    sizes = np.bincount(clusters)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    among = np.zeros((len(order), int(people.max()) + 1), np.int32)
    np.add.at(among, (clusters, people), 1)
    taken_out = np.cumsum((sizes - among.max(axis=1))[order])

    def after(count: int) -> tuple[int, Clustering]:
        named = np.where(rank[clusters] < count, people, len(sizes) + people.max() + clusters)
        return count + (int(taken_out[count - 1]) if count else 0), judge(named, people)

    low, high = 0, len(order)
    while low < high:  # the fewest clusters
        middle = (low + high) // 2
        if _is_enough(after(middle)[1]):
            high = middle
        else:
            low = middle + 1
    steps = np.unique(np.linspace(0, low, _POINTS_OF_A_LINE).astype(int))
    return [after(int(count)) for count in steps]


def made_up(count: int, seed: int) -> Labelled:
    """A crowd that is as hard to tell apart as people on photos."""
    people = crowd(count, seed, _AS_MEASURED)
    qualities = np.where(np.random.default_rng(seed).random(count) < _POOR, GOOD_QUALITY / 2, 1.0)
    rule = _measured_rule(_MEASURED_FACES if count > _QUICK_FACES else _QUICK_MEASURED_FACES)
    return Labelled("made_up", people.faces, people.person_of, qualities, SPACE, rule)


def _measured_rule(count: int) -> MatchRule:
    """The rule by a cohort of some made-up people and the curve of others, for the usual rates."""
    facts = load_manifest(MODELS).models["embedder"].embeddings[0]
    chosen_on, reported_on = (crowd(count, seed, _AS_MEASURED) for seed in (101, 102))
    cohort, _ = make_cohort(chosen_on.faces, chosen_on.person_of)
    pairs = pairs_of(reported_on.faces, reported_on.person_of, cohort)
    limit = DistanceLimit(
        facts.recommended_max_distance,
        false_match_curve(curve_of(pairs, reported_on.person_of)),
        facts.recommended_max_fmr,
        facts.recommended_max_wrong_joins,
    )
    return MatchRule(limit, cohort)


async def photographed() -> Labelled:
    """The labelled photos, analysed as the service does; they are analysed once a machine."""
    cache = Path(tempfile.gettempdir()) / "facette-bench-people.npz"
    session = open_embedder(MODELS, SessionSettings())
    facts = session.spec.embeddings[0]
    if cache.exists():
        kept = np.load(cache)
        vectors, people, qualities = kept["vectors"], kept["people"], kept["qualities"]
        if str(kept["space"]) != facts.space:
            cache.unlink()
            return await photographed()
    else:
        found = await find_faces(photo_paths(people_folder()))
        vectors = await embed(session, found, facts)
        people = np.array([face.person for face in found], np.int64)
        qualities = np.array([face.quality for face in found])
        np.savez(cache, vectors=vectors, people=people, qualities=qualities, space=facts.space)
    rule = rule_of(MatchConfig(), facts)
    return Labelled("photographed", vectors, people, qualities, ModelSpace(facts.space), rule)
