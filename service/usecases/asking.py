"""Looks for questions that only a person can answer: who may be one, and who does not belong.

Only people who changed since the last look are looked at, each among those who look most like them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.domain.asking import (
    AskedOddFace,
    AskedPair,
    AskedQuestion,
    AskingCounts,
    DoubtfulFace,
    DoubtfulPerson,
    Evidence,
    Findings,
    chance_of_a_stranger,
    chance_of_one_person,
    chance_of_two_people,
    halves,
    pairs_settled,
)
from service.domain.errors import FacetteError, ModelReplacedError, NotFoundError
from service.domain.matching import MatchRule
from service.domain.reviews import ReviewKind
from service.domain.types import ClusterId, FaceId, ModelSpace, ReviewId, TenantId
from service.usecases.ports import AskingStore, AskingTurns, DoubtReads

_logger = logging.getLogger(__name__)

# Of each person who changed so many others are measured, and so many asked about in one look.
_NEAR = 8
_MOST_PAIRS = 3
_PROBES_AT_ONCE = 32
# So many faces of a person are asked about in one look.
_MOST_ODD_FACES = 8
# A question of less worth is not asked: fifty answers would put one pair of faces right.
_LEAST_WORTH = 0.02
# A face that is not the farthest of its person is wrong so much more seldom: of 2,500 that were
# nearer than a right one, in eleven clusterings of labelled and made-up faces, one was.
_NOT_THE_FARTHEST = 0.03
# A person of so many faces may be two, and is asked about face by face where that is so likely.
_FEWEST_FACES_OF_TWO = 4
_LIKELY = 0.25
# Nor whether a face belongs to its person, where it is one of a hundred that do not.
_LEAST_CHANCE = 0.01
# The machine itself joins people only where a thousandth as many strangers are as near as at the
# limit of a match.
SURE_SIMILARITY = 0.999
# As the statements of inserts have it. A name moves no face, and is best asked for once the faces
# of a person are joined: each joining saves a name.
_CHANCE_OF_A_NAME = 0.001
# Two people who have different names are seldom one.
_CHANCE_OF_TWO_NAMES = 0.25
# A question is written anew where its worth, or one of its distances, changed by more than this.
_SAME_WORTH = 0.05
_SAME_DISTANCE = 0.005
# Looks at one tenant in a round, each at some hundred people: others wait for their turn.
_LOOKS_PER_TENANT = 40


class AskQuestions:
    """Looks for questions in tenants.

    Args:
        space: of the running model. rule: its match rule.
        joins: whether the machine itself joins people whose similarity is far above the limit.
    """

    def __init__(
        self,
        store: AskingStore,
        turns: AskingTurns,
        *,
        space: ModelSpace,
        rule: MatchRule,
        joins: bool,
    ) -> None:
        self._store = store
        self._turns = turns
        self._space = space
        self._rule = rule
        self._joins = joins

    async def __call__(self) -> AskingCounts | None:
        """Look once at all tenants in which something happened; None while another process does.

        One of which a look fails is left for the next round.

        Raises:
            StoreUnavailableError: the connection that has the turn was lost.
            ModelReplacedError: the database is searched by another model.
        """
        counts = AskingCounts()
        async with self._turns.take() as tenants:
            if tenants is None:
                return None
            async for tenant_id in tenants:
                try:
                    counts += await self.of_tenant(tenant_id)
                except NotFoundError:  # it was deleted meanwhile
                    continue
                except ModelReplacedError:  # so it is for all tenants
                    raise
                except Exception as error:
                    _log_failure(f"questions of the tenant {tenant_id}", error)
                    counts += AskingCounts(failures=1)
        return counts

    async def of_tenant(self, tenant_id: TenantId) -> AskingCounts:
        """Look at one tenant, until nothing is left that changed, or for as long as its turn is.

        Raises:
            NotFoundError: there is no such tenant.
            StoreUnavailableError, ModelReplacedError: as above.
        """
        counts = AskingCounts()
        for _ in range(_LOOKS_PER_TENANT):
            async with self._store.doubting(tenant_id, self._space) as reader:
                unasked = await reader.unasked()
                findings = await self._look(reader, unasked.people)
            async with self._store.asking(tenant_id, unasked.position) as writer:
                made = await writer.write(findings)
            joined = 0
            for pair in findings.joined:
                async with self._store.writing(tenant_id) as tenant:
                    joined += await tenant.rejoin(pair.person_id, pair.other_id)
            counts += AskingCounts(len(unasked.people), made, joined)
            if unasked.is_all:
                break
        return counts

    async def _look(self, reader: DoubtReads, person_ids: Iterable[ClusterId]) -> Findings:
        asked = await reader.asked(list(person_ids))
        about = {each.other_id for each in asked if each.other_id} | {
            each.person_id for each in asked
        }
        people = await reader.people(about.union(person_ids))
        changed = [people[each] for each in person_ids if each in people]
        shown = [each for each in changed if not each.hidden]
        limit = self._rule.limit.at(reader.number_of_people, factor=reader.match_factor)
        pairs, others = await self._pairs(reader, shown, limit)
        met = people | others
        joined = tuple(
            each
            for each in pairs
            if self._is_sure(met[each.person_id], met[each.other_id], each.evidence)
        )
        told = {each.person_id for each in asked if each.embedding is not None}
        told |= {each.person_id for each in shown if each.is_placed}
        several = [each for each in shown if each.count > 1]
        odd, of_faces = await self._odd(reader, several, told, limit)
        of_pairs = {frozenset((each.person_id, each.other_id)): each.evidence for each in pairs}
        fresh = await asyncio.to_thread(self._fresh, asked, people, of_faces, of_pairs, limit)
        return Findings(
            tuple(each for each in pairs if each not in joined),
            tuple(odd),
            fresh,
            joined,
        )

    def _is_sure(self, one: DoubtfulPerson, other: DoubtfulPerson, evidence: Evidence) -> bool:
        """Whether the machine itself lets one person become a part of another one.

        No other face is matched against a poor one, so it says nothing of either side.
        """
        return (
            self._joins
            and (evidence.similarity or 0) >= SURE_SIMILARITY
            and not one.is_spoken_of
            and not (one.is_poor or other.is_poor)
        )

    async def _pairs(
        self, reader: DoubtReads, changed: Sequence[DoubtfulPerson], limit: float
    ) -> tuple[list[AskedPair], dict[ClusterId, DoubtfulPerson]]:
        """The pairs of people who may be one, each once, and the people near those who changed."""
        found: dict[frozenset[ClusterId], AskedPair] = {}
        met: dict[ClusterId, DoubtfulPerson] = {}
        for start in range(0, len(changed), _PROBES_AT_ONCE):
            some = changed[start : start + _PROBES_AT_ONCE]
            near = await reader.near(some, self._rule, _NEAR)
            met |= await reader.people({each for each_one in near for each in each_one})
            for person, ids in zip(some, near, strict=True):
                options = [met[each] for each in ids if each in met]
                for pair in self._near_pairs(person, options, limit):
                    key = frozenset((pair.person_id, pair.other_id))
                    found.setdefault(key, pair)
        together = await reader.photographed_together(
            [(each.person_id, each.other_id) for each in found.values()]
        )
        pairs = [each for each in found.values() if (each.person_id, each.other_id) not in together]
        return pairs, met

    def _near_pairs(
        self, person: DoubtfulPerson, options: Sequence[DoubtfulPerson], limit: float
    ) -> list[AskedPair]:
        """The pairs of most worth of a person and those near it."""
        if not options:
            return []
        distances = self._between(person, options)
        order = np.argsort(distances)
        pairs = []
        for place, nth in enumerate(order.tolist()):
            other, distance = options[nth], float(distances[nth])
            if other.hidden:
                continue
            # The one that the other joins, if it comes to that, stands second.
            one, two = sorted((person, other), key=_standing)
            beyond = order[place + 1] if place + 1 < len(order) else None
            following = None if beyond is None else float(distances[beyond])
            evidence = self._evidence_of_pair(one, two, distance, following, limit)
            if evidence.worth >= _LEAST_WORTH:
                pairs.append(AskedPair(one.person_id, two.person_id, evidence))
        return sorted(pairs, key=lambda each: -each.evidence.worth)[:_MOST_PAIRS]

    def _evidence_of_pair(
        self,
        one: DoubtfulPerson,
        other: DoubtfulPerson,
        distance: float,
        following: float | None,
        limit: float,
    ) -> Evidence:
        similarity = self._rule.limit.similarity(distance, limit)
        chance = chance_of_one_person(similarity, one.faces, other.faces)
        if len({one.label_key, other.label_key} - {None}) == 2:
            chance *= _CHANCE_OF_TWO_NAMES
        settles = pairs_settled(one.faces, other.faces)
        return Evidence(distance, following, similarity, settles, chance)

    def _between(
        self, person: DoubtfulPerson, others: Sequence[DoubtfulPerson]
    ) -> NDArray[np.float64]:
        return self._rule.distances_between(
            person.total,
            person.count,
            np.stack([each.total for each in others]),
            np.array([each.count for each in others]),
        )

    async def _odd(
        self,
        reader: DoubtReads,
        several: Sequence[DoubtfulPerson],
        told: Collection[ClusterId],
        limit: float,
    ) -> tuple[list[AskedOddFace], dict[FaceId, Evidence]]:
        """The faces of people with several that belong there the least, as far as they are known.

        Args:
            told: people with a face of which it is asked, or was said, whether it belongs there. Of
                two faces that is the same of both.

        Returns:
            New questions, and the evidence of the faces that are asked about already.
        """
        far: list[tuple[Evidence, DoubtfulFace]] = []
        of_asked: dict[FaceId, Evidence] = {}
        for person in several:  # one by one: requests are served in between
            faces = await reader.faces([person.person_id])
            found = await asyncio.to_thread(self._evidence_of_faces, person, faces, limit)
            of_asked |= {
                face.face_id: each for face, each in zip(faces, found, strict=True) if face.is_asked
            }
            odd = [
                (each, face)
                for face, each in zip(faces, found, strict=True)
                if not (face.is_placed or face.is_asked)
                and each.chance >= _LEAST_CHANCE
                and each.worth >= _LEAST_WORTH
            ]
            most = _MOST_ODD_FACES if person.count > 2 else int(person.person_id not in told)
            far += sorted(odd, key=lambda each: -each[0].worth)[:most]
        asked = []
        for start in range(0, len(far), _PROBES_AT_ONCE):
            some = far[start : start + _PROBES_AT_ONCE]
            nearest = await reader.near_faces([face for _, face in some], self._rule)
            for (known, face), (other_id, distance) in zip(some, nearest, strict=True):
                evidence = replace(known, other_distance=distance)
                asked.append(AskedOddFace(face.face_id, face.person_id, other_id, evidence))
        return asked, of_asked

    def _evidence_of_faces(
        self, person: DoubtfulPerson, faces: Sequence[DoubtfulFace], limit: float
    ) -> list[Evidence]:
        """The evidence of each face: that it is a stranger, or one of a whole half of strangers.

        Args:
            faces: the newest of the person.
        """
        found = [self._evidence_of_face(face.embedding, person, limit) for face in faces]
        farthest = max((each.distance or 0 for each in found), default=0)
        found = [
            each
            if each.distance == farthest
            else replace(each, chance=_NOT_THE_FARTHEST * each.chance)
            for each in found
        ]
        if len(faces) < _FEWEST_FACES_OF_TWO:
            return found
        vectors = np.stack([face.embedding for face in faces]).astype(np.float64)
        half = halves(vectors)
        members: list[int] = np.flatnonzero(half).tolist()
        if not members or any(faces[nth].is_placed for nth in members):
            return found
        some, others = vectors[half].sum(axis=0), vectors[~half].sum(axis=0)
        few, many = len(members), len(faces) - len(members)
        (distance,) = self._rule.distances_between(
            some, few, others[np.newaxis], np.array([float(many)])
        ).tolist()
        similarity = self._rule.limit.similarity(distance, limit)
        chance = chance_of_two_people(similarity, few + many)
        # One face stands for its half; the others come after it, where the half is likely another
        # person.
        typical = int(np.argmax(np.where(half, vectors @ some, -np.inf)))
        for nth in members:
            settles = pairs_settled(few, many) if nth == typical else found[nth].settles
            one = replace(found[nth], settles=settles, chance=chance)
            if one.worth > found[nth].worth and (nth == typical or chance >= _LIKELY):
                found[nth] = one
        return found

    def _evidence_of_face(
        self, embedding: NDArray[np.float32], person: DoubtfulPerson, limit: float
    ) -> Evidence:
        distance = self._to_rest(embedding, person)
        similarity = self._rule.limit.similarity(distance, limit)
        chance = chance_of_a_stranger(similarity, person.faces - 1)
        return Evidence(distance, None, similarity, pairs_settled(1, person.faces - 1), chance)

    def _to_rest(self, embedding: NDArray[np.float32], person: DoubtfulPerson) -> float:
        """The distance of a face to the other faces of its person."""
        return self._to_sum(embedding, person.total - embedding, person.count - 1)

    def _to_sum(
        self, embedding: NDArray[np.float32], total: NDArray[np.float64], count: float
    ) -> float:
        (distance,) = self._rule.distances(embedding, total[np.newaxis], np.array([count]))
        return float(distance)

    def _fresh(
        self,
        asked: Sequence[AskedQuestion],
        people: Mapping[ClusterId, DoubtfulPerson],
        of_faces: Mapping[FaceId, Evidence],
        of_pairs: Mapping[frozenset[ClusterId], Evidence],
        limit: float,
    ) -> tuple[tuple[ReviewId, Evidence], ...]:
        """The evidence of open questions, where it changed.

        Args:
            people: those who changed, and all about whom something is asked together with them.
            of_faces: of the faces of those who changed, without the distance to another person.
            of_pairs: of pairs of people of whom one changed.
        """
        fresh = []
        for each in asked:
            person = people.get(each.person_id)
            other = None if each.other_id is None else people.get(each.other_id)
            if person is None:
                continue
            if each.kind is ReviewKind.NEW_PERSON:
                evidence = Evidence(None, None, None, person.faces, _CHANCE_OF_A_NAME)
            elif each.kind is ReviewKind.SAME_PERSON and other is not None:
                measured = of_pairs.get(frozenset((person.person_id, other.person_id)))
                evidence = measured or self._evidence_of_asked(each, person, other, limit)
            elif each.face_id is not None and each.embedding is not None:
                to_other = None
                if other is not None:
                    to_other = self._to_sum(each.embedding, other.total, other.count)
                known = of_faces.get(each.face_id, each.evidence)
                evidence = replace(known, other_distance=to_other)
            else:
                continue
            if _differs(each.evidence, evidence):
                fresh.append((each.review_id, evidence))
        return tuple(fresh)

    def _evidence_of_asked(
        self, asked: AskedQuestion, one: DoubtfulPerson, other: DoubtfulPerson, limit: float
    ) -> Evidence:
        """The evidence of a pair that is asked about; who follows is not looked for again."""
        (distance,) = self._between(one, [other]).tolist()
        return self._evidence_of_pair(one, other, distance, asked.evidence.other_distance, limit)


class AskingSchedule:
    """Looks for questions at once, and then periodically, until its task is cancelled.

    Args:
        on_asked: called after each round. on_failure: called after each one that failed as a whole.
    """

    def __init__(
        self, *, on_asked: Callable[[AskingCounts], None], on_failure: Callable[[], None]
    ) -> None:
        self._on_asked = on_asked
        self._on_failure = on_failure
        self._ask: AskQuestions | None = None
        self._interval_s = 0.0
        self._changed = asyncio.Event()

    def follow(self, ask: AskQuestions, interval_s: float) -> None:
        """Look with another model or rule after the current look; an interval of 0 turns it off."""
        self._ask, self._interval_s = ask, interval_s
        self._changed.set()

    async def run(self) -> None:
        """Look periodically, until cancelled."""
        while True:
            self._changed.clear()
            interval_s = self._interval_s
            if self._ask is not None and interval_s:
                await self._once(self._ask)
            try:
                async with asyncio.timeout(interval_s or None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _once(self, ask: AskQuestions) -> None:
        try:
            counts = await ask()
        except Exception as error:  # a failed look must not end the schedule
            _log_failure("questions", error)
            self._on_failure()
        else:
            if counts is not None:
                self._on_asked(counts)


def _log_failure(what: str, error: Exception) -> None:
    if isinstance(error, FacetteError):
        _logger.warning("%s could not be looked for: %s", what, error.message)
    else:
        _logger.error("%s could not be looked for", what, exc_info=error)


def _standing(person: DoubtfulPerson) -> tuple[bool, bool, int]:
    return person.label_key is not None, person.is_spoken_of, person.faces


def _differs(before: Evidence, now: Evidence) -> bool:
    """Whether a question is to be written anew, for its place in the order or for what it says."""
    if abs(now.worth - before.worth) > _SAME_WORTH * before.worth:
        return True
    distances = zip(_distances(before), _distances(now), strict=True)
    return any(
        one is not other if one is None or other is None else abs(one - other) > _SAME_DISTANCE
        for one, other in distances
    )


def _distances(evidence: Evidence) -> tuple[float | None, float | None]:
    return evidence.distance, evidence.other_distance
