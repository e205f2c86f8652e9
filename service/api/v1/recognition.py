"""The routes under /v1, which the legacy API lacks: parse, call one use case, render."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from service.api.params import Parameters
from service.api.render import (
    BINARY_TYPE,
    EMBEDDING_FORMATS,
    Json,
    detection,
    embedding_bytes,
    quality,
)
from service.api.services import ApiServices
from service.api.tickets import CostClass, ticket_for
from service.domain.types import ClusterId, Embedding
from service.telemetry import StageClock

_INPUTS = ("photo", "crop")
_EMBEDDING_TYPES = (Json.media_type, BINARY_TYPE)
# Requests without a tenant share one queue.
_NOBODY = ""


async def detect(api: ApiServices, given: Parameters) -> Response:
    """POST /v1/detect: find the faces of a photo."""
    photo, clock = given.file("image"), StageClock(api.metrics)
    tenant = given.tenant_served() or _NOBODY
    async with ticket_for(api, given.call, CostClass.PHOTO, tenant, photo.size_bytes) as ticket:
        found = await api.recognize.detect(photo.read, clock, ticket)
    return _timed(
        clock,
        Json(
            {
                "width": found.width,
                "height": found.height,
                "turned": found.turned,
                "faces": [
                    {**detection(face.detection), "quality": quality(face.quality)}
                    for face in found.faces
                ],
            }
        ),
    )


async def embed(api: ApiServices, given: Parameters) -> Response:
    """POST /v1/embed: embed the faces of a photo, or one face crop."""
    recognize = api.recognize
    as_crop = given.choice("input", _INPUTS) == "crop"
    encode = EMBEDDING_FORMATS[given.choice("embedding_format", tuple(EMBEDDING_FORMATS))]
    image, clock = given.file("image"), StageClock(api.metrics)
    tenant = given.tenant_served() or _NOBODY
    body: dict[str, Any] = {"model": {"space": recognize.space, "dimension": recognize.dimension}}
    embeddings: list[Embedding]
    cost_class = CostClass.CROP if as_crop else CostClass.PHOTO
    async with ticket_for(api, given.call, cost_class, tenant, image.size_bytes) as ticket:
        if as_crop:
            embeddings = [await recognize.embed_crop(image.read, clock, ticket)]
            places: list[dict[str, Any]] = [{}]
        else:
            found = await recognize.embed_photo(image.read, clock, ticket)
            embeddings = [face.embedding for face in found.faces]
            places = [
                {**detection(face.detection), "quality": quality(face.quality)}
                for face in found.faces
            ]
            body |= {"width": found.width, "height": found.height, "turned": found.turned}
    if given.media_type(_EMBEDDING_TYPES) == BINARY_TYPE:
        answer = embedding_bytes(embeddings, recognize.dimension)
        answer.headers["X-Model-Space"] = recognize.space
        return _timed(clock, answer)
    body["faces"] = [
        {"embedding": encode(embedding), **place}
        for embedding, place in zip(embeddings, places, strict=True)
    ]
    return _timed(clock, Json(body))


async def merge_clusters(api: ApiServices, given: Parameters) -> Response:
    """POST /v1/merge-clusters: make one cluster of two clusters of the same person."""
    tenant_id, call = given.tenant_id(), given.call
    into_cluster = ClusterId(given.text("into_cluster_id"))
    from_cluster = ClusterId(given.text("from_cluster_id"))
    size = await api.curate.merge_clusters(tenant_id, from_cluster, into_cluster)
    api.audit.write(
        call.principal,
        call.request_id,
        tenant_id,
        "person.merge",
        person_id=from_cluster,
        into_person_id=into_cluster,
    )
    return Json(
        {
            "cluster_id": into_cluster,
            "number_of_faces": size.number_of_faces,
            "number_of_images": size.number_of_images,
        }
    )


def _timed(clock: StageClock, answer: Response) -> Response:
    answer.headers["Server-Timing"] = clock.server_timing()
    return answer
