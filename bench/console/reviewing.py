"""Labelled photos, reviewed by a program that sees and presses what a person would.

The program knows whom each labelled face shows. It reads the faces of a question from the page,
answers by keyboard, and marks faces of others first where the page offers that. Beside it stands
who looks at every face in the order of the photos and says whose it is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
from playwright.async_api import BrowserContext, Page

from bench.accuracy.joining import Clustering, judge
from bench.accuracy.people import Labels
from bench.common.photos import people_folder, photo_paths
from bench.console.place import Place, noted, wait
from service.domain.types import TenantId

TENANT = "reviewed"
_PHOTOS, _QUICK_PHOTOS = 1000, 40
# Pairs of faces are what is judged: somebody with one photo has none.
_LEAST_PHOTOS, _MOST_PHOTOS = 2, 20
_CLIENTS = 4
_RECALL, _PRECISION = 0.99, 0.999
_LOOKS = 40
_FEWEST_DECISIONS, _MOST_DECISIONS = 5, 5000
_NO_QUESTION_S = 30.0
# So long one question stays on the screen at most, or its faces are away.
_PATIENCE_S = 15.0

# The question on the screen, once all of its faces are to be seen: its id, its kind, and the faces
# of each side. False while it is not there yet.
_QUESTION = """(before) => {
    const shown = document.querySelector("section.question");
    if (!shown) return document.querySelector(".review .state") ? { id: null } : false;
    if (shown.dataset.id === before) return false;
    // What is not in sight is not loaded.
    const isWaited = (part) => part.getBoundingClientRect().top < innerHeight;
    if ([...shown.querySelectorAll(".side .skeleton, .side .picture.loading")].some(isWaited))
        return false;
    const idOf = (picture) => picture.src.match(/faces\\/([^/]+)\\/crop/)[1];
    return {
        id: shown.dataset.id,
        kind: shown.dataset.kind,
        sides: [...shown.querySelectorAll(".side")].map((side) =>
            [...side.querySelectorAll("img")].map(idOf)),
    };
}"""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labelled faces of a tenant, in the order of their photos.

    faces: their ids. people: int64 [n], whom each shows. names: of the people.
    """

    faces: Sequence[str]
    people: Labels
    names: Sequence[str]

    def name_of(self) -> dict[str, str]:
        """Whom each face shows."""
        return {
            face: self.names[person]
            for face, person in zip(self.faces, self.people.tolist(), strict=True)
        }


@dataclass(slots=True)
class Reviewed:
    """What a review came to.

    decisions: answers, and faces of others that were marked. seconds: at the page. question_ms,
    faces_ms: from the one key that answers to the next question, and to its faces. named_ms: from
    Enter behind a name to the next question. curve: outcome by decisions.
    """

    decisions: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    curve: list[tuple[int, Clustering]] = field(default_factory=list)
    question_ms: list[float] = field(default_factory=list)
    faces_ms: list[float] = field(default_factory=list)
    named_ms: list[float] = field(default_factory=list)

    @property
    def last(self) -> Clustering:
        """The outcome."""
        return self.curve[-1][1]

    def is_enough(self, recall: float = _RECALL, precision: float = _PRECISION) -> bool:
        """Whether pairs of faces are as good as wanted."""
        return self.last.recall >= recall and self.last.precision >= precision


