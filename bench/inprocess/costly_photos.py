"""Predicted work of decoding against processor time, for the costliest files of each format.

`python -m bench.inprocess.costly_photos` decodes large photos, and files that are made or mutated
to be costly, and prints for each format the largest processor time. The constants of
`service/vision/formats/` were chosen by it.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile

from bench.common.costly_photos import (
    COSTLY,
    LARGE,
    empty_blocks,
    in_front,
    mutated,
    png,
    png_chunk,
    progressive,
    repeated,
    save,
    seeds,
    strips,
    webp_of_tables,
)
from service.domain.errors import InputError
from service.vision.decode import decode, read_header
from service.vision.formats.base import MAX_WORK_US, DecodeLimits

_MUTANTS = 300
_SHOWN_S = 0.05
_NOISE_SIDE = 3464


def _photos() -> Iterator[tuple[str, bytes]]:
    """Large files that are decoded, the costly ones among them."""
    ImageFile.MAXBLOCK = 1 << 26  # for the encoder
    side = _NOISE_SIDE
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8))
    flat = Image.new("RGB", (LARGE, LARGE), "gray")
    for name, picture in (("noise", noise), ("flat", flat)):
        yield f"jpeg {name}", save(picture, "JPEG", quality=90)
        yield f"jpeg {name} progressive", save(picture, "JPEG", quality=75, progressive=True)
        yield f"jpeg {name} cmyk", save(picture.convert("CMYK"), "JPEG", quality=75)
        yield f"webp {name}", save(picture, "WEBP", method=0)
        yield f"gif {name}", save(picture.convert("L"), "GIF", transparency=1)
        yield f"tiff {name} fax", save(picture.convert("1"), "TIFF", compression="group4")
        yield f"bmp {name}", save(picture.convert("L"), "BMP")
    yield "webp tables", webp_of_tables(1024)
    yield "jpeg scans", repeated(progressive(LARGE), 20)
    yield "jpeg fill", in_front(progressive(LARGE), b"\xff" * (24 << 20))
    yield "jpeg cmyk fill", in_front(save(flat.convert("CMYK"), "JPEG"), b"\xff" * (23 << 20))
    yield "jpeg 250 MP", save(Image.new("L", (15_800, 15_800), 128), "JPEG")
    for color, depth, size in ((6, 16, 8), (2, 8, 3), (4, 8, 2), (0, 16, 2)):
        rows = np.zeros((LARGE, 1 + size * LARGE), np.uint8)
        rows[:, 0] = 4
        pixels = png_chunk(b"IDAT", zlib.compress(rows.tobytes(), 1))
        yield f"png color {color}, {depth} bits", png(LARGE, pixels, b"", depth, color)
    blocks = empty_blocks(10 << 20) + zlib.compress(bytes((LARGE + 1) * LARGE), 9)[2:]
    yield "png empty blocks", png(LARGE, png_chunk(b"IDAT", blocks))
    yield (
        "tiff empty blocks",
        strips(5400, 8, empty_blocks(10 << 20) + zlib.compress(bytes(5400 * 5400), 9)[2:], 1),
    )
    yield "tiff rows", strips(5400, 5, bytes(5400), 5400)


def main() -> int:
    """Decode all files and print the slowest ones of each format."""
    limits = DecodeLimits()
    worst: dict[str, tuple[float, str]] = defaultdict(lambda: (0.0, ""))
    files = [*_photos(), *((name, make()) for name, make in COSTLY.items())]
    for name, data in seeds().items():
        mutants = mutated(data, _MUTANTS, seed=time.time_ns())
        files += [(f"{name} mutated", mutant) for mutant in mutants]
    for name, data in files:
        began, predicted, said = time.thread_time(), 0.0, "decoded"
        try:
            predicted = read_header(data, limits).work_us
            decode(data, limits)
        except InputError as error:
            said = error.code
        took = time.thread_time() - began
        if took > _SHOWN_S and "mutated" not in name:
            print(f"{name:<40} {len(data):>10} bytes {took:.2f} s of {predicted / 1e6:.2f}, {said}")
        form = name.split()[0].rstrip(":")
        worst[form] = max(worst[form], (took, f"{name}: {len(data)} bytes, {said}"))
    print(f"\nbudget: {MAX_WORK_US / 1e6:.2f} s; worst of each format:")
    for form, (took, name) in worst.items():
        print(f"{form:<6} {took:.2f} s  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
