"""Size of a set-up: bytes downloaded for the pinned packages, and bytes on disk afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.common.result import Effort, Result

_CHECKOUT = Path(__file__).resolve().parents[2]
_REQUIREMENTS = _CHECKOUT / "requirements"
# As requirements/install has it.
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
_MB = 1e6
_NOTE = (
    "Downloaded: the wheels of requirements/torch.txt and requirements/setup.txt for this Python "
    "and processor. On disk: what installing them adds to a virtual environment."
)


async def run(effort: Effort) -> Result:
    """Download and install the packages of `make setup` into a temporary folder.

    The build of PyTorch is the one that TORCH_INDEX names, the CPU build by default. A quick run
    takes the first package of the list alone.

    Raises:
        CalledProcessError: a package cannot be downloaded or installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        sizes = await asyncio.to_thread(_measure, Path(folder), quick=effort.quick)
    models = sum(
        path.stat().st_size
        for pattern in ("*.onnx", "*.npz")
        for path in (_CHECKOUT / "models").glob(pattern)
    )
    sizes["models that the export makes"] = models
    return Result(
        unit="",
        rates={},
        compared={},
        configuration={"settings": {}, "models": {}},
        notes=[_NOTE],
        details={
            "setup_bytes": sizes,
            "tables": {
                "setup": {
                    "head": ["set-up", "MB"],
                    "rows": [[name, f"{size / _MB:.0f}"] for name, size in sizes.items()],
                }
            },
        },
    )


def _measure(folder: Path, *, quick: bool) -> dict[str, int]:
    wheels, environment = folder / "wheels", folder / "environment"
    if quick:
        lists = [_first_package(folder)]
    else:
        lists = [_REQUIREMENTS / "torch.txt", _REQUIREMENTS / "setup.txt"]
    index = os.environ.get("TORCH_INDEX", _TORCH_INDEX)
    for path in lists:
        from_index = ["--index-url", index] if path.name == "torch.txt" and index else []
        _pip(
            sys.executable,
            "download",
            *("--dest", str(wheels), "--no-cache-dir", "--requirement", str(path), *from_index),
        )
    _run(sys.executable, "-m", "venv", str(environment))
    empty = _bytes_in(environment)
    for path in lists:
        _pip(
            str(environment / "bin" / "python"),
            "install",
            *("--no-index", "--find-links", str(wheels)),
            *("--requirement", str(path)),
        )
    torch = sum(path.stat().st_size for path in wheels.glob("torch-*"))
    build = next((path.name.split("-")[1] for path in wheels.glob("torch-*")), "none")
    return {
        f"downloaded: PyTorch {build}": torch,
        "downloaded: all other packages": _bytes_in(wheels) - torch,
        "on disk: the packages installed": _bytes_in(environment) - empty,
    }


def _first_package(folder: Path) -> Path:
    lines = (_REQUIREMENTS / "setup.txt").read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(lines) if "==" in line)
    end = next(n for n in range(first, len(lines)) if not lines[n].endswith("\\"))
    path = folder / "first.txt"
    path.write_text("\n".join(lines[first : end + 1]) + "\n", encoding="utf-8")
    return path


def _pip(python: str, command: str, *arguments: str) -> None:
    _run(
        *(python, "-m", "pip", command, "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", *arguments),
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603


def _bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder; a link counts nothing."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
