"""The extras of this installation: which ones are missing, and the command that installs them."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys
from typing import Final

_DISTRIBUTION: Final = "facette"
# Each of them brings ONNX Runtime, and only one can be installed.
_RUNTIMES: Final = ("cpu", "gpu", "openvino")
# Without it, pip installs the CUDA build of PyTorch on Linux: several gigabytes.
_TORCH_INDEX: Final = "https://download.pytorch.org/whl/cpu"
_REQUIREMENT = re.compile(r"""([\w.-]+).*;.*\bextra == ["'](\w+)["']""")


def missing_extras(*wanted: str) -> list[str]:
    """Those of the wanted extras of which a package is not installed, in order.

    For "cpu" any build of ONNX Runtime will do. All extras are taken to be there where Facette runs
    without being installed.
    """
    try:
        requirements = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    packages: dict[str, list[str]] = {}
    for found in filter(None, map(_REQUIREMENT.match, requirements)):
        packages.setdefault(found[2], []).append(found[1])

    def is_complete(extra: str) -> bool:
        return all(map(_is_installed, packages.get(extra, [])))

    return [
        extra
        for extra in wanted
        if not any(map(is_complete, _RUNTIMES if extra == "cpu" else (extra,)))
    ]


def install_command(*extras: str) -> str:
    """The command that adds extras to this installation, for a shell."""
    command = f"{shlex.quote(sys.executable)} -m pip install '{_DISTRIBUTION}[{','.join(extras)}]'"
    return f"{command} --extra-index-url {_TORCH_INDEX}" if "export" in extras else command


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
