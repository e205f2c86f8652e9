"""Looks for questions that only a person can answer: who may be one, and who does not belong.

Only people who changed since the last look are looked at, each among those who look most like them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

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
)
from service.domain.errors import FacetteError, NotFoundError
from service.domain.matching import MatchRule
from service.domain.reviews import ReviewKind
from service.domain.types import ClusterId, ModelSpace, ReviewId, TenantId
from service.usecases.ports import AskingStore, AskingTurns, DoubtReads

_logger = logging.getLogger(__name__)

# Of each person who changed so many others are measured, and asked about at most.
_NEAR = 3
_PROBES_AT_ONCE = 32
# A person needs so many faces before one of them can be odd, and that many are asked about at once.
_FEWEST_FACES = 3
_MOST_ODD_FACES = 8
# The machine itself joins people only where a thousandth as many strangers are as near as at the
# limit of a match.
SURE_SIMILARITY = 0.999
# As the statements of inserts have it. A name moves no face, and is best asked for once the faces
# of a person are joined: each joining saves a name.
_CHANCE_OF_A_NAME = 0.001
# Of two clusters of the labelled photos at this similarity about one pair in seven is one person;
# of those below, one in forty.
_LEAST_SIMILARITY = 0.01
# Two people who have different names are seldom one.
_CHANCE_OF_TWO_NAMES = 0.25
# The evidence of a question that was put off has changed by more than this.
_CHANGED_DISTANCE = 0.02
_CHANGED_FACES = 0.5
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

        Raises:
            StoreUnavailableError: the database does not answer.
            ModelReplacedError: the database is searched by another model.
        """
        counts = AskingCounts()
        async with self._turns.take() as tenants:
            if tenants is None:
                return None
            for tenant_id in tenants:
                try:
                    counts += await self.of_tenant(tenant_id)
                except NotFoundError:  # it was deleted meanwhile
                    continue
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
        pairs = await self._pairs(reader, shown, limit)
        joined = tuple(each for each in pairs if self._is_sure(each, people))
        return Findings(
            tuple(each for each in pairs if each not in joined),
            tuple(await self._odd(reader, shown, limit)),
            tuple(self._fresh(asked, people, limit)),
            joined,
        )

    def _is_sure(self, pair: AskedPair, people: dict[ClusterId, DoubtfulPerson]) -> bool:
        if not self._joins or (pair.evidence.similarity or 0) < SURE_SIMILARITY:
            return False
        person = people.get(pair.person_id)
        return person is not None and not person.is_spoken_of

    async def _pairs(
        self, reader: DoubtReads, changed: Sequence[DoubtfulPerson], limit: float
    ) -> list[AskedPair]:
        """The pairs of people who may be one, each once."""
        found: dict[frozenset[ClusterId], AskedPair] = {}
        for start in range(0, len(changed), _PROBES_AT_ONCE):
            some = changed[start : start + _PROBES_AT_ONCE]
            near = await reader.near(some, self._rule, _NEAR)
            others = await reader.people({each for each_one in near for each in each_one})
            for person, ids in zip(some, near, strict=True):
                options = [others[each] for each in ids if each in others]
                for pair in self._near_pairs(person, options, limit):
                    key = frozenset((pair.person_id, pair.other_id))
                    found.setdefault(key, pair)
        together = await reader.photographed_together(
            [(each.person_id, each.other_id) for each in found.values()]
        )
        return [each for each in found.values() if (each.person_id, each.other_id) not in together]

    def _near_pairs(
        self, person: DoubtfulPerson, options: Sequence[DoubtfulPerson], limit: float
    ) -> Iterable[AskedPair]:
        if not options:
            return
        distances = self._between(person, options)
        order = np.argsort(distances)
        for place, nth in enumerate(order.tolist()):
            other, distance = options[nth], float(distances[nth])
            similarity = self._rule.limit.similarity(distance, limit)
            if similarity < _LEAST_SIMILARITY or other.hidden:
                continue
            # The one that the other joins, if it comes to that, stands second.
            one, two = sorted((person, other), key=_standing)
            beyond = order[place + 1] if place + 1 < len(order) else None
            following = None if beyond is None else float(distances[beyond])
            yield AskedPair(
                one.person_id,
                two.person_id,
                _evidence_of_pair(one, two, distance, following, similarity),
            )

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
        self, reader: DoubtReads, changed: Sequence[DoubtfulPerson], limit: float
    ) -> list[AskedOddFace]:
        """Faces beyond the limit to the others of their person, and nearer to another person."""
        several = {each.person_id: each for each in changed if each.count >= _FEWEST_FACES}
        by_person: dict[ClusterId, list[tuple[float, DoubtfulFace]]] = {}
        for person_id, person in several.items():  # one by one: requests are served in between
            for face in await reader.faces([person_id]):
                distance = self._to_rest(face.embedding, person)
                if distance > limit:
                    by_person.setdefault(person_id, []).append((distance, face))
        far = [
            each
            for faces in by_person.values()
            for each in sorted(faces, key=lambda item: -item[0])[:_MOST_ODD_FACES]
        ]
        odd = []
        for start in range(0, len(far), _PROBES_AT_ONCE):
            some = far[start : start + _PROBES_AT_ONCE]
            nearest = await reader.near_faces([face for _, face in some], self._rule)
            for (distance, face), other in zip(some, nearest, strict=True):
                if other is None or other[1] >= distance:
                    continue
                similarity = self._rule.limit.similarity(distance, limit)
                evidence = Evidence(distance, other[1], similarity, 1, 1 - similarity)
                odd.append(AskedOddFace(face.face_id, face.person_id, other[0], evidence))
        return odd

    def _to_rest(self, embedding: NDArray[np.float32], person: DoubtfulPerson) -> float:
        """The distance of a face to the other faces of its person."""
        rest = person.total - embedding
        (distance,) = self._rule.distances(
            embedding, rest[np.newaxis], np.array([person.count - 1.0])
        )
        return float(distance)

    def _fresh(
        self, asked: Sequence[AskedQuestion], people: dict[ClusterId, DoubtfulPerson], limit: float
    ) -> Iterable[tuple[ReviewId, Evidence]]:
        """The evidence of open questions; of one that was put off where it changed."""
        for each in asked:
            evidence = self._evidence(each, people, limit)
            if evidence is not None and not (each.is_put_off and not _differs(each, evidence)):
                yield each.review_id, evidence

    def _evidence(
        self, asked: AskedQuestion, people: dict[ClusterId, DoubtfulPerson], limit: float
    ) -> Evidence | None:
        person = people.get(asked.person_id)
        other = None if asked.other_id is None else people.get(asked.other_id)
        if person is None:
            return None
        if asked.kind is ReviewKind.NEW_PERSON:
            return Evidence(None, None, None, person.faces, _CHANCE_OF_A_NAME)
        if asked.kind is ReviewKind.SAME_PERSON:
            if other is None:
                return None
            (distance,) = self._between(person, [other]).tolist()
            similarity = self._rule.limit.similarity(distance, limit)
            return _evidence_of_pair(person, other, distance, None, similarity)
        if asked.embedding is None or person.count < 2:
            return None
        distance = self._to_rest(asked.embedding, person)
        to_other = None
        if other is not None:
            (to_other,) = self._rule.distances(
                asked.embedding, other.total[np.newaxis], np.array([other.count])
            ).tolist()
        similarity = self._rule.limit.similarity(distance, limit)
        return Evidence(distance, to_other, similarity, 1, 1 - similarity)


