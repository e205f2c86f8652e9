"""The walk in docs/walk.md, run command by command against a service."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from bench.common.server import TOKEN, ServiceProcess
from tests.support.calls import Photos, decode, encode
from tests.support.folders import ROOT

_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)
# What the walk leaves behind, printed at its end.
_TOLD = "\n".join(f'echo "{name}=${name}"' for name in ("IMAGE", "PERSON", "FACE", "OTHER"))


def test_the_walk_does_what_it_says(
    service: ServiceProcess, photos: Photos, tmp_path: Path
) -> None:
    copy = decode(photos.astronaut)
    files = {
        "anna.jpg": photos.astronaut,
        "ben.jpg": photos.hopper,
        "both.jpg": photos.both,
        "copy.jpg": encode(copy.resize((copy.width * 3 // 2, copy.height * 3 // 2))),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    blocks = _BLOCK.findall((ROOT / "docs" / "walk.md").read_text(encoding="utf-8"))
    script = "set -euo pipefail\n" + "\n".join(blocks) + _TOLD
    for shown, real in (
        ("http://127.0.0.1:8000", service.url),
        ("$(.venv/bin/facette token)", TOKEN),
        ('"family"', '"walk-family"'),
        ("/tenants/family", "/tenants/walk-family"),
    ):
        assert shown in script
        script = script.replace(shown, real)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    told = dict(line.split("=", 1) for line in said.splitlines() if re.match(r"[A-Z]+=", line))
    assert (tmp_path / "file.jpg").read_bytes() == photos.astronaut
    assert max(decode((tmp_path / "thumbnail.jpg").read_bytes()).size) <= 256
    assert max(decode((tmp_path / "face.jpg").read_bytes()).size) <= 160
    assert '"label":"Anna"' in said
    assert '"label":"Ben"' in said
    assert f"}}{told['PERSON']}\n" in said  # where the merged person went
    erased = re.findall(r'\{"images":\d+,"faces":\d+,"people":\d+,.*?\}', said)
    assert len(erased) == 3
    assert erased[1].startswith('{"images":2,"faces":3,"people":1')
