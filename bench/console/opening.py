"""Opening pages: people of a small tenant and of a large one, bytes, shifts of the layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from playwright.async_api import BrowserContext, Page, ViewportSize

from bench.common.measure import Samples, percentile
from bench.common.photos import load as load_photos
from bench.console.place import Place, noted, wait
from service.domain.types import TenantId

FEW, MANY = 100, 100_000
_LOADS, _QUICK_LOADS = 5, 1
_PHOTO_SIDE = 400
_PHONE: ViewportSize = {"width": 390, "height": 844}
_AFTER_LOAD_MS = 400
_ARE_PAINTED = "() => benchNotes.names > 0 && benchNotes.covers > 0"
_IS_COMPLETE = """() => !document.querySelector(
    "main .skeleton, main .picture.loading:not(:has([loading=lazy]))"
)"""

# Each has a face of its own, so that no cover is like another; half of them have a label.
_PEOPLE = """
INSERT INTO cluster (tenant_id, cluster_id, label, label_key, last_face_at)
SELECT $1, md5($1 || n)::uuid, name, lower(name), now() - n * interval '1 second'
FROM generate_series(1, $2::integer) AS n
CROSS JOIN LATERAL (SELECT CASE WHEN n % 2 = 0 THEN 'Person ' || n END AS name) AS labelled
"""
_FACES = """
INSERT INTO face (
    tenant_id, face_id, image_id, cluster_id, box, landmarks, area, confidence, is_auto_matched,
    quality
)
SELECT $1, md5('face' || $1 || n)::uuid, image_id, md5($1 || n)::uuid,
       ARRAY[x, y, x + width * 0.3, y + width * 0.3]::real[], array_fill(1::real, ARRAY[10]),
       ARRAY[1, 2, 2, 2], 1, true, 1
FROM image CROSS JOIN generate_series(1, $2::integer) AS n
CROSS JOIN LATERAL (
    SELECT width * 0.6 * (n::bigint * 7919 % 1009) / 1009 AS x,
           height * 0.6 * (n::bigint * 104729 % 1013) / 1013 AS y
) AS corner
WHERE tenant_id = $1
"""
_COUNTS = (
    "UPDATE cluster SET faces = 2 + abs(hashtext(cluster_id::text)) % 997 WHERE tenant_id = $1"
)
# Nothing is to be asked about them.
_ASKED = """
UPDATE tenant
SET asked_change = changes, asked_seq = (SELECT max(seq) FROM face WHERE tenant_id = $1)
WHERE tenant_id = $1
"""


@dataclass(frozen=True, slots=True)
class Paints:
    """Milliseconds from the navigation to the first useful paint, a sample a round.

    names, covers: by the number of people. shell_kb: compressed bytes that it takes, / 1000.
    """

    names: Mapping[int, Samples]
    covers: Mapping[int, Samples]
    shell_kb: float


async def fill(place: Place, tenant: str, people: int) -> None:
    """Make a tenant of people directly in the database, around one photo."""
    photo = load_photos(_PHOTO_SIDE, 1)[0].jpeg
    with place.service.client() as client:
        client.post("/v1/tenants", json={"id": tenant}).raise_for_status()
        client.post(
            f"/v1/tenants/{tenant}/images", content=photo, headers={"Content-Type": "image/jpeg"}
        ).raise_for_status()
    async with place.database.maintenance() as connection:
        await connection.execute(_PEOPLE, tenant, people)
        await connection.execute(_FACES, TenantId(tenant), people)
        await connection.execute(_COUNTS, tenant)
        await connection.execute(_ASKED, tenant)
        await connection.execute("VACUUM (ANALYZE) cluster, face")


async def paints(place: Place) -> Paints:
    """Open the page of people of two tenants in turn, each time in a browser that knows nothing."""
    many = max(2 * FEW, round(MANY * (0.01 if place.effort.quick else 1)))
    contexts: dict[int, BrowserContext] = {}
    states: dict[int, Any] = {}
    for size in (FEW, many):
        await fill(place, f"tenant-of-{size}", size)
        async with place.signed_in(f"tenant-of-{size}") as context:
            states[size] = await context.storage_state()
    names: dict[int, list[float]] = {size: [] for size in states}
    covers: dict[int, list[float]] = {size: [] for size in states}
    shell = 0.0
    for number in range(place.effort.rounds + 1):
        found: dict[int, list[tuple[float, float]]] = {size: [] for size in states}
        for _ in range(_QUICK_LOADS if place.effort.quick else _LOADS):
            for size, state in states.items():
                contexts[size] = await place.new_context(storage_state=state)
                page = await contexts[size].new_page()
                await page.goto(f"{place.service.url}/console/people")
                await wait(page, _ARE_PAINTED)
                notes = await noted(page)
                found[size].append((notes["names"], notes["covers"]))
                shell = await _loaded_kb(page)
                await contexts[size].close()
        if number > 0:  # the first round warms up
            for size, each in found.items():
                names[size].append(percentile([one for one, _ in each], 0.5))
                covers[size].append(percentile([other for _, other in each], 0.5))
    return Paints(
        {size: Samples(tuple(each)) for size, each in names.items()},
        {size: Samples(tuple(each)) for size, each in covers.items()},
        shell,
    )


async def _loaded_kb(page: Page) -> float:
    """Bytes of the page and of its files, as they came, / 1000."""
    loaded: float = await page.evaluate(
        """() => [...performance.getEntriesByType("navigation"),
            ...performance.getEntriesByType("resource")
                .filter((each) => each.name.includes("/console/static/"))]
            .reduce((sum, each) => sum + each.encodedBodySize, 0)"""
    )
    return loaded / 1000


async def shifts(place: Place, context: BrowserContext, tenant: str) -> dict[str, float]:
    """How far the layout of each page moves while it loads, on a screen and on a phone."""
    with place.service.client() as client:
        person = client.get(f"/v1/tenants/{tenant}/people?limit=1").json()["items"][0]["id"]
        image = client.get(f"/v1/tenants/{tenant}/images?limit=1").json()["items"][0]["id"]
    pages = {
        "people": "people",
        **{
            f"person, {tab}": f"person?id={person}&tab={tab}"
            for tab in ("faces", "photos", "alike", "history")
        },
        **{name: name for name in ("review", "photos", "search", "upload", "history", "status")},
        "photo": f"photo?id={image}",
    }
    found = {}
    for name, path in pages.items():
        worst = 0.0
        for window in (None, _PHONE):
            page = await context.new_page()
            if window is not None:
                await page.set_viewport_size(window)
            await page.goto(f"{place.service.url}/console/{path}")
            await page.locator("main h1, main h2").first.wait_for()
            await wait(page, _IS_COMPLETE)
            await page.wait_for_timeout(_AFTER_LOAD_MS)
            worst = max(worst, (await noted(page))["shift"])
            await page.close()
        found[name] = worst
    return found
