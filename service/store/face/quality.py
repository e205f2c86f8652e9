"""The quality of a face in two columns: its score, and the measurements behind it."""

from __future__ import annotations

import json
from dataclasses import asdict

from service.domain.types import FaceQuality

_DECIMALS = 4


def render_quality_facts(quality: FaceQuality) -> str:
    """Everything but the score, as JSON; numbers have four decimals."""
    facts = asdict(quality)
    del facts["score"]
    numbers = {key: round(fact, _DECIMALS) for key, fact in facts.items() if key != "reasons"}
    return json.dumps({**numbers, "reasons": facts["reasons"]})


def stored_quality(score: float | None, facts: str | None) -> FaceQuality | None:
    """The stored quality; None for a face that was stored before qualities were.

    Args:
        score: 0 to 1, in single precision.
        facts: the JSON of `render_quality_facts`.
    """
    if score is None or facts is None:
        return None
    found = json.loads(facts)
    found["reasons"] = tuple(found["reasons"])
    return FaceQuality(score=round(score, _DECIMALS), **found)
