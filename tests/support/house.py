"""The rooms of the house, their floors, and which room imports which: from the code itself."""

from __future__ import annotations

import graphlib
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("service", "export", "bench")
DRAWN = ("service", "service.store", "export", "bench")
# A package's own `__init__` and `__main__` are doors, not rooms.
_DOORS = {"__init__", "__main__"}


@cache
def arrows() -> dict[str, dict[str, set[str]]]:
    """For each package, which of its direct parts imports which; type checking included."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            ours, theirs = importer.split("."), imported.split(".")
            shared = 0
            while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
                shared += 1
            if shared:
                user = ours[shared] if shared < len(ours) else "__init__"
                used = theirs[shared] if shared < len(theirs) else "__init__"
                found[".".join(ours[:shared])][user].add(used)
    return found


def contract() -> list[set[str]]:
    """The floors of the service, from the top, as pyproject.toml holds them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (
        each["layers"]
        for each in project["tool"]["importlinter"]["contracts"]
        if each["type"] == "layers"
    )
    return [{room.strip() for room in layer.split("|")} for layer in layers]


def floors(package: str) -> list[set[str]]:
    """The floors of a package, from the top: the contract's, or as low as imports allow.

    Raises:
        graphlib.CycleError: rooms import each other.
    """
    if package == "service":
        return contract()
    folder = ROOT.joinpath(*package.split("."))
    parts = {path.stem for path in folder.glob("*.py")}
    parts |= {path.parent.name for path in folder.glob("*/__init__.py")}
    rooms = parts - _DOORS
    uses = {room: arrows()[package].get(room, set()) & rooms for room in rooms}
    sorter = graphlib.TopologicalSorter(uses)
    sorter.prepare()
    found: list[set[str]] = []
    while ready := sorter.get_ready():
        found.insert(0, set(ready))
        sorter.done(*ready)
    return found


def drawing(package: str) -> str:
    """One line a room, with the rooms below that it imports; a line between floors."""
    drawn = floors(package)
    rooms = set().union(*drawn)
    width = max(map(len, rooms))
    lines: list[str] = []
    for floor in drawn:
        lines.append("-" * 96)
        for room in sorted(floor):
            used = " ".join(sorted(arrows()[package].get(room, set()) & rooms))
            lines.append(f"{room:<{width}} -> {used}" if used else room)
    return "\n".join([*lines[1:]]) + "\n"
