"""The pictures of a question: the face that is asked about, and faces of each person."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from facette_client import (
    AskedPerson,
    AuthenticationError,
    BusyError,
    ForbiddenError,
    Review,
    Tenant,
)
from facette_client.errors import AnswerError
from service.commands.reviewing.wording import named

_PIXELS: Final = 160
_GAP: Final = 6
_BETWEEN_SIDES: Final = 28
_FACES_OF_A_PERSON: Final = 4
_MISSING: Final = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class Side:
    """A part of a question, in words, and JPEG files of its faces; None where there is none."""

    title: str
    faces: tuple[bytes | None, ...]


class Crops:
    """Crops of a tenant's faces, each asked for once."""

    def __init__(self, family: Tenant) -> None:
        self._family = family
        self._known: dict[str, bytes | None] = {}

    def sides(self, question: Review) -> tuple[Side, ...]:
        """The sides of a question: the face, if it is about one, and the people."""
        sides = []
        if question.face is not None:
            sides.append(Side("this face", (self._crop(question.face.id),)))
        asked = None if question.face is None else question.face.id
        for person in question.people:
            faces = [each for each in self._faces(person) if each != asked][:_FACES_OF_A_PERSON]
            sides.append(Side(named(person), tuple(map(self._crop, faces))))
        return tuple(sides)

    def _faces(self, person: AskedPerson) -> list[str]:
        """The cover, and the newest faces; none of a person who is gone."""
        cover = [person.cover_face_id] if person.cover_face_id else []
        try:
            newest = itertools.islice(
                self._family.faces_of_person(person.id), _FACES_OF_A_PERSON + 2
            )
            return list(dict.fromkeys([*cover, *(each.id for each in newest)]))
        except (AuthenticationError, ForbiddenError, BusyError):
            raise
        except AnswerError:
            return cover

    def _crop(self, face_id: str) -> bytes | None:
        """A JPEG file; None where the photo was not kept, is damaged, or went."""
        if face_id not in self._known:
            try:
                self._known[face_id] = self._family.crop(face_id, size=_PIXELS)
            except (AuthenticationError, ForbiddenError, BusyError):
                raise
            except AnswerError:
                self._known[face_id] = None
        return self._known[face_id]


def in_a_row(sides: Sequence[Side]) -> bytes:
    """The faces of all sides beside each other, in a PNG file."""
    from PIL import Image

    places, right = [], 0
    for side in sides:
        for face in side.faces:
            places.append((right, face))
            right += _PIXELS + _GAP
        right += _BETWEEN_SIDES - _GAP if side.faces else 0
    row = Image.new("RGBA", (max(1, right - _BETWEEN_SIDES), _PIXELS), (0, 0, 0, 0))
    for left, face in places:
        picture = Image.new("RGB", (_PIXELS, _PIXELS), _MISSING)
        if face is not None:
            with Image.open(BytesIO(face)) as crop:
                picture = crop.convert("RGB").resize((_PIXELS, _PIXELS))
        row.paste(picture, (left, 0))
    written = BytesIO()
    row.save(written, "PNG")
    return written.getvalue()