class AskingSchedule:
    """Looks for questions at once, and then periodically, until its task is cancelled.

    Args:
        on_asked: called after each look. on_failure: called after each failed one.
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
        except FacetteError as error:
            _logger.warning("questions could not be looked for: %s", error.message)
            self._on_failure()
        except Exception:  # a failed look must not end the schedule
            _logger.exception("questions could not be looked for")
            self._on_failure()
        else:
            if counts is not None:
                self._on_asked(counts)


def _standing(person: DoubtfulPerson) -> tuple[bool, bool, int]:
    return person.label_key is not None, person.is_spoken_of, person.faces


def _evidence_of_pair(
    one: DoubtfulPerson,
    other: DoubtfulPerson,
    distance: float,
    following: float | None,
    similarity: float,
) -> Evidence:
    names = {one.label_key, other.label_key} - {None}
    chance = similarity * (_CHANCE_OF_TWO_NAMES if len(names) == 2 else 1)
    return Evidence(distance, following, similarity, min(one.faces, other.faces), chance)


def _differs(asked: AskedQuestion, evidence: Evidence) -> bool:
    """Whether the evidence of a question is another than when somebody was not sure."""
    if abs(evidence.settles - asked.settles) > _CHANGED_FACES * asked.settles:
        return True
    if asked.distance is None or evidence.distance is None:
        return asked.distance is not evidence.distance
    return abs(evidence.distance - asked.distance) > _CHANGED_DISTANCE
