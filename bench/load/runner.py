"""Starts the load client as a process of its own, which shares no interpreter with anything."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.load.plan import Outcome, Phase, decode_outcome, encode

_CHECKOUT = Path(__file__).resolve().parents[2]


def run(url: str, phases: Sequence[Phase], *, progress: bool | None = None) -> list[Outcome]:
    """Load a server with one phase after the other; returns when all have ended.

    progress: write a line a second to stderr; None = where it is a terminal.

    Raises:
        subprocess.CalledProcessError: the client failed; its stderr has the reason.
    """
    return run_together(url, [phases], progress=progress)[0]


def run_together(
    url: str, groups: Sequence[Sequence[Phase]], *, progress: bool | None = None
) -> list[list[Outcome]]:
    """The same for several lists of phases at once, each its own load, in one client process."""
    with tempfile.TemporaryDirectory(prefix="facette-load-") as name:
        spec, out = Path(name, "spec.json"), Path(name, "out.json")
        spec.write_text(json.dumps(encode(url, groups)), encoding="utf-8")
        shown = {None: "auto", True: "always", False: "never"}[progress]
        subprocess.run(  # noqa: S603
            [
                *(sys.executable, "-m", "bench.load", str(spec)),
                *("--out", str(out), "--progress", shown),
            ],
            cwd=_CHECKOUT,
            check=True,
        )
        document = json.loads(out.read_bytes())
    return [[decode_outcome(each) for each in group] for group in document]
