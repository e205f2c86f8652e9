"""Embedding over HTTP beside other servers of the same model, each in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.common.result import Effort, Result


async def run(effort: Effort) -> Result:
    """Measure Facette, its peers and the raw session in turn."""
    # The peers' servers import this package where none of Facette's requirements are installed.
    from bench.peers import comparison

    return await comparison.run(effort)
