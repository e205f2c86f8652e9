"""Photos that take long to decode: one worker stays free for the others."""

from __future__ import annotations

import asyncio
import io
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench.common.harness import default_settings, running_analyzer
from bench.common.photos import source
from service.analysis import analyzer as analysis
from service.batching import free_ticket
from service.telemetry import StageClock
from service.vision.decode import DecodedPhoto, decode, read_header
from service.vision.formats.base import DecodeLimits

_HANGS_S = 60.0


def _jpeg(photo: Image.Image, side: int) -> bytes:
    stream = io.BytesIO()
    photo.resize((side, side)).save(stream, "JPEG")
    return stream.getvalue()


async def test_photos_that_take_long_to_decode_leave_a_worker_to_others(
    models_dir: Path, portraits: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Image.open(portraits[1]) as file:
        portrait = file.convert("RGB")
    costly, usual = _jpeg(portrait, 1500), _jpeg(portrait, 250)
    settings = default_settings()
    works = [read_header(each, settings.decoding).work_us for each in (usual, costly)]
    monkeypatch.setattr(analysis, "_LONG_WORK_US", sum(works) / 2)
    begun, go_on, lock = threading.Event(), threading.Event(), threading.Lock()
    at_once = [0]

    def held_up(data: bytes, limits: DecodeLimits, **how: bool) -> DecodedPhoto:
        if data == costly:
            with lock:
                at_once.append(at_once[-1] + 1)
            begun.set()
            go_on.wait()
            with lock:
                at_once.append(at_once[-1] - 1)
        return decode(data, limits, **how)

    monkeypatch.setattr(analysis, "decode", held_up)
    sessions = replace(settings.sessions, precision="fp32")
    settings = replace(settings, sessions=sessions, workers=2, max_photos=6)
    async with running_analyzer(settings, models_dir) as analyzer:

        async def faces(photo: bytes) -> int:
            found = await analyzer.detect(source(photo), StageClock(), free_ticket())
            return len(found.faces)

        try:
            waiting = [asyncio.create_task(faces(costly)) for _ in range(3)]
            await asyncio.to_thread(begun.wait)
            async with asyncio.timeout(_HANGS_S):
                assert await faces(usual) == 1
        finally:
            go_on.set()
        assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert max(at_once) == 1
