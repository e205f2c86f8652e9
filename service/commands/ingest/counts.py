"""What became of the files of an ingest, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from service.commands.ingest.files import Kind


@dataclass(slots=True)
class Counts:
    """Files so far.

    found: by kind. stored: photos that the service has by this run; known: that it had; faces: on
    those that were stored; sent_bytes: of all that were sent.
    """

    found: Counter[Kind] = field(default_factory=Counter)
    stored: int = 0
    known: int = 0
    failed: int = 0
    faces: int = 0
    sent_bytes: int = 0

    @property
    def handled(self) -> int:
        """Photos of which it is known what became of them."""
        return self.stored + self.known + self.failed

    def find(self, kind: Kind) -> None:
        """A file was found."""
        self.found[kind] += 1

    def store(self, faces: int, sent_bytes: int) -> None:
        """A photo was sent, and is stored with this number of faces."""
        self.stored += 1
        self.faces += faces
        self.sent_bytes += sent_bytes

    def know(self, photos: int, sent_bytes: int = 0) -> None:
        """The tenant had photos of these bytes, though they may have been sent."""
        self.known += photos
        self.sent_bytes += sent_bytes

    def fail(self, photos: int) -> None:
        """Photos failed for good."""
        self.failed += photos
