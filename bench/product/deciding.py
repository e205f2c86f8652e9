"""What decisions, history and open questions cost an insert: two tenants with the same faces."""

from __future__ import annotations

import time

import numpy as np
import psutil

from bench.common.crowd import RULE, SPACE, Crowd, crowd, load
from bench.common.harness import default_settings, running_analyzer
from bench.common.measure import Samples, percentile
from bench.common.photos import LONG_SIDE, source
from bench.common.photos import load as load_photos
from bench.common.processor import processor_s
from bench.product.place import Part, Place, postmaster_of
from bench.search.insert_rate import Given
from service.batching import free_ticket
from service.domain.reviews import Answer, Reply
from service.domain.types import ClusterId, ReviewId, TenantId
from service.store.database.database import Database
from service.store.face.code_cache import CodeCache
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto
from service.usecases.people import People
from service.usecases.reviews import Reviews

_UNDECIDED, _DECIDED = TenantId("nobody decided"), TenantId("much was decided")
_WITHOUT, _WITH = "inserts without decisions", "inserts with decisions, history and questions"
_FACES, _LEAST_FACES = 20_000, 400
# So many people are confirmed, and each is told apart from another one.
_CONFIRMED = 0.5
_QUESTIONS_OF_A_PERSON = 6
_AT_ONCE, _QUICK_AT_ONCE = 100, 5
_PASSES, _QUICK_PASSES = 6, 1
_PHOTOS, _QUICK_PHOTOS = 24, 2
# In the title of a process that serves a connection over the socket.
_CONNECTION = "[local]"


async def measure(place: Place) -> Part:
    """Insert the same new faces into both tenants in turn."""
    size = max(_LEAST_FACES, round(_FACES * place.scale))
    people = crowd(size, 1)
    for tenant in (_UNDECIDED, _DECIDED):
        async with place.database.maintenance() as connection:
            await load(connection, tenant, people)
    decided = await _decide(place.database)
    async with place.database.maintenance() as connection:
        await connection.execute("VACUUM (ANALYZE)")
    codes = CodeCache(place.database)
    for tenant in (_UNDECIDED, _DECIDED):
        await codes.refresh(tenant, SPACE)
    ms = await _insert(place, codes, people)
    analysis_ms = await _analysis_ms(place)
    rates = {
        line: Samples(tuple(1e3 / each for each in spent))
        for line, spent in ((_WITHOUT, ms[_UNDECIDED]), (_WITH, ms[_DECIDED]))
    }
    without, with_all = (percentile(ms[each], 0.5) for each in (_UNDECIDED, _DECIDED))
    return Part(
        rates,
        {},
        {
            "insert_without_over_with_decisions": (analysis_ms + without)
            / (analysis_ms + with_all),
            "storing_without_over_with_decisions": without / with_all,
        },
        {
            "decisions": {
                **decided,
                "analysis_ms": analysis_ms,
                "storing_ms": {"without": without, "with": with_all},
            }
        },
        [
            (
                f"Decisions: new faces go into two tenants of {size} faces in turn, with their "
                "vectors given. Processor time of this process and of PostgreSQL. The ratio of "
                "inserts adds the analysis of a photo to both."
            )
        ],
    )


async def _decide(database: Database) -> dict[str, int]:
    """Confirm people, tell others apart, and leave many questions open; returns numbers.

    Nobody gets or loses a face, so that the same faces are compared in both tenants.
    """
    repository = Repository(database, SearchSettings())
    async with database.maintenance() as connection:
        people = await connection.fetch(
            "SELECT cluster_id FROM cluster WHERE tenant_id = $1 ORDER BY cluster_id", _DECIDED
        )
        questions = await connection.fetch(
            "WITH numbered AS ("
            " SELECT cluster_id, row_number() OVER (ORDER BY cluster_id) AS n FROM cluster"
            " WHERE tenant_id = $1"
            ") INSERT INTO review (tenant_id, cluster_id, other_cluster_id, kind, chance)"
            " SELECT $1, one.cluster_id, other.cluster_id, 'same_person', 0.1 FROM numbered AS one"
            " JOIN numbered AS other ON other.n BETWEEN one.n + 1 AND one.n + $2"
            " ON CONFLICT DO NOTHING RETURNING review_id",
            _DECIDED,
            _QUESTIONS_OF_A_PERSON,
        )
    editor, reviews = People(repository), Reviews(repository)
    for row in people[:: round(1 / _CONFIRMED)]:
        await editor.confirm(_DECIDED, ClusterId(str(row["cluster_id"])), (), None)
    for row in questions[::_QUESTIONS_OF_A_PERSON]:
        review_id = ReviewId(row["review_id"])
        await reviews.answer(_DECIDED, review_id, Reply(Answer.DIFFERENT))
    async with database.maintenance() as connection:
        counts = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM decision WHERE tenant_id = $1) AS decisions,"
            " (SELECT count(*) FROM change WHERE tenant_id = $1) AS changes,"
            " (SELECT count(*) FROM review WHERE tenant_id = $1) AS questions",
            _DECIDED,
        )
    return dict(counts)


async def _insert(place: Place, codes: CodeCache, people: Crowd) -> dict[TenantId, list[float]]:
    """Milliseconds of processor time an insert into each tenant, a figure a pass."""
    given = Given()
    ingest = IngestPhoto(
        given,
        Repository(place.database, SearchSettings(), codes=codes),
        None,
        space=SPACE,
        rule=RULE,
        on_face=lambda matched: None,
    )
    count = _QUICK_AT_ONCE if place.effort.quick else _AT_ONCE
    passes = _QUICK_PASSES if place.effort.quick else _PASSES * place.effort.rounds
    ms: dict[TenantId, list[float]] = {_UNDECIDED: [], _DECIDED: []}
    for number in range(passes + 1):
        faces = people.more_faces(count, np.random.default_rng(number))
        for tenant in sorted(ms, reverse=number % 2 == 0):
            photos = [given.add(face) for face in faces]
            before = _processor_s(place)
            for photo in photos:
                await ingest(tenant, source(photo), StageClock(), free_ticket())
            if number:  # the first pass warms up
                ms[tenant].append(_since(before, _processor_s(place)) / count * 1e3)
            await codes.refresh(tenant, SPACE)
    return ms


async def _analysis_ms(place: Place) -> float:
    """Milliseconds of processor time that the analysis of a photo takes."""
    photos = load_photos(LONG_SIDE, _QUICK_PHOTOS if place.effort.quick else _PHOTOS)
    async with running_analyzer(default_settings()) as analyzer:
        for _ in range(2):  # the first pass warms up
            before = time.process_time()
            for photo in photos:
                await analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket())
            spent = time.process_time() - before
    return spent / len(photos) * 1e3


def _processor_s(place: Place) -> dict[int, float]:
    """Seconds of processor time of this process, 0, and of each connection to PostgreSQL."""
    server = postmaster_of(place.folder / "postgres")
    found = {0: time.process_time()}
    for process in server.children(recursive=True):
        try:
            if _CONNECTION in " ".join(process.cmdline()):
                found[process.pid] = processor_s(process.pid)
        except (psutil.NoSuchProcess, ProcessLookupError):  # it ended meanwhile
            continue
    return found


def _since(before: dict[int, float], after: dict[int, float]) -> float:
    """What was spent meanwhile; a connection that was closed is left out."""
    return sum(spent - before.get(process, 0.0) for process, spent in after.items())
