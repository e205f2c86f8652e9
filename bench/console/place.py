"""A service with a browser in front of it, and what the browser tells of its pages."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from bench.common.browser import launch_options
from bench.common.harness import MODELS
from bench.common.result import Effort
from bench.common.server import ServiceProcess
from service.store.database.database import Database, DatabaseSettings
from service.store.embedded.server import running_server

WINDOW = {"width": 1280, "height": 800}
# New questions come soon after the answers that lead to them.
_ASK_INTERVAL_S = "2"

# Notes for each page: the layout shifts; when the people in sight were painted, without their
# covers and with them; and for each key press when the question after it was painted.
_NOTES = """(() => {
    // All tabs are one reviewer: what one was given, the next one is given as well.
    sessionStorage.setItem("facette.reviewer", "bench");
    const notes = { shift: 0, names: null, covers: null, presses: [] };
    globalThis.benchNotes = notes;
    new PerformanceObserver((list) => {
        for (const each of list.getEntries()) if (!each.hadRecentInput) notes.shift += each.value;
    }).observe({ type: "layout-shift", buffered: true });
    // A task after a frame's callbacks runs when that frame has been painted.
    const painted = (run) => requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => run(performance.now());
        port2.postMessage(null);
    });
    const inSight = (each) => {
        const { top, bottom } = each.getBoundingClientRect();
        return bottom > 0 && top < innerHeight;
    };
    const areThere = (all) =>
        all.length > 0 && all.filter(inSight).every((each) => each.matches(".there, .missing"));
    let pressed = null;
    addEventListener("keydown", (event) => {
        const shown = document.querySelector("section.question");
        if (shown) pressed = { at: event.timeStamp, from: shown.dataset.id, key: event.key };
    }, { capture: true });
    const look = () => {
        if (!notes.names && document.querySelector(".person-card")) {
            notes.names = -1;
            painted((now) => { notes.names = now; });
        }
        if (!notes.covers && areThere([...document.querySelectorAll(".person-card .picture")])) {
            notes.covers = -1;
            painted((now) => { notes.covers = now; });
        }
        const shown = document.querySelector("section.question");
        if (!pressed || !shown || shown.dataset.id === pressed.from) return;
        if (!pressed.isSeen) {
            pressed.isSeen = true;
            const { at, key } = pressed;
            const press = { question: null, faces: null, at, key };
            notes.presses.push(press);
            pressed.press = press;
            painted((now) => { press.question = now - at; });
        }
        if (!areThere([...shown.querySelectorAll(".side-face .picture")])) return;
        const { press } = pressed;
        pressed = null;
        painted((now) => { press.faces = now - press.at; });
    };
    new MutationObserver(look).observe(document, {
        childList: true, subtree: true, attributes: true, attributeFilter: ["class"],
    });
})()"""


@dataclass(frozen=True, slots=True)
class Place:
    """A running service, its database, and a browser."""

    service: ServiceProcess
    database: Database
    browser: Browser
    effort: Effort

    @asynccontextmanager
    async def signed_in(self, tenant: str) -> AsyncIterator[BrowserContext]:
        """A profile of the browser that a key of a tenant opened."""
        asked = {"name": f"bench of {tenant}", "scopes": ["write"], "tenant_id": tenant}
        with self.service.client() as client:
            key = client.post("/v1/keys", json=asked).raise_for_status().json()["key"]
        context = await self.new_context()
        page = await context.new_page()
        await page.goto(f"{self.service.url}/console")
        await page.get_by_label("Access key").fill(key)
        await page.keyboard.press("Enter")
        await page.get_by_role("navigation", name="Pages").wait_for()
        await page.close()
        yield context
        await context.close()

    async def new_context(self, **options: Any) -> BrowserContext:
        """A profile of its own, with an empty cache, whose pages make notes."""
        context = await self.browser.new_context(
            **{"viewport": WINDOW, "reduced_motion": "reduce", **options}
        )
        context.set_default_timeout(120_000)
        await context.add_init_script(_NOTES)
        return context


async def wait(page: Page, condition: str, arg: object = None) -> Any:
    """What a function in JavaScript returns once that counts as true; it is called every frame.

    The policy of the pages forbids what playwright itself waits by: scripts made of text.
    """
    return await page.evaluate(
        f"""(arg) => new Promise((done) => {{
            const look = () => {{
                const found = ({condition})(arg);
                if (found) done(found); else requestAnimationFrame(look);
            }};
            look();
        }})""",
        arg,
    )


async def noted(page: Page) -> dict[str, Any]:
    """The notes of a page."""
    found: dict[str, Any] = json.loads(await page.evaluate("JSON.stringify(benchNotes)"))
    return found


@asynccontextmanager
async def open_place(effort: Effort) -> AsyncIterator[Place]:
    """A place for the time of the block.

    Raises:
        RuntimeError: this machine has no Chromium.
    """
    options = launch_options()
    if options is None:
        raise RuntimeError("there is no Chromium: install the distribution's package")
    with tempfile.TemporaryDirectory(prefix="facette-bench-") as name:
        settings = {"FACETTE_MATCH_ASK_INTERVAL_S": _ASK_INTERVAL_S}
        service = ServiceProcess(Path(name), MODELS, settings).start()
        try:
            address = running_server(service.data_dir)
            assert address is not None
            database = await Database.open(
                DatabaseSettings(
                    address.socket_dir, address.port, address.dbname, address.user, "", 2, 30.0, 600
                )
            )
            try:
                async with async_playwright() as playwright:
                    browser = await playwright.chromium.launch(**options)
                    yield Place(service, database, browser, effort)
                    await browser.close()
            finally:
                await database.close()
        finally:
            service.stop()
