"""Operations over HTTP by their processor time: inserts of both APIs, thumbnails, foreign ids."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx

from bench.common.harness import MODELS
from bench.common.measure import Samples, percentile
from bench.common.photos import LONG_SIDE
from bench.common.photos import load as load_photos
from bench.common.processor import processor_s
from bench.common.server import ServiceProcess
from bench.product.place import Part, Place, postgres_s

_LEGACY, _V1 = "legacy insert, processor time", "insert under /v1, processor time"
_PHOTOS, _QUICK_PHOTOS = 24, 2
_SMALL, _QUICK_SMALL = 300, 20
_JPEG = {"Content-Type": "image/jpeg"}
# A thumbnail that exists may cost so much processor time of the service.
_THUMBNAIL_MS = 1.0


async def measure(place: Place) -> Part:
    """Start a service, and send it requests one at a time."""
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as name:
        service = ServiceProcess(Path(name), MODELS).start()
        try:
            with service.client() as client:
                inserts = _inserts(place, service, client)
                thumbnail_ms = _thumbnails(place, service, client)
                foreign = _foreign_ids(place, service, client)
        finally:
            service.stop()
    return Part(
        inserts,
        {"insert_v1_over_legacy_processor": (_V1, _LEGACY)},
        {
            "thumbnail_room_below_1_ms": _THUMBNAIL_MS / thumbnail_ms,
            "missing_over_foreign_id": foreign["missing"] / foreign["foreign"],
        },
        {
            "thumbnail_processor_ms": thumbnail_ms,
            "id_lookups_ms": foreign,
        },
        [
            (
                "Over HTTP: one request at a time. Processor time of an insert is that of service "
                "and PostgreSQL, of a thumbnail that exists that of the service. Ids are those of "
                "a person of another tenant and of nobody, asked for with a key of one tenant."
            ),
        ],
    )


def _inserts(place: Place, service: ServiceProcess, client: httpx.Client) -> dict[str, Samples]:
    """Inserts a second of processor time; photos go both ways in turn."""
    photos = load_photos(LONG_SIDE, _QUICK_PHOTOS if place.effort.quick else _PHOTOS)

    def legacy(data: bytes) -> httpx.Response:
        return client.post(
            "/insert-image", params={"tenant_id": "legacy"}, content=data, headers=_JPEG
        )

    def v1(data: bytes) -> httpx.Response:
        return client.post("/v1/tenants/v1/images", content=data, headers=_JPEG)

    ways: dict[str, Callable[[bytes], httpx.Response]] = {_LEGACY: legacy, _V1: v1}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(place.effort.rounds + 1):
        spent = dict.fromkeys(ways, 0.0)
        for photo in photos:
            for name, way in ways.items():
                before = _service_s(service) + _database_s(service)
                way(photo.jpeg).raise_for_status()
                spent[name] += _service_s(service) + _database_s(service) - before
        if number > 0:  # the first round warms up
            for name, seconds in spent.items():
                rates[name].append(len(photos) / seconds)
    return {name: Samples(tuple(each)) for name, each in rates.items()}


def _thumbnails(place: Place, service: ServiceProcess, client: httpx.Client) -> float:
    """Milliseconds of the service's processor time for a thumbnail that exists."""
    image = client.get("/v1/tenants/v1/images").json()["items"][0]["id"]
    path = f"/v1/tenants/v1/images/{image}/thumbnail"
    client.get(path).raise_for_status()
    count = _QUICK_SMALL if place.effort.quick else _SMALL
    found = []
    for _ in range(place.effort.rounds):
        before = _service_s(service)
        for _ in range(count):
            client.get(path).raise_for_status()
        found.append((_service_s(service) - before) / count * 1e3)
    return percentile(found, 0.5)


def _foreign_ids(place: Place, service: ServiceProcess, client: httpx.Client) -> dict[str, float]:
    """Median milliseconds of refusals: of ids of another tenant, and of ids of nobody."""
    key = client.post("/v1/keys", json={"name": "bench", "scopes": ["read"], "tenant_id": "v1"})
    person = client.get("/v1/tenants/legacy/people").json()["items"][0]["id"]
    ms: dict[str, list[float]] = {"foreign": [], "missing": []}
    headers = {"Authorization": f"Bearer {key.json()['key']}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as own:
        for _ in range(_QUICK_SMALL if place.effort.quick else 5 * _SMALL):
            for what, tenant, person_id in (
                ("foreign", "v1", person),
                ("missing", "v1", str(uuid4())),
                ("foreign", "legacy", person),
                ("missing", "nobody", person),
            ):
                began = time.perf_counter()
                status = own.get(f"/v1/tenants/{tenant}/people/{person_id}").status_code
                ms[what].append((time.perf_counter() - began) * 1e3)
                if status != httpx.codes.NOT_FOUND:
                    raise RuntimeError(f"a foreign id was answered with {status}")
    return {what: percentile(each, 0.5) for what, each in ms.items()}


def _service_s(service: ServiceProcess) -> float:
    return processor_s(service.pid)


def _database_s(service: ServiceProcess) -> float:
    return postgres_s(service.data_dir / "postgres")
