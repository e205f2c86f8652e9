"""Pictures of the console: what each one shows fits its window and is accessible.

`UPDATE_PICTURES=1` writes the pictures of docs/console anew.
"""

from __future__ import annotations

import io
import os
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from tests.support.folders import ROOT

PICTURES = ROOT / "docs" / "console"
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 800}},
}


def keep(page: Page, name: str) -> None:
    """Hold that a page fits and is accessible, and keep its picture where that was asked for."""
    expect(page.locator(".picture.loading")).to_have_count(0)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{name} is {wide} px wider than its window"
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    shot = page.screenshot()
    if os.environ.get("UPDATE_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        Image.open(io.BytesIO(shot)).save(PICTURES / f"{name}.webp", quality=70, method=6)
