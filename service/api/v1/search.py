"""Search: who is on a photo, who looks like a face, and who looks like a person."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from service.api.render import Json, detection, quality
from service.api.services import ApiServices
from service.api.tickets import CostClass, ticket_for
from service.api.v1.models import SearchFields, SearchQuery, SearchRequest, SimilarQuery
from service.api.v1.operation import V1Call
from service.domain.errors import RequestError
from service.domain.search import PersonMatch, SearchOptions
from service.domain.types import Box, ClusterId, FaceId
from service.telemetry import StageClock


async def search(api: ApiServices, call: V1Call) -> Response:
    """POST /search: the people nearest to the faces of a photo, or to a stored face."""
    if call.form is None:
        return await _by_face(api, call, call.sent(SearchRequest))
    return await _by_photo(api, call, call.queried(SearchQuery))


async def list_similar(api: ApiServices, call: V1Call) -> Response:
    """GET /people/{person_id}/similar: the people who look most like a person."""
    query, person_id = call.queried(SimilarQuery), ClusterId(call.ids["person_id"])
    await api.people.person(call.tenant_id, person_id)
    found = await api.search.similar(
        call.tenant_id, person_id, options=_options(query, query.person_ids())
    )
    return Json({"items": [_match(match) for match in found]})


async def _by_face(api: ApiServices, call: V1Call, body: SearchRequest) -> Response:
    found = await api.search.by_face(
        call.tenant_id, FaceId(body.face_id), options=_options(body, body.person_ids)
    )
    return Json(
        {
            "face_id": found.face.face_id,
            "max_distance": found.max_distance,
            "matches": [_match(match) for match in found.matches],
        }
    )


async def _by_photo(api: ApiServices, call: V1Call, query: SearchQuery) -> Response:
    photo, clock = call.photo().file("image"), StageClock(api.metrics)
    options = _options(query, query.person_ids())
    async with ticket_for(
        api, call.call, CostClass.PHOTO, call.tenant_id, photo.size_bytes
    ) as ticket:
        found = await api.search.by_photo(
            call.tenant_id, photo.read, clock, ticket, box=_box(query.box), options=options
        )
    return Json(
        {
            "width": found.width,
            "height": found.height,
            "turned": found.turned,
            "faces": [
                {
                    **detection(each.face.detection),
                    "quality": quality(each.face.quality),
                    "max_distance": each.max_distance,
                    "matches": [_match(match) for match in each.matches],
                }
                for each in found.faces
            ],
        },
        headers={"Server-Timing": clock.server_timing()},
    )


def _options(fields: SearchFields, people: list[str] | None) -> SearchOptions:
    among = None if people is None else tuple(ClusterId(each) for each in people)
    return SearchOptions(fields.limit, fields.max_distance, fields.labelled, among)


def _box(given: str | None) -> Box | None:
    """The box in a query: its left, upper, right and lower side.

    Raises:
        RequestError: it is none.
    """
    if given is None:
        return None
    try:
        x1, y1, x2, y2 = map(float, given.split(","))
        if not (-1e6 < x1 < x2 < 1e6 and -1e6 < y1 < y2 < 1e6):
            raise ValueError("no rectangle")
    except ValueError:
        raise RequestError(
            (("/query/box", "must be four numbers x1,y1,x2,y2 with x1 < x2 and y1 < y2"),)
        ) from None
    return Box(x1, y1, x2, y2)


def _match(match: PersonMatch) -> dict[str, Any]:
    return {
        "person_id": match.person_id,
        "distance": match.distance,
        "similarity": match.similarity,
        "margin": match.margin,
        "is_match": match.is_match,
        "nearest_face_id": match.nearest_face_id,
        "nearest_distance": match.nearest_distance,
        "face_count": match.faces,
    }
