"""`facette search` and `facette compare`: who is on a photo, and are these the same people?"""

from __future__ import annotations

from pathlib import Path

from facette_client import Client, Person
from service.commands.asking import NotDoneError, Place, ask
from service.commands.display import print_json, print_table, printable
from service.commands.statuses import Status

_NO_FACE = "take a photo that shows a face larger and from the front"


def run_search(
    place: Place, tenant: str, photo: Path, *, limit: int, labelled: bool, as_json: bool
) -> int:
    """Print the people nearest to the faces of a photo; returns the exit status."""

    def act(client: Client) -> int:
        data = _read(photo)
        family = client.tenant(tenant)
        found = family.search(data, limit=limit, labelled=labelled)
        ids = {match.person_id for face in found.faces for match in face.matches}
        people: dict[str, Person] = {each: family.person(each) for each in ids}
        if as_json:
            faces = [
                {
                    "box": face.box,
                    "matches": [
                        {
                            "person_id": match.person_id,
                            "label": people[match.person_id].label,
                            "similarity": match.similarity,
                            "distance": match.distance,
                            "margin": match.margin,
                            "is_match": match.is_match,
                        }
                        for match in face.matches
                    ],
                }
                for face in found.faces
            ]
            print_json({"photo": str(photo), "tenant": tenant, "faces": faces})
        elif found.faces:
            rows = [
                (
                    str(number),
                    people[match.person_id].label or "",
                    match.person_id,
                    "yes" if match.is_match else "no",
                    f"{match.similarity:.3f}",
                )
                for number, face in enumerate(found.faces, 1)
                for match in face.matches
            ]
            print_table(("face", "label", "id", "match", "similarity"), rows, numbers=1)
        if not found.faces:
            raise NotDoneError(f"there is no face on {photo}", _NO_FACE)
        if not ids:
            advice = "`facette people list` shows who is there"
            raise NotDoneError(f"the tenant {tenant!r} has nobody to compare with", advice)
        return Status.DONE

    return ask(place, act)


def run_compare(place: Place, first: Path, second: Path, *, as_json: bool) -> int:
    """Print which faces of two photos are of one person; returns the exit status."""

    def act(client: Client) -> int:
        found = client.compare(_read(first), _read(second))
        if as_json:
            photos = [
                {"photo": str(path), "faces": [face.box for face in photo.faces]}
                for path, photo in zip((first, second), found.photos, strict=True)
            ]
            print_json({"photos": photos, "pairs": found.pairs})
        elif found.pairs:
            rows = [
                (
                    *(str(1 + face) for face in pair.faces),
                    pair.verdict,
                    f"{pair.similarity:.3f}",
                    f"{pair.distance:.3f}",
                )
                for pair in sorted(found.pairs, key=lambda each: each.distance)
            ]
            print(f"faces by size: first {printable(str(first))}, other {printable(str(second))}")
            head = ("first", "other", "verdict", "similarity", "distance")
            print_table(head, rows, numbers=2)
        for path, photo in zip((first, second), found.photos, strict=True):
            if not photo.faces:
                raise NotDoneError(f"there is no face on {path}", _NO_FACE)
        return Status.DONE

    return ask(place, act)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotDoneError(f"{path} cannot be read: {reason}", "", Status.NOT_RUN) from None
