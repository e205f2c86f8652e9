"""What files of images begin with, and what their names end with; nothing here decodes one."""

from __future__ import annotations

from typing import Final

HEAD_BYTES: Final = 64
"""As many first bytes as `is_image` looks at."""

# JPEG, PNG, GIF, TIFF and BigTIFF (as which most camera raw files begin), Olympus, Panasonic, Fuji,
# Sigma and Minolta raw, JPEG XL as codestream and in its container, JPEG 2000.
_SIGNATURES: Final = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a",
    b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
    b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM",
    b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x0cjP  \r\n\x87\n",
)  # fmt: skip
# ISO/IEC 14496-12, section 4.3: the major brand follows the type of the first box. HEIF, AVIF and
# Canon's CR3.
_BRANDS: Final = {
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis",
    b"crx ",
}  # fmt: skip
PHOTO_SUFFIXES: Final = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".heic", ".heif", ".hif", ".avif", ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw"),
        *(".pef", ".rw2", ".raf", ".orf", ".srw", ".3fr", ".iiq", ".jxl", ".jp2"),
    }
)
"""Of photos, in small letters, whether their formats are supported or not."""


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this is an image, of a format that is supported or not."""
    if head.startswith(_SIGNATURES):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] in _BRANDS
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4) and len(head) > 10  # reserved, always 0
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"
