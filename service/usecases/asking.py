"""Looks for questions that only a person can answer: who may be one, and who does not belong.

Only people who changed since the last look are looked at, each among those who look most like them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

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
    Unasked,
    chance_of_a_stranger,
    chance_of_one_person,
    chance_of_two_people,
    chances_of_each,
    halves,
    pairs_settled,
)
from service.domain.errors import FacetteError, ModelReplacedError, NotFoundError
from service.domain.matching import DistanceLimit, MatchRule
from service.domain.reviews import ReviewKind
from service.domain.types import ClusterId, FaceId, ModelSpace, ReviewId, TenantId
from service.usecases.ports import AskingStore, AskingTurns, Deferring, DoubtReads

_logger = logging.getLogger(__name__)

# Of each person who changed so many others are measured, and so many asked about in one look.
_NEAR = 8
_MOST_PAIRS = 3
_PROBES_AT_ONCE = 8
_PEOPLE_AT_ONCE = 64
# Of a pair of less worth it is not looked who else the smaller one may be.
_WORTH_A_SEARCH = 0.1
# So many faces of a person are asked about in one look.
_MOST_ODD_FACES = 8
# A question of less worth is not asked: fifty answers would put one pair of faces right.
_LEAST_WORTH = 0.02
# A face of this similarity to the others of its person is not compared with other people.
_SURELY_OF_A_PERSON = 0.999
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
# To choose one of those who look alike takes longer than to compare two.
_CHOICE = 0.95
# Who was named is seldom one with somebody of more faces: those who looked alike were offered.
_CHANCE_AFTER_NAMING = 0.1
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
        deference: lets requests go first; without it a look does not rest.
    """

    def __init__(
        self,
        store: AskingStore,
        turns: AskingTurns,
        *,
        space: ModelSpace,
        rule: MatchRule,
        joins: bool,
        deference: Deferring | None = None,
    ) -> None:
        self._store = store
        self._turns = turns
        self._space = space
        self._rule = rule
        self._joins = joins
        self._deference = deference or _NoDeference()

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
                findings = await self._look(reader, unasked)
            async with (
                self._deference.piece(),
                self._store.asking(tenant_id, unasked.position) as writer,
            ):
                made = await writer.write(findings)
            joined = 0
            for pair in findings.joined:
                async with self._deference.piece(), self._store.writing(tenant_id) as tenant:
                    joined += await tenant.rejoin(pair.person_id, pair.other_id)
            await self._deference.rest()
            counts += AskingCounts(len(unasked.people), made, joined)
            if unasked.is_all:
                break
        return counts

    async def _look(self, reader: DoubtReads, unasked: Unasked) -> Findings:
        person_ids = unasked.people
        async with self._deference.piece():
            asked = await reader.asked(list(person_ids))
        about = {each.other_id for each in asked if each.other_id} | {
            each.person_id for each in asked
        }
        people = await self._people(reader, about.union(person_ids))
        changed = [people[each] for each in person_ids if each in people]
        shown = [each for each in changed if not each.hidden]
        limit = self._rule.limit.at(reader.number_of_people, factor=reader.match_factor)
        scale = _Scale(self._rule.limit, limit, unasked.faces / max(1, reader.number_of_people))
        rivals = {
            frozenset((each.person_id, each.other_id)): each.evidence.other_distance
            for each in asked
            if each.kind is ReviewKind.SAME_PERSON and each.other_id is not None
        }
        # Who is still to be looked at is not asked for beforehand.
        searches = unasked.is_all
        pairs, near = await self._pairs(reader, shown, rivals, scale, searches=searches)
        who = {each.person_id: self._who(each, near[each.person_id], scale) for each in shown}
        others = {each.person_id: each for some in near.values() for each in some}
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
        async with self._deference.piece():
            fresh = await asyncio.to_thread(
                self._fresh, asked, people, of_faces, of_pairs, who, scale
            )
        return Findings(
            tuple(each for each in pairs if each not in joined),
            tuple(odd),
            fresh,
            joined,
        )

    async def _people(
        self, reader: DoubtReads, person_ids: Collection[ClusterId]
    ) -> dict[ClusterId, DoubtfulPerson]:
        found: dict[ClusterId, DoubtfulPerson] = {}
        asked = list(person_ids)
        for start in range(0, len(asked), _PEOPLE_AT_ONCE):
            async with self._deference.piece():
                found |= await reader.people(asked[start : start + _PEOPLE_AT_ONCE])
        return found

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
        self,
        reader: DoubtReads,
        changed: Sequence[DoubtfulPerson],
        rivals: Mapping[frozenset[ClusterId], float | None],
        scale: _Scale,
        *,
        searches: bool,
    ) -> tuple[list[AskedPair], dict[ClusterId, list[DoubtfulPerson]]]:
        """The pairs of people who may be one, each once.

        Args:
            rivals: of the pairs that are asked about, as far as they were known.
            searches: whether those are searched for who did not change.

        Returns:
            The pairs, and of each of those who changed the people near, the nearest first.
        """
        near = await self._nearest(reader, changed)
        likely: dict[frozenset[ClusterId], AskedPair] = {}
        met = {each.person_id: each for each in changed}
        for person in changed:
            met |= {each.person_id: each for each in near[person.person_id]}
            for pair in self._likely_pairs(person, near[person.person_id], scale):
                likely.setdefault(frozenset((pair.person_id, pair.other_id)), pair)
        # Who else the smaller one may be is asked for, too.
        smaller = {
            one.person_id: one
            for key, pair in likely.items()
            if searches
            and rivals.get(key) is None
            and pair.evidence.worth >= _WORTH_A_SEARCH
            and (one := _smaller(met[pair.person_id], met[pair.other_id])).person_id not in near
        }
        near |= await self._nearest(reader, list(smaller.values()))
        found = [
            self._beside_others(
                pair, met[pair.person_id], met[pair.other_id], near, rivals.get(key), scale
            )
            for key, pair in likely.items()
        ]
        asked = [each for each in found if each.evidence.worth >= _LEAST_WORTH]
        together = await reader.photographed_together(
            [(each.person_id, each.other_id) for each in asked]
        )
        pairs = [each for each in asked if (each.person_id, each.other_id) not in together]
        return pairs, near

    async def _nearest(
        self, reader: DoubtReads, people: Sequence[DoubtfulPerson]
    ) -> dict[ClusterId, list[DoubtfulPerson]]:
        """Of each person those who look most like it, and are not said to be somebody else."""
        found: dict[ClusterId, list[DoubtfulPerson]] = {}
        for start in range(0, len(people), _PROBES_AT_ONCE):
            some = people[start : start + _PROBES_AT_ONCE]
            async with self._deference.piece():
                near = await reader.near(some, self._rule, _NEAR)
                others = await reader.people({each for each_one in near for each in each_one})
                apart = await reader.kept_apart([*others, *(each.person_id for each in some)])
            for person, ids in zip(some, near, strict=True):
                found[person.person_id] = [
                    others[each]
                    for each in ids
                    if each in others and (person.person_id, each) not in apart
                ]
        return found

    def _who(
        self,
        person: DoubtfulPerson,
        near: Sequence[DoubtfulPerson],
        scale: _Scale,
    ) -> Evidence:
        """The evidence of the question who somebody is: perhaps one of those who are near."""
        name = Evidence(None, None, None, person.faces, _CHANCE_OF_A_NAME)
        others = [each for each in near if not each.hidden and each.faces >= person.faces]
        if not others:
            return name
        chances = [
            chance_of_one_person(scale.similarity(distance), person.faces, other.faces)
            for other, distance in zip(others, self._between(person, others).tolist(), strict=True)
        ]
        if person.faces == 1:
            chances = chances_of_each(chances, scale.faces_per_person)
        settled = [pairs_settled(person.faces, each.faces) for each in others]
        total = sum(chances)
        if total == 0:
            return name
        settles = sum(pairs * each for pairs, each in zip(settled, chances, strict=True)) / total
        chance = _CHOICE * min(1.0, total)
        one_of_them = Evidence(None, None, None, max(1, round(settles)), chance)
        return max(name, one_of_them, key=lambda each: each.worth)

    def _likely_pairs(
        self, person: DoubtfulPerson, near: Sequence[DoubtfulPerson], scale: _Scale
    ) -> list[AskedPair]:
        """The pairs of most worth of a person and those near it, whoever else they may be."""
        if not near:
            return []
        pairs = []
        for other, distance in zip(near, self._between(person, near).tolist(), strict=True):
            # The one that the other joins, if it comes to that, stands second.
            one, two = sorted((person, other), key=_standing)
            evidence = self._evidence_of_pair(one, two, distance, None, scale)
            if not other.hidden and evidence.worth >= _LEAST_WORTH:
                pairs.append(AskedPair(one.person_id, two.person_id, evidence))
        return sorted(pairs, key=lambda each: -each.evidence.worth)[:_MOST_PAIRS]

    def _beside_others(
        self,
        pair: AskedPair,
        one: DoubtfulPerson,
        other: DoubtfulPerson,
        near: Mapping[ClusterId, Sequence[DoubtfulPerson]],
        rival: float | None,
        scale: _Scale,
    ) -> AskedPair:
        """A pair by who else the smaller of both may be: the nearest who is not like the larger.

        Args:
            rival: the distance to that one, as it was known before.
        """
        smaller = _smaller(one, other)
        larger = other if smaller is one else one
        rest = [
            each for each in near.get(smaller.person_id, ()) if each.person_id != larger.person_id
        ]
        if pair.evidence.distance is None:
            return pair
        if rest:
            apart = self._between(larger, rest) > scale.limit
            rival = min(self._between(smaller, rest)[apart].tolist(), default=None)
        evidence = self._evidence_of_pair(one, other, pair.evidence.distance, rival, scale)
        return replace(pair, evidence=evidence)

    def _evidence_of_pair(
        self,
        one: DoubtfulPerson,
        other: DoubtfulPerson,
        distance: float,
        rival: float | None,
        scale: _Scale,
    ) -> Evidence:
        similarity = scale.similarity(distance)
        smaller = _smaller(one, other)
        beside = None if rival is None else scale.similarity(rival)
        if beside is None or smaller.faces > 1:
            chance = chance_of_one_person(similarity, one.faces, other.faces, beside)
        else:
            more = max(one.faces, other.faces)
            both = [chance_of_one_person(each, 1, more) for each in (similarity, beside)]
            chance = chances_of_each(both, scale.faces_per_person)[0]
        if smaller.label_key is not None:
            chance *= _CHANCE_AFTER_NAMING
        settles = pairs_settled(one.faces, other.faces)
        return Evidence(distance, rival, similarity, settles, chance)

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
        suspects: list[_Suspect] = []
        for person in several:  # one by one: requests are served in between
            async with self._deference.piece():
                faces = await reader.faces([person.person_id])
                suspects += await asyncio.to_thread(self._suspects, person, faces, limit)
        odd: dict[ClusterId, list[AskedOddFace]] = {}
        of_asked: dict[FaceId, Evidence] = {}
        for start in range(0, len(suspects), _PROBES_AT_ONCE):
            some = suspects[start : start + _PROBES_AT_ONCE]
            async with self._deference.piece():
                nearest = await reader.near_faces([each.face for each in some], self._rule)
            for suspect, (other_id, distance) in zip(some, nearest, strict=True):
                evidence, face = self._evidence_of_face(suspect, distance, limit), suspect.face
                if face.is_asked:
                    of_asked[face.face_id] = evidence
                elif evidence.chance >= _LEAST_CHANCE and evidence.worth >= _LEAST_WORTH:
                    asked = AskedOddFace(face.face_id, face.person_id, other_id, evidence)
                    odd.setdefault(face.person_id, []).append(asked)
        found: list[AskedOddFace] = []
        for person in several:
            most = _MOST_ODD_FACES if person.count > 2 else int(person.person_id not in told)
            best = sorted(odd.get(person.person_id, ()), key=lambda each: -each.evidence.worth)
            found += best[:most]
        return found, of_asked

    def _suspects(
        self, person: DoubtfulPerson, faces: Sequence[DoubtfulFace], limit: float
    ) -> list[_Suspect]:
        """The faces that belong to a person the least, and those that are asked about.

        Args:
            faces: the newest of the person.
        """
        distances = [self._to_rest(face.embedding, person) for face in faces]
        similarities = [self._rule.limit.similarity(each, limit) for each in distances]
        farthest = max(distances, default=0)
        of_half = self._half(faces, limit)
        suspects = []
        far = 0
        for nth in np.argsort(distances)[::-1].tolist():
            face = faces[nth]
            if not face.is_asked:
                far += similarities[nth] < _SURELY_OF_A_PERSON and not face.is_placed
                is_far = far <= _MOST_ODD_FACES and similarities[nth] < _SURELY_OF_A_PERSON
                if face.is_placed or not (is_far or nth in of_half):
                    continue
            suspects.append(
                _Suspect(
                    face,
                    person.faces - 1,
                    distances[nth],
                    similarities[nth],
                    distances[nth] == farthest,
                    of_half.get(nth),
                )
            )
        return suspects

    def _half(self, faces: Sequence[DoubtfulFace], limit: float) -> dict[int, tuple[int, float]]:
        """The faces that may be another person together, and what each one would settle.

        Returns:
            By the position of a face the pairs that it settles and the chance. One face stands for
            all of them; the others come after it, where they are likely another person.
        """
        if len(faces) < _FEWEST_FACES_OF_TWO:
            return {}
        vectors = np.stack([face.embedding for face in faces]).astype(np.float64)
        half = halves(vectors)
        members: list[int] = np.flatnonzero(half).tolist()
        if not members or any(faces[nth].is_placed for nth in members):
            return {}
        some, others = vectors[half].sum(axis=0), vectors[~half].sum(axis=0)
        few, many = len(members), len(faces) - len(members)
        (distance,) = self._rule.distances_between(
            some, few, others[np.newaxis], np.array([float(many)])
        ).tolist()
        chance = chance_of_two_people(self._rule.limit.similarity(distance, limit), few + many)
        typical = int(np.argmax(np.where(half, vectors @ some, -np.inf)))
        alone = pairs_settled(1, len(faces) - 1)
        found = {nth: (alone, chance) for nth in members if chance >= _LIKELY}
        found[typical] = (pairs_settled(few, many), chance)
        return found

    def _evidence_of_face(
        self, suspect: _Suspect, to_other: float | None, limit: float
    ) -> Evidence:
        """The evidence that a face is a stranger, or one of a whole half of strangers."""
        other = None if to_other is None else self._rule.limit.similarity(to_other, limit)
        chance = chance_of_a_stranger(
            suspect.similarity, suspect.others, other=other, is_farthest=suspect.is_farthest
        )
        settles = pairs_settled(1, suspect.others)
        alone = Evidence(suspect.distance, to_other, suspect.similarity, settles, chance)
        if suspect.of_half is None:
            return alone
        settles, chance = suspect.of_half
        together = replace(alone, settles=settles, chance=chance)
        return max(alone, together, key=lambda each: each.worth)

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
        who: Mapping[ClusterId, Evidence],
        scale: _Scale,
    ) -> tuple[tuple[ReviewId, Evidence], ...]:
        """The evidence of open questions, where it changed.

        Args:
            people: those who changed, and all about whom something is asked together with them.
            of_faces: of the faces of those who changed, without the distance to another person.
            of_pairs: of pairs of people of whom one changed.
            who: of the questions who those are who changed.
        """
        fresh = []
        for each in asked:
            person = people.get(each.person_id)
            other = None if each.other_id is None else people.get(each.other_id)
            if person is None:
                continue
            if each.kind is ReviewKind.NEW_PERSON:
                evidence = who.get(person.person_id, each.evidence)
            elif each.kind is ReviewKind.SAME_PERSON and other is not None:
                measured = of_pairs.get(frozenset((person.person_id, other.person_id)))
                evidence = measured or self._evidence_of_asked(each, person, other, scale)
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
        self, asked: AskedQuestion, one: DoubtfulPerson, other: DoubtfulPerson, scale: _Scale
    ) -> Evidence:
        """The evidence of a pair that is asked about; who follows is not looked for again."""
        (distance,) = self._between(one, [other]).tolist()
        return self._evidence_of_pair(one, other, distance, asked.evidence.other_distance, scale)


class _NoDeference:
    def piece(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def rest(self) -> None:
        return


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


@dataclass(frozen=True, slots=True)
class _Scale:
    """What a distance says in a tenant: by the limit of a match, and how many faces people have."""

    rule: DistanceLimit
    limit: float
    faces_per_person: float

    def similarity(self, distance: float) -> float:
        """As `DistanceLimit.similarity`."""
        return self.rule.similarity(distance, self.limit)


@dataclass(frozen=True, slots=True, eq=False)
class _Suspect:
    """A face that may not belong to its person.

    others: the number of the other faces of the person; distance, similarity: to them. of_half: the
    pairs that an answer for its half of the person settles, and the chance.
    """

    face: DoubtfulFace
    others: int
    distance: float
    similarity: float
    is_farthest: bool
    of_half: tuple[int, float] | None


def _smaller(one: DoubtfulPerson, other: DoubtfulPerson) -> DoubtfulPerson:
    return min(one, other, key=lambda each: (each.faces, each.person_id))


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
