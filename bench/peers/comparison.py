"""The bench: the model file and crops for all contestants, and the list of contestants."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from bench.common.harness import MODELS, default_settings, describe, sessions
from bench.common.photos import crop_files
from bench.common.result import Effort, Result
from bench.peers.contestants import installed_peers
from bench.peers.process import serve_facette, serve_peer
from bench.peers.rounds import FACETTE, Durations, Open, Rounds
from bench.peers.summary import summarize
from service.runtime.choice import files_by_precision

_CROPS = 16


async def run(effort: Effort) -> Result:
    """Measure Facette, its peers and the raw session."""
    peers = installed_peers()
    settings = default_settings()
    models = sessions(settings)
    files = crop_files(_CROPS)
    precision = models["embedder"].placement.precision
    model = MODELS / files_by_precision(models["embedder"].spec)[precision].file
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as name:
        folder = Path(name)
        (folder / "facette").mkdir()
        servers: dict[str, Open] = {FACETTE: partial(serve_facette, folder / "facette")}
        for peer in peers:
            servers[peer.name] = partial(
                serve_peer, peer, model, settings.workers, folder, files[0]
            )
        durations = Durations(0.5, 0.5, 0.5, 0.5, 0.5) if effort.quick else Durations()
        rounds = Rounds(servers, models["embedder"], files, durations, settings.workers)
        findings = await asyncio.to_thread(rounds.run, effort.rounds)
    return summarize(findings, peers, model.name, files, describe(settings, models))
