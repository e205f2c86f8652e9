"""The client's distribution: what an installation of it holds, and what it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

from tests.support.folders import ROOT

SOURCE = ROOT / "clients" / "python"


def test_an_installation_has_every_module_and_needs_httpx2_alone(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    # A build leaves folders beside what it builds.
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--no-index", "--target", str(site), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    installed = {each.name for each in (site / "facette_client").iterdir() if each.is_file()}
    assert installed == {
        each.name for each in (SOURCE / "facette_client").iterdir() if each.is_file()
    }
    assert "py.typed" in installed
    (found,) = site.glob("facette_client-*.dist-info")
    needs = PathDistribution(found).requires or []
    assert [each.partition("<")[0].partition(">")[0] for each in needs if "extra" not in each] == [
        "httpx2"
    ]
    shown = subprocess.run(
        [sys.executable, "-c", "import facette_client; print(facette_client.__file__)"],
        cwd=site,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(shown.stdout.strip()).parent == site / "facette_client"
