"""`facette calibrate` on a tenant whose questions were answered, and what obeys its limit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from bench.common.crowd import SFACE, Crowd, id_of, load
from service.commands.calibrate import CalibrationOptions, CalibrationSettings, run_calibrate
from service.commands.statuses import Status
from service.config import AuthConfig, Config, MatchConfig
from service.config.sections import DatabaseConfig, PathsConfig
from service.domain.asking import AskedPair, AskingPosition, Evidence, Findings
from service.domain.errors import NotFoundError
from service.domain.matching import ClusterQuery
from service.domain.reviews import Answer, Reply
from service.domain.search import PeopleQuery
from service.domain.types import ClusterId, FaceId, ModelSpace, TenantId
from service.runtime.manifest import load_manifest
from service.runtime.matching import match_rule
from service.store.database.database import Database, DatabaseSettings
from service.store.face.answers import Answers
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.usecases.people import NewHome, People
from service.usecases.reviews import Reviews
from tests.support.analysed import near, person
from tests.support.databases import Databases
from tests.support.folders import ROOT

TENANT, NEW = TenantId("asked"), TenantId("new")
PAIRS = 150
# Of pairs that are so many decades beyond the limit of the curve half are one person.
SHIFT = 0.4
# A person whom somebody looks through: faces of hers, and some of another one.
ANN, HERS, OTHERS = 2 * PAIRS, 12, 4
_FACTS = load_manifest(ROOT / "models").models["embedder"].embedding
assert _FACTS is not None
RULE, SPACE = match_rule(_FACTS), ModelSpace(_FACTS.space)


def _people() -> tuple[Crowd, list[bool]]:
    """Pairs of people of one face, about as far apart as is asked about, and which are one."""
    rng = np.random.default_rng(3)
    limit = RULE.limit.at(2 * PAIRS + 1)
    faces, same = [], []
    for n in range(PAIRS):
        one = person(n)
        other = near(one, rng.uniform(1.2, 1.7) * limit, n)
        distance = float(RULE.distances(one, other[np.newaxis], np.ones(1, np.float32))[0])
        decades = RULE.limit.decades(distance, limit)
        faces += [one, other]
        same.append(bool(rng.random() < 1 / (1 + 10 ** (decades - SHIFT))))
    hers = [near(person(9_999), 0.1, 900 + n) for n in range(HERS)]
    hers += [near(person(9_999), 1.3 * limit, 990 + n) for n in range(OTHERS)]
    clusters = [*range(2 * PAIRS), *[ANN] * (HERS + OTHERS)]
    stacked = np.stack([*faces, *hers])
    return Crowd(SFACE, stacked, stacked, np.array(clusters)), same


async def _answered(database: Database, _: Path) -> None:
    """The questions are answered as people do; and Ann's faces are looked through."""
    crowd, same = _people()
    async with database.maintenance() as owner:
        await owner.execute("INSERT INTO embedding_model VALUES ($1, 'default', true)", SPACE)
        await owner.execute("INSERT INTO tenant (tenant_id) VALUES ($1)", NEW)
        await load(owner, TENANT, crowd)
        await owner.execute("UPDATE face_vector SET model_space = $1", SPACE)
        await owner.execute("UPDATE face SET distance = 0.2 WHERE cluster_id = $1", id_of(ANN))
    repository = Repository(database, SearchSettings())
    reviews, people = Reviews(repository), People(repository)
    pairs = tuple(
        AskedPair(
            ClusterId(str(id_of(2 * n))),
            ClusterId(str(id_of(2 * n + 1))),
            Evidence(0.4, None, 0.5, 1, 0.5),
        )
        for n in range(PAIRS)
    )
    async with repository.asking(TENANT, AskingPosition(0, 0, 1.0)) as writer:
        await writer.write(Findings(pairs))
    for question in await reviews.page(TENANT, None, None, PAIRS):
        number = min(int(each.person_id.replace("-", ""), 16) for each in question.people) - 1
        answer = Answer.SAME if same[number // 2] else Answer.DIFFERENT
        await reviews.answer(TENANT, question.review_id, Reply(answer))
    for n in range(OTHERS):
        face = FaceId(str(id_of(ANN + HERS + n)))
        await people.move_face(TENANT, face, NewHome.UNKNOWN)
    await people.confirm(TENANT, ClusterId(str(id_of(ANN))), (), None)


@pytest.fixture
async def database(databases: Databases, uploads: Path) -> Database:
    return await databases.filled(_answered, uploads)


class Operator:
    """Runs the command on a database."""

    def __init__(self, database: Database, models_dir: Path) -> None:
        at: DatabaseSettings = database._settings
        self._settings = CalibrationSettings.of(
            Config(
                auth=AuthConfig(token="t" * 20),
                database=DatabaseConfig(
                    host=at.host, port=at.port, user=at.user, dbname=at.dbname, password=""
                ),
                paths=PathsConfig(models_dir=models_dir),
                match=MatchConfig(),
            )
        )

    async def run(
        self,
        tenant: TenantId = TENANT,
        *,
        apply: bool = False,
        reset: bool = False,
        as_json: bool = True,
        status: Status = Status.DONE,
    ) -> None:
        options = CalibrationOptions(tenant, 0.95, apply, reset, as_json)
        assert await asyncio.to_thread(run_calibrate, self._settings, options) == status


@pytest.fixture
def operator(database: Database, models_dir: Path) -> Operator:
    return Operator(database, models_dir)


async def _limits(database: Database) -> tuple[float, float, float]:
    """The limits that an insert, a search and the look for questions obey."""
    repository = Repository(database, SearchSettings())
    query = ClusterQuery((person(5),), SPACE, RULE)
    async with repository.inserting(TENANT, query) as (_, candidates):
        (inserted,) = candidates.max_distances
    async with repository.searching(TENANT, SPACE) as search:
        (searched,) = (await search.near_people(PeopleQuery(query, 1))).max_distances
    async with repository.doubting(TENANT, SPACE) as reader:
        asked = RULE.limit.at(reader.number_of_people, factor=reader.match_factor)
    return inserted, searched, asked


async def test_a_limit_is_learned_shown_applied_obeyed_and_taken_back(
    database: Database, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await _limits(database)
    await operator.run()
    told = json.loads(capsys.readouterr().out)
    _, same = _people()
    pairs = told["pairs"]
    assert (pairs["answers"], pairs["looked_through"]) == (PAIRS, HERS + OTHERS)
    assert pairs["same"] == sum(same) + HERS
    assert pairs["different"] == PAIRS - sum(same) + OTHERS
    assert pairs["not_counted"] > 0  # the moves of faces, and what confirmed them
    assert before == pytest.approx([told["limit"]] * 3)
    assert (told["factor"], told["applied"], told["lacks"]) == (1.0, False, None)
    assert told["learned_limit"] < told["limit"]
    assert told["interval"][0] < 10**SHIFT / 19 < told["interval"][1]
    assert told["then"]["false_joins"]["part"] < told["now"]["false_joins"]["part"]
    assert await _limits(database) == before  # nothing was changed

    await operator.run(as_json=False)
    shown = capsys.readouterr().out
    assert f"limit of a match {told['limit']:.3f}, that of the model" in shown
    assert f"should be {told['learned_limit']:.3f}" in shown
    assert "nothing was changed; --apply" in shown

    await operator.run(apply=True, as_json=False)
    assert f"--tenant {TENANT} --reset" in capsys.readouterr().out
    assert await _limits(database) == pytest.approx([told["learned_limit"]] * 3)
    async with database.snapshot(TENANT) as connection:
        row = await connection.fetchrow(
            "SELECT asked_seq, subject FROM tenant JOIN change USING (tenant_id)"
            " WHERE kind = 'tenant.calibrated'"
        )
    assert row["asked_seq"] == 0  # everybody is looked at anew
    assert json.loads(row["subject"])["match_factor"] == told["learned_factor"]
    await operator.run(apply=True)
    again = json.loads(capsys.readouterr().out)
    assert (again["applied"], again["learned_factor"]) == (False, told["learned_factor"])

    await operator.run(reset=True)
    assert await _limits(database) == before


async def test_too_few_pairs_and_an_unknown_tenant_are_refused(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    await operator.run(NEW, apply=True, as_json=False, status=Status.INCOMPLETE)
    shown = capsys.readouterr().out
    assert "there are 0 confirmed pairs, and it takes 30" in shown
    assert "facette review --tenant new" in shown
    with pytest.raises(NotFoundError):
        await operator.run(TenantId("nobody"))


async def test_of_many_faces_the_same_few_are_read_of_both_kinds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.face.answers._MOST_ANSWERS", 6)
    async with database.maintenance() as owner:
        said = await Answers(owner, TENANT, SPACE).said()
    assert [each.is_same for each in said.looked_through].count(True) == 3
    assert len(said.looked_through) == len(said.answers) == 6
