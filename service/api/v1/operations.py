"""The list of all operations of the contract; the router and the contract are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from service.api.forms import MalformedBodyError
from service.api.intake import UploadTimeoutError
from service.api.parts import MAX_PARTS
from service.api.v1 import (
    batch,
    events,
    history,
    images,
    keys,
    people,
    pictures,
    reviews,
    search,
    tenants,
)
from service.api.v1 import compare as comparing
from service.api.v1.models import (
    BatchAnswer,
    ChangeAnswer,
    ChangesAnswer,
    ComparisonAnswer,
    Confirm,
    CropQuery,
    DecisionsAnswer,
    DuplicatesQuery,
    Erased,
    EventsQuery,
    FaceAnswer,
    FaceMove,
    FacesAnswer,
    HistoryPage,
    ImageAnswer,
    ImagesAnswer,
    ImagesPage,
    InsertAnswer,
    InsertQuery,
    IssuedKeyAnswer,
    KeyAnswer,
    KeysAnswer,
    KeysPage,
    MatchesAnswer,
    Merge,
    NearCopiesAnswer,
    NewKeyRequest,
    NewPerson,
    NewTenant,
    NextReviews,
    NextReviewsAnswer,
    Page,
    PeopleAnswer,
    PeoplePage,
    PersonAnswer,
    PersonChange,
    ReviewReply,
    ReviewsAnswer,
    ReviewsPage,
    RotateRequest,
    SearchAnswer,
    SearchQuery,
    SearchRequest,
    SimilarQuery,
    Split,
    TenantAnswer,
    TenantEdit,
    TenantsAnswer,
    ThumbnailQuery,
)
from service.api.v1.operation import BodyKind, Operation
from service.api.v1.requests import IDEMPOTENCY_HEADER, IF_MATCH_HEADER
from service.domain import errors
from service.domain.keys import Scope

_TENANTS: Final = "/v1/tenants"
_TENANT: Final = "/v1/tenants/{tenant_id}"
_IMAGES: Final = _TENANT + "/images"
_IMAGE: Final = _IMAGES + "/{image_id}"
_FACE: Final = _TENANT + "/faces/{face_id}"
_PEOPLE: Final = _TENANT + "/people"
_REVIEWS: Final = _TENANT + "/reviews"
_PERSON: Final = _PEOPLE + "/{person_id}"

_TWO_PHOTOS: Final[Mapping[str, Mapping[str, Any]]] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {name: {"description": "a photo"} for name in ("first", "second")},
            "required": ["first", "second"],
            "additionalProperties": False,
        }
    }
}
_PHOTO_ERRORS: Final = (
    errors.UnsupportedImageError,
    errors.CorruptImageError,
    errors.ImageTooLargeError,
    errors.ImageTooComplexError,
    errors.DeadlineError,
)
_ETAG: Final = ("ETag",)
_EDIT_ERRORS: Final = (errors.MergedPersonError, errors.PreconditionError)
_WORD_ERRORS: Final = (*_EDIT_ERRORS, errors.DecisionConflictError)
_UNDO_ERRORS: Final = (
    errors.ChangeInUseError,
    errors.ChangeUndoneError,
    errors.ChangeForGoodError,
    errors.ExternalIdTakenError,
)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "POST", _IMAGES, images.insert_image, "insertImage", "images",
        "Insert a photo: its faces are found, and each joins a person or opens one",
        Scope.WRITE, {201: InsertAnswer, 200: InsertAnswer}, BodyKind.PHOTO, query=InsertQuery,
        errors=(*_PHOTO_ERRORS, errors.DuplicateImageError, errors.LimitReachedError),
        headers=(IDEMPOTENCY_HEADER,), stores=True,
    ),
    Operation(
        "POST", _IMAGES + "/batch", batch.insert_batch, "insertImages", "images",
        "Insert many photos, the files of one form, each with a result of its own",
        Scope.WRITE, {200: BatchAnswer}, BodyKind.STREAM, query=InsertQuery,
        errors=(MalformedBodyError, UploadTimeoutError, errors.NotFoundError),
        headers=(IDEMPOTENCY_HEADER,), stores=True, parts=MAX_PARTS,
    ),
    Operation(
        "GET", _IMAGES, images.list_images, "listImages", "images",
        "List images, newest first", Scope.READ, {200: ImagesAnswer}, query=ImagesPage,
        errors=(errors.MergedPersonError,),
    ),
    Operation(
        "GET", _IMAGE, images.get_image, "getImage", "images",
        "Facts of an image", Scope.READ, {200: ImageAnswer},
    ),
    Operation(
        "DELETE", _IMAGE, images.delete_image, "deleteImage", "images",
        "Delete an image, its faces and its file", Scope.WRITE, {200: Erased},
    ),
    Operation(
        "GET", _IMAGE + "/faces", images.list_faces_of_image, "listFacesOfImage", "images",
        "The faces of an image, largest first", Scope.READ, {200: FacesAnswer}, query=Page,
    ),
    Operation(
        "GET", _IMAGE + "/file", pictures.get_file, "getImageFile", "images",
        "The file of an image as it was sent, or a range of it", Scope.READ,
        {200: "image/*", 206: "image/*", 304: None}, errors=(errors.RangeError,),
        headers=("Range", "If-Range", "If-None-Match"),
    ),
    Operation(
        "GET", _IMAGE + "/thumbnail", pictures.get_thumbnail, "getThumbnail", "images",
        "A small upright JPEG of an image", Scope.READ, {200: "image/jpeg", 304: None},
        query=ThumbnailQuery, errors=_PHOTO_ERRORS, headers=("If-None-Match",),
    ),
    Operation(
        "GET", _IMAGE + "/duplicates", pictures.list_duplicates, "listDuplicates", "images",
        "Near copies of an image by perceptual hash, nearest first", Scope.READ,
        {200: NearCopiesAnswer}, query=DuplicatesQuery,
    ),
    Operation(
        "GET", _FACE + "/crop", pictures.get_crop, "getCrop", "faces",
        "A face, cut out of its image as JPEG", Scope.READ, {200: "image/jpeg", 304: None},
        query=CropQuery, errors=_PHOTO_ERRORS, headers=("If-None-Match",),
    ),
    Operation(
        "POST", _TENANT + "/search", search.search, "search", "search",
        "The people nearest to the faces of a photo, or to a stored face; stores nothing",
        Scope.READ, {200: SearchAnswer}, BodyKind.PHOTO_OR_JSON, SearchRequest, SearchQuery,
        errors=(*_PHOTO_ERRORS, errors.FaceNotEmbeddedError),
    ),
    Operation(
        "GET", _PERSON + "/similar", search.list_similar, "listSimilar", "people",
        "The people who look most like a person", Scope.READ, {200: MatchesAnswer},
        query=SimilarQuery, errors=(errors.MergedPersonError,),
    ),
    Operation(
        "GET", _TENANT + "/events", events.follow_events, "followEvents", "tenants",
        "Server-sent events of what happens in a tenant", Scope.READ,
        {200: events.EVENT_STREAM_TYPE}, query=EventsQuery, headers=(events.LAST_EVENT_HEADER,),
    ),
    Operation(
        "GET", _FACE, people.get_face, "getFace", "faces",
        "A face", Scope.READ, {200: FaceAnswer},
    ),
    Operation(
        "PATCH", _FACE, people.move_face, "moveFace", "faces",
        "Move a face to another person", Scope.WRITE, {200: FaceAnswer},
        BodyKind.JSON, FaceMove,
        errors=(errors.MergedPersonError, errors.DecisionConflictError),
    ),
    Operation(
        "DELETE", _FACE, people.delete_face, "deleteFace", "faces",
        "Delete a face; its image stays", Scope.WRITE, {200: Erased},
    ),
    Operation(
        "GET", _PEOPLE, people.list_people, "listPeople", "people",
        "List people", Scope.READ, {200: PeopleAnswer}, query=PeoplePage,
    ),
    Operation(
        "POST", _PEOPLE, people.create_person, "createPerson", "people",
        "Make a person, of faces that are taken from their people, or of none",
        Scope.WRITE, {201: PersonAnswer}, BodyKind.JSON, NewPerson,
        errors=(errors.ExternalIdTakenError, errors.DecisionConflictError),
        headers=(IDEMPOTENCY_HEADER,), stores=True, answer_headers=_ETAG,
    ),
    Operation(
        "GET", _PERSON, people.get_person, "getPerson", "people",
        "A person", Scope.READ, {200: PersonAnswer}, errors=(errors.MergedPersonError,),
        answer_headers=_ETAG,
    ),
    Operation(
        "PATCH", _PERSON, people.change_person, "changePerson", "people",
        "Change label, external id, metadata, cover, or whether the person is hidden",
        Scope.WRITE, {200: PersonAnswer}, BodyKind.JSON, PersonChange,
        errors=(*_EDIT_ERRORS, errors.ExternalIdTakenError), headers=(IF_MATCH_HEADER,),
        answer_headers=_ETAG,
    ),
    Operation(
        "DELETE", _PERSON, people.delete_person, "deletePerson", "people",
        "Erase a person, with all faces, and the images that show nobody else",
        Scope.WRITE, {200: Erased}, errors=_EDIT_ERRORS, headers=(IF_MATCH_HEADER,),
    ),
    Operation(
        "POST", _PERSON + "/merge", people.merge_person, "mergePerson", "people",
        "Merge a person into another one, which keeps its id", Scope.WRITE, {200: PersonAnswer},
        BodyKind.JSON, Merge, errors=_WORD_ERRORS,
        headers=(IF_MATCH_HEADER, IDEMPOTENCY_HEADER), stores=True, answer_headers=_ETAG,
    ),
    Operation(
        "POST", _PERSON + "/split", people.split_person, "splitPerson", "people",
        "Make a new person of some of the faces", Scope.WRITE, {201: PersonAnswer},
        BodyKind.JSON, Split, errors=(*_WORD_ERRORS, errors.ExternalIdTakenError),
        headers=(IF_MATCH_HEADER, IDEMPOTENCY_HEADER), stores=True, answer_headers=_ETAG,
    ),
    Operation(
        "POST", _PERSON + "/confirm", people.confirm_person, "confirmPerson", "people",
        "Say that faces of a person belong there, or all of them", Scope.WRITE,
        {200: PersonAnswer}, BodyKind.JSON, Confirm, errors=_EDIT_ERRORS,
        headers=(IF_MATCH_HEADER, IDEMPOTENCY_HEADER), stores=True, answer_headers=_ETAG,
    ),
    Operation(
        "GET", _REVIEWS, reviews.list_reviews, "listReviews", "reviews",
        "The open questions, those whose answers are of most worth first", Scope.READ,
        {200: ReviewsAnswer}, query=ReviewsPage,
    ),
    Operation(
        "GET", _REVIEWS + "/next", reviews.next_reviews, "nextReviews", "reviews",
        "The questions of most worth, held back from other reviewers for a while", Scope.WRITE,
        {200: NextReviewsAnswer}, query=NextReviews,
    ),
    Operation(
        "POST", _REVIEWS + "/{review_id}", reviews.answer_review, "answerReview", "reviews",
        "Answer a question; the change that it is can be undone", Scope.WRITE,
        {200: ChangeAnswer}, BodyKind.JSON, ReviewReply,
        errors=(
            errors.ReviewAnsweredError, errors.DecisionConflictError, errors.MergedPersonError,
        ),
        headers=(IDEMPOTENCY_HEADER,), stores=True,
    ),
    Operation(
        "GET", _TENANT + "/decisions", history.list_decisions, "listDecisions", "decisions",
        "What people decided about faces, newest first", Scope.READ, {200: DecisionsAnswer},
        query=Page,
    ),
    Operation(
        "DELETE", _TENANT + "/decisions/{decision_id}", history.retract_decision,
        "retractDecision", "decisions", "Let a decision count no more; no face is moved",
        Scope.WRITE, {200: ChangeAnswer},
    ),
    Operation(
        "GET", _TENANT + "/history", history.list_history, "listHistory", "decisions",
        "What happened, newest first", Scope.READ, {200: ChangesAnswer}, query=HistoryPage,
    ),
    Operation(
        "POST", _TENANT + "/history/{change_id}/undo", history.undo_change, "undoChange",
        "decisions", "Take a change back; taking that back does it again", Scope.WRITE,
        {200: ChangeAnswer}, errors=_UNDO_ERRORS, headers=(IDEMPOTENCY_HEADER,), stores=True,
    ),
    Operation(
        "GET", _PERSON + "/faces", people.list_faces_of_person, "listFacesOfPerson", "people",
        "The faces of a person, newest first", Scope.READ, {200: FacesAnswer}, query=Page,
        errors=(errors.MergedPersonError,),
    ),
    Operation(
        "GET", _PERSON + "/images", people.list_images_of_person, "listImagesOfPerson", "people",
        "The images that show a person, newest first", Scope.READ, {200: ImagesAnswer},
        query=Page, errors=(errors.MergedPersonError,),
    ),
    Operation(
        "POST", "/v1/compare", comparing.compare, "compare", "search",
        "Compare the faces of two photos, the parts of a form; stores nothing", Scope.READ,
        {200: ComparisonAnswer}, BodyKind.STREAM,
        errors=(*_PHOTO_ERRORS, MalformedBodyError, UploadTimeoutError), parts=2,
        media=_TWO_PHOTOS,
    ),
    Operation(
        "GET", _TENANTS, tenants.list_tenants, "listTenants", "tenants",
        "List the tenants that the key reaches", Scope.READ, {200: TenantsAnswer}, query=Page,
    ),
    Operation(
        "POST", _TENANTS, tenants.create_tenant, "createTenant", "tenants",
        "Make a tenant", Scope.ADMIN, {201: TenantAnswer}, BodyKind.JSON, NewTenant,
        errors=(errors.TenantTakenError,), headers=(IDEMPOTENCY_HEADER,), stores=True,
    ),
    Operation(
        "GET", _TENANT, tenants.get_tenant, "getTenant", "tenants",
        "Counts and limits of a tenant", Scope.READ, {200: TenantAnswer},
    ),
    Operation(
        "PATCH", _TENANT, tenants.change_tenant, "changeTenant", "tenants",
        "Change the limits of a tenant", Scope.ADMIN, {200: TenantAnswer},
        BodyKind.JSON, TenantEdit,
    ),
    Operation(
        "DELETE", _TENANT, tenants.delete_tenant, "deleteTenant", "tenants",
        "Erase all data of a tenant", Scope.ADMIN, {200: Erased},
    ),
    Operation(
        "GET", "/v1/keys", keys.list_keys, "listKeys", "keys",
        "List keys, newest first", Scope.ADMIN, {200: KeysAnswer}, query=KeysPage,
    ),
    Operation(
        "POST", "/v1/keys", keys.create_key, "createKey", "keys",
        "Make a key; its text is given this once", Scope.ADMIN, {201: IssuedKeyAnswer},
        BodyKind.JSON, NewKeyRequest, headers=(IDEMPOTENCY_HEADER,), stores=True,
        errors=(errors.IdempotencyError, errors.KeysUnavailableError),
    ),
    Operation(
        "GET", "/v1/keys/{key_id}", keys.get_key, "getKey", "keys",
        "A key, without its secret", Scope.ADMIN, {200: KeyAnswer},
    ),
    Operation(
        "DELETE", "/v1/keys/{key_id}", keys.revoke_key, "revokeKey", "keys",
        "Revoke a key for good", Scope.ADMIN, {200: KeyAnswer},
    ),
    Operation(
        "POST", "/v1/keys/{key_id}/rotate", keys.rotate_key, "rotateKey", "keys",
        "Give a key a new secret, which is given this once", Scope.ADMIN, {200: IssuedKeyAnswer},
        BodyKind.JSON, RotateRequest, headers=(IDEMPOTENCY_HEADER,), stores=True,
        errors=(errors.KeysUnavailableError,),
    ),
)  # fmt: skip
"""The operations, in the order in which the router tries their paths."""