async def insert(place: Place) -> Labelled:
    """Insert photos of people with several photos each, in random order; strangers are removed."""
    wanted = max(_QUICK_PHOTOS, round(_PHOTOS * place.effort.scale))
    if place.effort.quick:
        wanted = _QUICK_PHOTOS
    rng = random.Random(place.effort.seed or 0)  # noqa: S311
    people = [
        (name, paths[:_MOST_PHOTOS])
        for name, paths in photo_paths(people_folder()).items()
        if len(paths) >= _LEAST_PHOTOS
    ]
    # Enter takes whoever's name begins with what was typed.
    known = {name for name, _ in people}
    people = [
        (name, paths)
        for name, paths in people
        if not any(other != name and other.startswith(name) for other in known)
    ]
    rng.shuffle(people)
    photos: list[tuple[str, Path]] = []
    for name, paths in people:
        if len(photos) < wanted:
            photos += [(name, path) for path in paths]
    rng.shuffle(photos)
    waiting = list(enumerate(photos))[::-1]
    found: dict[int, tuple[str, str]] = {}

    async def work(client: httpx.AsyncClient) -> None:
        while waiting:
            number, (name, path) = waiting.pop()
            face = await _insert(client, path)
            if face is not None:
                found[number] = (face, name)

    async with place.service.async_client() as client:
        await client.post("/v1/tenants", json={"id": TENANT})
        await asyncio.gather(*(work(client) for _ in range(_CLIENTS)))
    order = sorted(found)
    names = sorted({name for _, name in found.values()})
    return Labelled(
        [found[each][0] for each in order],
        np.array([names.index(found[each][1]) for each in order], np.int64),
        [each.replace("_", " ") for each in names],
    )


async def _insert(client: httpx.AsyncClient, path: Path) -> str | None:
    """Insert a photo; its labelled face is the one nearest to the centre."""
    answer = await client.post(
        f"/v1/tenants/{TENANT}/images",
        content=await asyncio.to_thread(path.read_bytes),
        headers={"Content-Type": "image/jpeg"},
    )
    faces = answer.raise_for_status().json()["faces"]
    if not faces:
        return None
    image = await client.get(f"/v1/tenants/{TENANT}/images/{answer.json()['image_id']}")
    middle = (image.json()["width"] / 2, image.json()["height"] / 2)

    def off(face: dict[str, Any]) -> float:
        box = face["box"]
        x, y = (box["x1"] + box["x2"]) / 2, (box["y1"] + box["y2"]) / 2
        return float((x - middle[0]) ** 2 + (y - middle[1]) ** 2)

    nearest, *others = sorted(faces, key=off)
    for each in others:
        await client.delete(f"/v1/tenants/{TENANT}/faces/{each['id']}")
    return str(nearest["id"])


async def clusters(place: Place, labelled: Labelled) -> Labels:
    """The person that each face is in now, as a number: int64 [n]."""
    async with place.database.snapshot(TenantId(TENANT)) as connection:
        rows = await connection.fetch("SELECT face_id, cluster_id FROM face")
    of_face = {str(row["face_id"]): str(row["cluster_id"]) for row in rows}
    numbers = {each: number for number, each in enumerate(sorted(set(of_face.values())))}
    return np.array([numbers[of_face[face]] for face in labelled.faces], np.int64)


