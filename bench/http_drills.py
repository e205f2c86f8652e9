"""The drills as a bench of `python -m bench http`: what the service does when things go wrong."""

from __future__ import annotations

import importlib
from typing import Any

from bench.harness import default_settings, describe, sessions
from bench.result import Effort, Result


async def run(effort: Effort) -> Result:
    """Run `bench.drills`, whose ratios and details become those of a bench."""
    settings = default_settings()
    found: dict[str, Any] = await importlib.import_module("bench.drills").run(effort)
    return Result(
        unit="",
        rates={},
        compared={},
        other_ratios=found["ratios"],
        details=found["details"],
        configuration=describe(settings, sessions(settings)),
        notes=found.get("notes", ()),
    )
