"""What people decided, what happened in a tenant, and taking it back."""

from __future__ import annotations

from datetime import datetime
from typing import cast
from uuid import UUID

from starlette.responses import Response

from service.api.render import Json
from service.api.services import ApiServices
from service.api.v1.cursors import decode_cursor, encode_cursor
from service.api.v1.models import HistoryPage, Page
from service.api.v1.operation import V1Call
from service.api.v1.rendering import change_json, decision_json
from service.api.v1.requests import answer, number_in_path, once_of
from service.domain.decisions import DecisionPosition, PastChange
from service.domain.types import ClusterId, DecisionId


async def list_decisions(api: ApiServices, call: V1Call) -> Response:
    """GET /decisions: a page of what people decided, newest first."""
    query = call.queried(Page)
    of_list = f"decisions {call.tenant_id}"
    behind = None
    if query.cursor is not None:
        at, decision_id = decode_cursor(query.cursor, of_list, [datetime, UUID])
        behind = DecisionPosition(cast(datetime, at), cast(UUID, decision_id))
    found = await api.history.decisions(call.tenant_id, behind, query.limit + 1)
    page = found[: query.limit]
    following = None
    if len(found) > len(page):
        following = encode_cursor(of_list, page[-1].decided_at, page[-1].decision_id)
    return Json({"items": [decision_json(each) for each in page], "next": following})


async def retract_decision(api: ApiServices, call: V1Call) -> Response:
    """DELETE /decisions/{decision_id}: let a decision count no more."""
    decision_id = DecisionId(call.ids["decision_id"])
    change = await api.history.retract(call.tenant_id, decision_id)
    call.record(api, "decision.retract", decision_id=decision_id)
    return Json(change_json(change))


async def list_history(api: ApiServices, call: V1Call) -> Response:
    """GET /history: a page of what happened, newest first."""
    query = call.queried(HistoryPage)
    of_list = f"history {call.tenant_id} {query.kind} {query.person_id}"
    before = None
    if query.cursor is not None:
        (before,) = cast(list[int], decode_cursor(query.cursor, of_list, [int]))
    person_id = None if query.person_id is None else ClusterId(query.person_id)
    found = await api.history.page(call.tenant_id, before, query.kind, person_id, query.limit + 1)
    page = found[: query.limit]
    following = encode_cursor(of_list, page[-1].number) if len(found) > len(page) else None
    return Json({"items": [change_json(each) for each in page], "next": following})


async def undo_change(api: ApiServices, call: V1Call) -> Response:
    """POST /history/{change_id}/undo: take a change back, as another change."""
    number = number_in_path(call, "change_id", "change")
    made = await api.history.undo(call.tenant_id, number, once_of(call, _change))
    if isinstance(made, PastChange):
        call.record(api, "change.undo", change_id=str(number), by_change_id=str(made.number))
    return answer(made, _change)


def _change(change: PastChange) -> Response:
    return Json(change_json(change))
