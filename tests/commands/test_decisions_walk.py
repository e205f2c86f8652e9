"""The walk in docs/decisions.md, run against a service that changes its model."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.calls import Photos, decode, encode
from tests.support.folders import ROOT
from tests.support.live import ConfiguredService, end
from tests.support.models import link_models
from tests.support.rotated import add_rotated_models
from tests.support.service import TOKEN

PAGE = ROOT / "docs" / "decisions.md"
_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)


@pytest.mark.long
def test_the_walk_does_what_it_says(
    service_folder: Path,
    models_dir: Path,
    photos: Photos,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = link_models(models_dir, service_folder / "models")
    add_rotated_models(models, "rotated", 1)
    service = ConfiguredService(service_folder, models)
    twin = decode(photos.astronaut)
    twin = twin.resize((twin.width * 3 // 2, twin.height * 3 // 2))
    for name, data in {"anna.jpg": photos.astronaut, "eva.jpg": encode(twin)}.items():
        (tmp_path / name).write_bytes(data)
    reembed = shlex.join([sys.executable, "-m", "service.cli", "reembed", "--model", "rotated"])
    text = PAGE.read_text(encoding="utf-8")
    script = "set -euo pipefail\n" + "\n".join(_BLOCK.findall(text))
    try:
        service.start()
        for shown, real in (
            ("http://127.0.0.1:8000", service.url),
            ("$(.venv/bin/facette token)", TOKEN),
            (
                ".venv/bin/facette reembed --model sface",
                f"(cd {shlex.quote(str(service.folder))} && {reembed})",
            ),
        ):
            assert shown in script
            script = script.replace(shown, real)
        done = subprocess.run(
            ["bash", "-xc", script],
            cwd=tmp_path,
            env=service.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"kind":"different"' in done.stdout
        monkeypatch.setenv("FACETTE_URL", service.url)
        monkeypatch.setenv("FACETTE_KEY", TOKEN)
        examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
        assert len(examples.examples) > 10
        said: list[str] = []
        assert doctest.DocTestRunner().run(examples, out=said.append).failed == 0, "".join(said)
    finally:
        end(service)
