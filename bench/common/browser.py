"""The distribution's Chromium, as benches and tests start it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def launch_options() -> Mapping[str, Any] | None:
    """What playwright launches; None without a Chromium on this machine."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        return None
    # As root, which containers are, Chromium starts without its sandbox only.
    return {"executable_path": path, "args": ["--no-sandbox"]}
