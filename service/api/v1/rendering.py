"""The JSON of answers, as the models of `models` describe it."""

from __future__ import annotations

from typing import Any

from service.api.render import quality
from service.domain.decisions import Decision, PastChange
from service.domain.people import ImageFacts, ListedFace, Person, TenantFacts
from service.domain.reviews import AskedFace, AskedPerson, Question
from service.domain.types import NewFace, Receipt


def person_json(person: Person) -> dict[str, Any]:
    """A `PersonAnswer`."""
    return {
        "id": person.person_id,
        "label": person.label,
        "external_id": person.external_id,
        "metadata": person.metadata,
        "hidden": person.hidden,
        "face_count": person.faces,
        "image_count": person.images,
        "cover_face_id": person.cover_face_id,
        "cover_is_chosen": person.cover_is_chosen,
        "created_at": person.created_at,
        "last_face_at": person.last_face_at,
        "version": person.version,
    }


def face_json(face: ListedFace) -> dict[str, Any]:
    """A `FaceAnswer`."""
    x1, y1, x2, y2 = face.box
    return {
        "id": face.face_id,
        "image_id": face.image_id,
        "person_id": face.person_id,
        "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
        "landmarks": face.landmarks,
        "confidence": face.confidence,
        "quality": quality(face.quality),
        "is_auto_matched": face.is_auto_matched,
        "distance": face.distance,
        "is_matchable": face.is_matchable,
    }


def new_face_json(face: NewFace, image_id: str) -> dict[str, Any]:
    """A `FaceAnswer` of a face that was just stored."""
    found = face.face.detection
    return {
        "id": face.face_id,
        "image_id": image_id,
        "person_id": face.cluster_id,
        "box": {"x1": found.box.x1, "y1": found.box.y1, "x2": found.box.x2, "y2": found.box.y2},
        "landmarks": found.landmarks,
        "confidence": found.confidence,
        "quality": quality(face.face.quality),
        "is_auto_matched": face.is_auto_matched,
        "distance": face.distance,
        "is_matchable": face.is_matchable,
        "similarity": face.similarity,
        "margin": face.margin,
    }


def image_json(image: ImageFacts) -> dict[str, Any]:
    """An `ImageAnswer`."""
    location = None
    if image.location is not None:
        location = {"latitude": image.location[0], "longitude": image.location[1]}
    return {
        "id": image.image_id,
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "size_bytes": image.size_bytes,
        "sha256": image.sha256,
        "phash": image.phash,
        "turned": image.turned,
        "created_at": image.created_at,
        "taken_at": image.taken_at,
        "orientation": image.orientation,
        "location": location,
        "face_count": image.faces,
        "has_file": image.has_file,
    }


def tenant_json(tenant: TenantFacts) -> dict[str, Any]:
    """A `TenantAnswer`."""
    return {
        "id": tenant.tenant_id,
        "created_at": tenant.created_at,
        "image_count": tenant.images,
        "face_count": tenant.faces,
        "person_count": tenant.people,
        "max_images": tenant.max_images,
        "max_faces": tenant.max_faces,
        "requests_per_minute": tenant.requests_per_minute,
    }


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """An `Erased`."""
    return {
        "images": receipt.images,
        "faces": receipt.faces,
        "people": receipt.clusters,
        "reviews": receipt.reviews,
        "files": receipt.files,
        "decisions": receipt.decisions,
        "changes": receipt.changes,
    }


def decision_json(decision: Decision) -> dict[str, Any]:
    """A `DecisionAnswer`."""
    return {
        "id": decision.decision_id,
        "kind": decision.kind,
        "decided_at": decision.decided_at,
        "key_id": decision.key_id,
        "face_ids": decision.faces,
        "other_face_ids": decision.others,
        "person_ids": decision.people,
    }


def change_json(change: PastChange) -> dict[str, Any]:
    """A `ChangeAnswer`."""
    return {
        "id": str(change.number),
        "at": change.changed_at,
        "kind": change.kind,
        "key_id": change.key_id,
        "by_machine": change.by_machine,
        "subject": change.subject,
        "undoable": change.is_undoable and change.undone_by is None,
        "undoes": None if change.undoes is None else str(change.undoes),
        "undone_by": None if change.undone_by is None else str(change.undone_by),
    }


def question_json(question: Question) -> dict[str, Any]:
    """A `ReviewAnswer`."""
    return {
        "id": str(question.review_id),
        "kind": question.kind,
        "created_at": question.created_at,
        "people": [_asked_person(each) for each in question.people],
        "face": None if question.face is None else _asked_face(question.face),
        "distance": question.distance,
        "other_distance": question.other_distance,
        "similarity": question.similarity,
        "margin": question.margin,
        "why": question.why,
        "settles": question.settles,
        "chance": question.chance,
        "worth": question.worth,
        "put_off": question.is_put_off,
    }


def _asked_person(person: AskedPerson) -> dict[str, Any]:
    return {
        "id": person.person_id,
        "label": person.label,
        "face_count": person.faces,
        "cover_face_id": person.cover_face_id,
    }


def _asked_face(face: AskedFace) -> dict[str, Any]:
    x1, y1, x2, y2 = face.box
    return {
        "id": face.face_id,
        "image_id": face.image_id,
        "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
    }