def face_by_face(begun: Labels, people: Labels, wanted: Clustering) -> Reviewed:
    """Decisions of who says of every face in order whose it is, from the same clusters.

    Until pairs are as good as wanted, or as good as they came to be otherwise.

    Counted and not pressed: each face is one decision, whatever page it is made on. The first face
    of a person names its cluster; faces of others leave it; the faces of a cluster that nobody
    looked at stay with its name.
    """
    found = Reviewed(curve=[(0, judge(begun, people))])
    now = begun + len(people)
    step = max(1, len(people) // (10 * _LOOKS))
    named: dict[int, int] = {}  # the cluster of each person
    taken: set[int] = set()
    fresh = int(now.max()) + 1
    for number, person in enumerate(people.tolist()):
        if person not in named:
            own = int(now[number])
            if own in taken:
                own, fresh = fresh, fresh + 1
            named[person] = own
            taken.add(own)
        now[number] = named[person]
        if (number + 1) % step == 0 or number + 1 == len(people):
            found.decisions = number + 1
            found.curve.append((number + 1, judge(now, people)))
            if found.is_enough(min(_RECALL, wanted.recall), min(_PRECISION, wanted.precision)):
                break
    return found


class Reviewer:
    """Answers the questions of the page, as whoever knows everybody would."""

    def __init__(self, place: Place, labelled: Labelled, page: Page) -> None:
        self._place = place
        self._labelled = labelled
        self._name_of = labelled.name_of()
        self._page = page
        self._every = max(1, len(labelled.faces) // _LOOKS)

    async def work(self) -> Reviewed:
        """Answer until pairs are good enough, or nothing is asked any more."""
        found = Reviewed(curve=[(0, await self._judged())])
        await self._page.goto(f"{self._place.service.url}/console/review")
        before, looked = "", 0
        while (
            not found.is_enough() or found.decisions < _FEWEST_DECISIONS
        ) and found.decisions < _MOST_DECISIONS:
            began = time.perf_counter()
            question = await self._next(before, found)
            if question is None:
                break
            before = question["id"]
            found.decisions += await self._answer(question)
            found.seconds += time.perf_counter() - began
            found.kinds[question["kind"]] += 1
            if found.decisions - looked >= self._every:
                looked = found.decisions
                await self._settled()
                found.curve.append((looked, await self._judged()))
        await self._settled()
        found.curve.append((found.decisions, await self._judged()))
        await self._keep_presses(found)
        return found

    async def _keep_presses(self, found: Reviewed) -> None:
        presses = (await noted(self._page))["presses"]
        for press in presses:
            if press["question"] and press["key"] == "Enter":
                found.named_ms.append(press["question"])
            elif press["question"]:
                found.question_ms.append(press["question"])
            if press["faces"] and press["key"] != "Enter":
                found.faces_ms.append(press["faces"])

    async def _next(self, before: str, found: Reviewed) -> dict[str, Any] | None:
        """The question on the screen; None where nothing is asked for a while."""
        deadline = time.monotonic() + _NO_QUESTION_S
        while time.monotonic() < deadline:
            try:
                shown: dict[str, Any] = await asyncio.wait_for(
                    wait(self._page, _QUESTION, before), _PATIENCE_S
                )
                if shown["id"] is not None:
                    return shown
            except TimeoutError:
                # Whoever sits before it loads the page again as well.
                print(f"  question {before or 'none'} stayed for {_PATIENCE_S:.0f} s", flush=True)
            # The page asks again when something changed; what is asked next is looked for first.
            await asyncio.sleep(1)
            await self._keep_presses(found)
            await self._page.reload()
            before = ""
        return None

    async def _answer(self, question: dict[str, Any]) -> int:
        """Press what answers the question; how many decisions that was."""
        keyboard = self._page.keyboard
        (first, *others) = (
            [self._name_of.get(face, face) for face in side] for side in question["sides"]
        )
        kind = question["kind"]
        if kind == "new_person":
            who = _most(first)
            faces = question["sides"][0]
            wrong = [face for face, name in zip(faces, first, strict=True) if name != who]
            for face in wrong:
                await self._page.locator(f'.side img[src*="{face}"]').click()
            await keyboard.press("n")
            await self._page.get_by_role("combobox").wait_for()
            await keyboard.insert_text(who)
            await keyboard.press("Enter")
            return 1 + len(wrong)
        # Beside a face stand the people that it may be of; beside a person another one.
        is_one = _most(first) == _most(others[0])
        await keyboard.press("a" if is_one else "x")
        return 1

    async def _settled(self) -> None:
        """Wait until every answer was acknowledged."""
        await self._page.get_by_text("All answers saved").wait_for()

    async def _judged(self) -> Clustering:
        return judge(await clusters(self._place, self._labelled), self._labelled.people)


def _most(names: Sequence[str]) -> str:
    """The name of most faces."""
    counts = Counter(names)
    return min(counts, key=lambda each: (-counts[each], each))


async def review(place: Place, labelled: Labelled, context: BrowserContext) -> Reviewed:
    """Review the labelled faces through the page."""
    page = await context.new_page()
    return await Reviewer(place, labelled, page).work()
