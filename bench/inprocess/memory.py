"""Peak memory of one contestant in a process of its own: loaded, and after photos.

`python -m bench.inprocess.memory Facette|facenet-pytorch FOLDER` analyses the JPEG files of a
folder and prints both peaks in MB as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.common.photos import Photo, source

_WEIGHTS = "weights.pt"
CALLERS = 16


def measure(photos: Sequence[Photo], weights: Path) -> dict[str, dict[str, int]]:
    """Peaks of both contestants over the same photos, in MB.

    weights: FaceNet's state dict for facenet-pytorch, as its users have it.
    """
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as name:
        folder = Path(name)
        (folder / _WEIGHTS).symlink_to(weights.resolve())
        for number, photo in enumerate(photos):
            (folder / f"{number:03}.jpg").write_bytes(photo.jpeg)
        return {contestant: _run(contestant, folder) for contestant in _CONTESTANTS}


def main() -> int:
    """Run one contestant in this process."""
    parser = argparse.ArgumentParser(prog="python -m bench.inprocess.memory", description=__doc__)
    parser.add_argument("contestant", choices=list(_CONTESTANTS))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    print(json.dumps(_CONTESTANTS[options.contestant](options.folder)))
    return 0


# Each contestant is imported in its own process only: imports count.
def _facette(folder: Path) -> dict[str, int]:
    from bench.common.harness import by_callers, default_settings, running_analyzer
    from service.batching import free_ticket
    from service.domain.types import AnalyzedPhoto
    from service.telemetry import StageClock

    files = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

    async def run() -> dict[str, int]:
        async with running_analyzer(default_settings()) as analyzer:
            loaded = peak_mb()

            async def analyze(data: bytes) -> AnalyzedPhoto:
                return await analyzer.analyze(source(data), StageClock(), free_ticket())

            await by_callers(files, analyze, CALLERS)
            return {"loaded": loaded, "after the photos": peak_mb()}

    return asyncio.run(run())


def _facenet_pytorch(folder: Path) -> dict[str, int]:
    from bench.inprocess.facenet_pytorch import FacenetPytorch
    from service.machine.cpu import usable_cores

    files = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    peer = FacenetPytorch(usable_cores(), weights=str(folder / _WEIGHTS))
    loaded = peak_mb()
    for data in files:
        peer.analyze(data)
    return {"loaded": loaded, "after the photos": peak_mb()}


_CONTESTANTS = {"Facette": _facette, "facenet-pytorch": _facenet_pytorch}


def peak_mb() -> int:
    """The largest resident memory of this process so far, in MB.

    From /proc, as getrusage's figure begins with that of the process this one was started from.

    Raises:
        OSError: this is not Linux.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) * 1024 / 1e6)
    raise OSError("/proc/self/status has no VmHWM")


def _run(contestant: str, folder: Path) -> dict[str, int]:
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "bench.inprocess.memory", contestant, str(folder)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, int] = json.loads(result.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
