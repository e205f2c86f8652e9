"""The queue of questions that only a person can answer: listed, handed out, answered."""

from __future__ import annotations

import struct
from typing import Final, cast

from starlette.responses import Response

from service.api.render import Json
from service.api.services import ApiServices
from service.api.v1.cursors import CursorError, decode_cursor, encode_cursor
from service.api.v1.models import NextReviews, ReviewReply, ReviewsPage
from service.api.v1.operation import V1Call
from service.api.v1.rendering import change_json, question_json
from service.api.v1.requests import answer, number_in_path, once_of
from service.domain.decisions import PastChange
from service.domain.reviews import Answer, QuestionPosition, Reply, ReviewKind
from service.domain.types import ClusterId, ReviewId

_WORTH: Final = struct.Struct(">f")
"""As the database keeps it: its bytes are the same in a cursor."""

_NOBODY_ELSE: Final = "configured"


async def list_reviews(api: ApiServices, call: V1Call) -> Response:
    """GET /reviews: a page of the open questions, from the one of most worth on."""
    query = call.queried(ReviewsPage)
    of_list = f"reviews {call.tenant_id} {query.kind} {query.put_off} {query.person_id}"
    behind = None
    if query.cursor is not None:
        worth, number = cast("tuple[str, int]", decode_cursor(query.cursor, of_list, [str, int]))
        try:
            (value,) = _WORTH.unpack(bytes.fromhex(worth))
        except (ValueError, struct.error):
            raise CursorError from None
        behind = QuestionPosition(value, ReviewId(number))
    kind = None if query.kind is None else ReviewKind(query.kind)
    person_id = None if query.person_id is None else ClusterId(query.person_id)
    found = await api.reviews.page(
        call.tenant_id, kind, behind, query.limit + 1, put_off=query.put_off, person_id=person_id
    )
    page = found[: query.limit]
    following = None
    if len(found) > len(page):
        worth = _WORTH.pack(page[-1].worth).hex()
        following = encode_cursor(of_list, worth, page[-1].review_id)
    return Json({"items": [question_json(each) for each in page], "next": following})


async def next_reviews(api: ApiServices, call: V1Call) -> Response:
    """GET /reviews/next: the questions of most worth, held back from other reviewers."""
    query = call.queried(NextReviews)
    reviewer = query.reviewer or call.principal.key_id or _NOBODY_ELSE
    found = await api.reviews.next(call.tenant_id, reviewer, query.limit, query.lease_s)
    return Json({"items": [question_json(each) for each in found]})


async def answer_review(api: ApiServices, call: V1Call) -> Response:
    """POST /reviews/{review_id}: answer a question."""
    body = call.sent(ReviewReply)
    review_id = ReviewId(number_in_path(call, "review_id", "review"))
    reply = Reply(
        Answer(body.answer),
        body.label,
        None if body.person_id is None else ClusterId(body.person_id),
        body.override,
    )
    made = await api.reviews.answer(call.tenant_id, review_id, reply, once_of(call, _change))
    if isinstance(made, PastChange):
        call.record(api, "review.answer", review_id=str(review_id), answer=reply.answer)
    return answer(made, _change)


def _change(change: PastChange) -> Response:
    return Json(change_json(change))
