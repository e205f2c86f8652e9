"""The quality of a face as two columns: its score, and the facts that it was made of."""

from __future__ import annotations

import json
from dataclasses import asdict

from service.domain.types import FaceQuality

_DECIMALS = 4


def render_quality_facts(quality: FaceQuality) -> str:
    """All but the score, as JSON; numbers are rounded to what means something."""
    facts = asdict(quality)
    del facts["score"]
    numbers = {key: round(fact, _DECIMALS) for key, fact in facts.items() if key != "reasons"}
    return json.dumps({**numbers, "reasons": facts["reasons"]})


def stored_quality(score: float | None, facts: str | None) -> FaceQuality | None:
    """What was stored; None for a face of before qualities were.

    Args:
        score: 0 to 1, of single precision.
        facts: JSON, as `render_quality_facts` gives it.
    """
    if score is None or facts is None:
        return None
    found = json.loads(facts)
    found["reasons"] = tuple(found["reasons"])
    return FaceQuality(score=round(score, _DECIMALS), **found)
