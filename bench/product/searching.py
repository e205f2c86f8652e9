"""The search for people: by a photo beside its analysis alone, and by a stored face."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np

from bench.common.crowd import RULE, SPACE, Crowd, crowd, id_of, load
from bench.common.harness import default_settings, running_analyzer
from bench.common.measure import Samples, percentile
from bench.common.photos import LONG_SIDE, Photo, source
from bench.common.photos import load as load_photos
from bench.product.place import Part, Place
from service.batching import free_ticket
from service.domain.search import SearchOptions
from service.domain.types import FaceId, TenantId
from service.store.face.code_cache import CodeCache
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ports import PhotoAnalyzer
from service.usecases.search import SearchPeople

_BY_PHOTO = "search by photo"
_ANALYSIS = "analysis alone"
_BY_FACE = "search by a stored face"
_PROCESSOR = ", processor time"
_FACES = {_BY_PHOTO: 100_000, _BY_FACE: 500_000}
_PHOTOS, _SEARCHES = 24, 200
_QUICK_PHOTOS, _QUICK_SEARCHES = 2, 5
_LEAST_FACES = 400
_NEIGHBOURS = 10


async def measure(place: Place) -> Part:
    """Load two tenants, and search them."""
    sizes = {what: max(_LEAST_FACES, round(n * place.scale)) for what, n in _FACES.items()}
    codes = CodeCache(place.database)
    crowds = {what: await _load(place, codes, size) for what, size in sizes.items()}
    paths: set[str] = set()
    repository = Repository(
        place.database, SearchSettings(), codes=codes, on_search=lambda path: paths.add(path)
    )
    async with running_analyzer(default_settings()) as analyzer:
        search = SearchPeople(analyzer, repository, space=SPACE, rule=RULE)
        photos, photos_processor = await _by_photo(place, analyzer, search, sizes[_BY_PHOTO])
        faces, faces_processor, all_ms = await _by_face(place, search, sizes[_BY_FACE])
        recall = await _recall(place, search, crowds[_BY_FACE], sizes[_BY_FACE])
    rates = {
        **photos,
        **{f"{name}{_PROCESSOR}": each for name, each in photos_processor.items()},
        _BY_FACE: faces,
        f"{_BY_FACE}{_PROCESSOR}": faces_processor,
    }
    return Part(
        rates,
        # A rate over a rate is the time of what is below over the time of what is on top.
        {
            "search_by_photo_over_analysis_100k": (_ANALYSIS, _BY_PHOTO),
            "search_by_photo_over_analysis_100k_processor": (
                f"{_ANALYSIS}{_PROCESSOR}",
                f"{_BY_PHOTO}{_PROCESSOR}",
            ),
        },
        {
            "search_by_face_ms_500k": percentile(all_ms, 0.5),
            "search_by_face_processor_ms_500k": 1e3 / faces_processor.median,
            "search_by_face_recall_500k": recall,
        },
        {
            "search_by_face_ms": {
                f"p{share:g}": percentile(all_ms, share / 100) for share in (5, 25, 50, 75, 95)
            }
        },
        [
            (
                f"Searches: made-up people, {sizes[_BY_PHOTO]:,} faces by photo and "
                f"{sizes[_BY_FACE]:,} by face, one search at a time, {SearchOptions().limit} "
                f"people each, answered by {', '.join(sorted(paths))}. A photo is searched and "
                "analysed in turn; its faces are those of the reference photos. Processor time is "
                "that of the process, all threads, and of PostgreSQL. Recall is the share of the "
                f"{_NEIGHBOURS} nearest people, by comparison with everybody, that are found."
            ),
        ],
    )


async def _load(place: Place, codes: CodeCache, size: int) -> Crowd:
    tenant, people = _tenant(size), await asyncio.to_thread(crowd, size, size)
    began = time.monotonic()
    async with place.database.maintenance() as connection:
        await load(connection, tenant, people)
        await connection.execute("VACUUM (ANALYZE)")
    await codes.refresh(tenant, SPACE)
    print(f"  loaded {size} faces in {time.monotonic() - began:.0f} s", flush=True)
    return people


def _tenant(size: int) -> TenantId:
    return TenantId(f"tenant of {size} faces")


async def _by_photo(
    place: Place, analyzer: PhotoAnalyzer, search: SearchPeople, size: int
) -> tuple[Mapping[str, Samples], Mapping[str, Samples]]:
    """Photos a second, by the median of the photos of a round, and by processor time."""
    photos = load_photos(LONG_SIDE, _QUICK_PHOTOS if place.effort.quick else _PHOTOS)

    async def analyse(photo: Photo) -> object:
        return await analyzer.analyze(source(photo.jpeg), StageClock(), free_ticket(), hashed=False)

    async def look(photo: Photo) -> object:
        return await search.by_photo(
            _tenant(size),
            source(photo.jpeg),
            StageClock(),
            free_ticket(),
            options=SearchOptions(),
        )

    ways: dict[str, Callable[[Photo], Awaitable[object]]] = {_ANALYSIS: analyse, _BY_PHOTO: look}
    took: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(place.effort.rounds + 1):
        ms: dict[str, list[float]] = {name: [] for name in ways}
        spent = dict.fromkeys(ways, 0.0)
        for photo in photos:  # each photo both ways in turn: what else runs here slows both down
            for name, way in ways.items():
                seconds, processor_s = await place.metered(way(photo))
                ms[name].append(seconds * 1e3)
                spent[name] += processor_s
        if number == 0:
            continue  # the first round warms up
        for name in ways:
            took[name].append(1e3 / percentile(ms[name], 0.5))
            used[name].append(len(photos) / spent[name])
    return _samples(took), _samples(used)


async def _by_face(
    place: Place, search: SearchPeople, size: int
) -> tuple[Samples, Samples, list[float]]:
    """Searches a second, by the median of a round and by processor time; all milliseconds."""
    count = _QUICK_SEARCHES if place.effort.quick else _SEARCHES
    rng = np.random.default_rng(1)
    took, used, all_ms = [], [], []
    for number in range(place.effort.rounds + 1):
        ms: list[float] = []

        async def round_of_searches(ms: list[float] = ms) -> None:
            for face in rng.choice(size, count, replace=False):
                began = time.perf_counter()
                await search.by_face(
                    _tenant(size), FaceId(str(id_of(int(face)))), options=SearchOptions()
                )
                ms.append((time.perf_counter() - began) * 1e3)

        _, spent = await place.metered(round_of_searches())
        if number > 0:  # the first round warms up
            took.append(1e3 / percentile(ms, 0.5))
            used.append(count / spent)
            all_ms += ms
    return Samples(tuple(took)), Samples(tuple(used)), all_ms


async def _recall(place: Place, search: SearchPeople, people: Crowd, size: int) -> float:
    """The share of the nearest people that a search by a stored face finds."""
    order = np.argsort(people.person_of, kind="stable")
    known, begins, counts = np.unique(
        people.person_of[order], return_index=True, return_counts=True
    )
    sums = np.add.reduceat(people.faces[order], begins)
    at = np.searchsorted(known, people.person_of)
    found = []
    for face in np.random.default_rng(2).choice(
        size, _QUICK_SEARCHES if place.effort.quick else _SEARCHES // 4
    ):
        own, embedding = at[face], people.faces[face]
        sums[own] -= embedding
        counts[own] -= 1
        distances = RULE.distances(embedding, sums, np.maximum(counts, 1e-9).astype(np.float64))
        distances[counts == 0] = np.inf
        sums[own] += embedding
        counts[own] += 1
        nearest = {str(id_of(int(known[n]))) for n in np.argsort(distances)[:_NEIGHBOURS]}
        answer = await search.by_face(
            _tenant(size), FaceId(str(id_of(int(face)))), options=SearchOptions(limit=_NEIGHBOURS)
        )
        found.append(len(nearest & {each.person_id for each in answer.matches}) / len(nearest))
    return float(np.mean(found))


def _samples(values: Mapping[str, Sequence[float]]) -> dict[str, Samples]:
    return {name: Samples(tuple(each)) for name, each in values.items()}
