"""Whether some order of concurrent calls explains their answers and what is stored after them.

It must be an order in which no call comes before another that had ended when it began, in which
the model gives each call the answer that it got, and which ends with what is stored. This is
linearizability, as Herlihy and Wing define it in "Linearizability: a correctness condition for
concurrent objects" (1990).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.types import TenantId
from tests.interleavings.model import Answer, Kept, Operation, Refused, State


@dataclass(slots=True)
class Call:
    """An operation that a client ran; `began` and `ended` count what happened before."""

    client: int
    tenant_id: TenantId
    operation: Operation
    began: int = -1
    ended: int = -1
    answer: Answer = None


def overlap(calls: Sequence[Call]) -> bool:
    """Whether two of the calls were under way at the same time."""
    return any(
        one.began < other.ended and other.began < one.ended
        for nth, one in enumerate(calls)
        for other in calls[:nth]
    )


def explain(calls: Sequence[Call], before: State, stored: Mapping[TenantId, Kept]) -> State | None:
    """The state after an order of the calls that explains them, or None where there is none."""
    if not calls:
        return before if kept(before) == stored else None
    first_end = min(call.ended for call in calls)
    for nth, call in enumerate(calls):
        if call.began > first_end:
            continue  # another had ended by then
        after = _apply(call, before)
        if after is not None:
            rest = [*calls[:nth], *calls[nth + 1 :]]
            if (end := explain(rest, after, stored)) is not None:
                return end
    return None


def kept(state: State) -> dict[TenantId, Kept]:
    return {tenant_id: tenant.kept() for tenant_id, tenant in state.items()}


def _apply(call: Call, state: State) -> State | None:
    """The state after a call, or None where the model would have answered something else."""
    tenant = state.get(call.tenant_id)
    try:
        after, answer = call.operation(tenant, call.answer)
    except Refused as refused:
        after, answer = tenant, refused
    if answer != call.answer:
        return None
    others = {key: other for key, other in state.items() if key != call.tenant_id}
    return others if after is None else {**others, call.tenant_id: after}
