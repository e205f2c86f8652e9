"""Raw files of cameras: recognised, so that their previews are not taken for photos."""

from __future__ import annotations

from typing import Final

from service.domain.errors import UnsupportedImageError

# Where the bytes stand, and the bytes: CR2, Olympus, Panasonic, Fujifilm, CR3, Sigma, Minolta.
_MAGICS: Final = (
    (8, b"CR\2\0"),
    (0, b"IIRO"),
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\0"),
    (0, b"FUJIFILMCCD-RAW"),
    (4, b"ftypcrx "),
    (0, b"FOVb"),
    (0, b"\0MRM"),
)
_TIFF = (b"II*\0", b"MM\0*")


def is_raw_file(data: bytes) -> bool:
    """Whether the first bytes are those of a camera's raw file; DNG and others look like TIFF."""
    return any(
        data.startswith(magic, place) and (place != 8 or data.startswith(_TIFF))
        for place, magic in _MAGICS
    )


def raw_file_error() -> UnsupportedImageError:
    """The refusal of a raw file."""
    return UnsupportedImageError(
        "The file is a camera's raw file, which is not supported: send the JPEG that the camera or "
        "a program makes of it."
    )
