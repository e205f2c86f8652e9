"""The house: floors held by contract, no circle anywhere, and a drawing that is true."""

from __future__ import annotations

import graphlib
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from tests.support.house import DRAWN, ROOT, arrows, contract, drawing

DOCUMENT = ROOT / "docs" / "house.md"


def test_imports_run_down_the_floors() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_room_of_the_service_has_a_floor() -> None:
    folder = ROOT / "service"
    rooms = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    rooms |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert set().union(*contract()) == rooms


def test_no_rooms_import_each_other() -> None:
    for package, uses in arrows().items():
        try:
            graphlib.TopologicalSorter(uses).prepare()
        except graphlib.CycleError as error:
            pytest.fail(f"{package}: {' -> '.join(error.args[1])}")
    assert len(arrows()) > len(DRAWN)


@pytest.mark.parametrize("package", DRAWN)
def test_the_drawing_is_what_the_imports_say(package: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    drawn = re.search(rf"^## `{re.escape(package)}`\n.*?```text\n(.*?)```", text, re.M | re.S)
    assert drawn is not None
    assert drawn[1] == drawing(package)


def test_of_the_benches_tests_use_what_is_common() -> None:
    """Except those of the benches themselves, and of accuracy, which benches measure."""
    graph = grimp.build_graph("tests", "bench", cache_dir=None)
    used = {
        (module, imported)
        for module in graph.modules
        if module.startswith("tests.") and not module.startswith(("tests.bench", "tests.accuracy"))
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.startswith("bench.") and not imported.startswith("bench.common")
    }
    assert used == set()
