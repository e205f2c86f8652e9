"""The ports of the use cases: narrow protocols for analysis and stores."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from service.batching import Ticket
from service.domain.asking import (
    AskedQuestion,
    AskingPosition,
    DoubtfulFace,
    DoubtfulPerson,
    Findings,
    Unasked,
)
from service.domain.decisions import Decision, DecisionPosition, PastChange
from service.domain.keys import (
    AccessKey,
    KeyId,
    KeyPage,
    KeyPosition,
    KnownKey,
    MasterSecrets,
    NewKey,
    Seed,
)
from service.domain.matching import Candidates, ClusterQuery, MatchRule
from service.domain.people import (
    Change,
    FacePosition,
    ImageFacts,
    ImageFilter,
    ImagePosition,
    KeptAnswer,
    ListedFace,
    PeopleFilter,
    PeopleOrder,
    PeoplePosition,
    Person,
    TenantFacts,
)
from service.domain.reviews import Question, QuestionPosition, ReviewKind
from service.domain.search import NearPeople, PeopleQuery
from service.domain.sessions import SessionSecret, StoredSession
from service.domain.types import (
    AnalyzedPhoto,
    Box,
    ClusterId,
    ClusterSize,
    DecisionId,
    DetectedPhoto,
    Embedding,
    Erasure,
    FaceId,
    FaceOnFile,
    ImageId,
    ModelSpace,
    NearCopy,
    NewFace,
    NewImage,
    PhotoSource,
    Review,
    ReviewId,
    StoredBlob,
    StoredFace,
    StoredFile,
    StoredImage,
    TenantId,
)
from service.telemetry import StageClock


class PhotoAnalyzer(Protocol):
    """Finds and embeds the faces of a photo."""

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto: ...

    async def detect(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> DetectedPhoto: ...

    async def embed_crop(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket
    ) -> Embedding: ...


class PeopleReads(Protocol):
    """Reads of people, their faces and images; each raises NotFoundError for a missing id."""

    async def person(self, person_id: ClusterId) -> Person:
        """Raises MergedPersonError for a person that was merged into another one."""

    async def person_by_external_id(self, external_id: str) -> Person | None: ...

    async def people(
        self, order: PeopleOrder, which: PeopleFilter, behind: PeoplePosition | None, limit: int
    ) -> list[Person]: ...

    async def face(self, face_id: FaceId) -> ListedFace: ...

    async def faces_of_person(
        self, person_id: ClusterId, behind: FacePosition | None, limit: int
    ) -> list[ListedFace]: ...

    async def faces_of_image(
        self, image_id: ImageId, behind: FacePosition | None, limit: int
    ) -> list[ListedFace]: ...

    async def image(self, image_id: ImageId) -> ImageFacts: ...

    async def images_of_ids(self, image_ids: Sequence[ImageId]) -> list[ImageFacts]: ...

    async def images(
        self, which: ImageFilter, behind: ImagePosition | None, limit: int
    ) -> list[ImageFacts]: ...

    async def images_of_person(
        self, person_id: ClusterId, behind: FacePosition | None, limit: int
    ) -> tuple[list[ImageFacts], FacePosition | None]: ...


class PeopleWrites(PeopleReads, Protocol):
    """Changes of people; each raises ExternalIdTakenError for an external id that is taken."""

    async def insert(self, person: Person) -> None: ...

    async def change(self, person: Person) -> None: ...

    async def choose_cover(self, person_id: ClusterId, face_id: FaceId | None) -> None: ...

    async def touch(self, people: Sequence[ClusterId]) -> None: ...

    async def close_who(self, person_id: ClusterId) -> None: ...


class ReviewReads(Protocol):
    """Reads of the questions of one tenant."""

    async def page(
        self,
        kind: ReviewKind | None,
        behind: QuestionPosition | None,
        limit: int,
        *,
        put_off: bool = False,
        person_id: ClusterId | None = None,
    ) -> list[Question]: ...

    async def question(self, review_id: ReviewId) -> Question:
        """Raises ReviewAnsweredError for a question that is not open any more."""


class ReviewLeasing(Protocol):
    """Hands questions of one tenant out."""

    async def lease(self, reviewer: str, limit: int, lease_s: int) -> list[Question]: ...


class PictureRenderer(Protocol):
    """Makes small JPEG files of photos, without anything that the photo says about itself."""

    async def thumbnail(self, read: PhotoSource, size: int, ticket: Ticket) -> bytes:
        """The upright photo; its longest side has `size` pixels, or fewer if the photo has."""

    async def crop(
        self, read: PhotoSource, box: Box, size: int, margin: float, ticket: Ticket
    ) -> bytes:
        """The part of the upright photo within a box of `margin` times its sides, clipped to it."""


class TenantReads(Protocol):
    """Reads of one tenant; each raises NotFoundError for an id that the tenant does not have."""

    @property
    def people(self) -> PeopleReads: ...

    @property
    def reviews_of_worth(self) -> ReviewReads: ...

    async def facts(self) -> TenantFacts: ...

    async def kept_answer(self, key: str) -> KeptAnswer | None: ...

    async def face(self, face_id: FaceId) -> StoredFace: ...

    async def faces_of_image(
        self, image_id: ImageId, skip: int, limit: int
    ) -> list[StoredFace]: ...

    async def image(self, image_id: ImageId) -> StoredImage: ...

    async def image_by_sha256(self, sha256: str) -> ImageId | None: ...

    async def near_duplicates(
        self, image_id: ImageId, max_distance: int, limit: int
    ) -> list[NearCopy]: ...

    async def cluster_size(self, cluster_id: ClusterId) -> ClusterSize: ...

    async def review(self, review_id: ReviewId) -> Review: ...

    async def reviews(self, skip: int, limit: int) -> list[Review]: ...

    async def decisions(self, behind: DecisionPosition | None, limit: int) -> list[Decision]: ...

    async def past_change(self, number: int) -> PastChange: ...

    async def history(
        self, before: int | None, kind: str | None, person_id: ClusterId | None, limit: int
    ) -> list[PastChange]: ...


class FileFinder(Protocol):
    """Finds the files of images; NotFoundError for an id that the tenant does not have."""

    async def image_file(self, tenant_id: TenantId, image_id: ImageId) -> StoredFile: ...

    async def face_on_file(self, tenant_id: TenantId, face_id: FaceId) -> FaceOnFile:
        """The place of a face on the photo of its file."""


class TenantWrites(TenantReads, Protocol):
    """Writes to one tenant, in a transaction that excludes other writers of the tenant."""

    @property
    def people(self) -> PeopleWrites: ...

    async def note(
        self,
        kind: str,
        *,
        undoes: int | None = None,
        by_machine: bool = False,
        **subject: object,
    ) -> int: ...

    async def keep_answer(self, key: str, answer: KeptAnswer) -> None: ...

    async def change_limits(self, facts: TenantFacts) -> None: ...

    async def has_image(self, image_id: ImageId) -> bool: ...

    async def insert_photo(
        self,
        image: NewImage,
        opened: Sequence[ClusterId],
        faces: Sequence[NewFace],
        space: ModelSpace,
    ) -> None: ...

    async def insert_cluster(self, cluster_id: ClusterId) -> None: ...

    async def take_faces(
        self,
        face_ids: Sequence[FaceId],
        cluster_id: ClusterId,
        *,
        out_of: ClusterId | None = None,
        override: bool = False,
    ) -> None:
        """Move faces as a person says, as a part of a change that is noted elsewhere."""

    async def move_face(
        self, face_id: FaceId, cluster_id: ClusterId, *, override: bool = False
    ) -> None: ...

    async def merge_clusters(
        self, from_cluster: ClusterId, into_cluster: ClusterId, *, override: bool = False
    ) -> None: ...

    async def join(
        self, from_cluster: ClusterId, into_cluster: ClusterId, *, override: bool = False
    ) -> None:
        """Merge a person into another one, as a part of a change that is noted elsewhere."""

    async def rejoin(self, from_cluster: ClusterId, into_cluster: ClusterId) -> bool:
        """Let the machine join two people, unless people said anything that speaks against it."""

    async def tell_apart(self, one: ClusterId, other: ClusterId) -> None: ...

    async def say(
        self, person_id: ClusterId, *, label: str | None = None, hidden: bool = False
    ) -> None: ...

    async def put_off(self, review_id: ReviewId) -> None: ...

    async def confirm(self, person_id: ClusterId, face_ids: Sequence[FaceId]) -> None: ...

    async def ask_who(self, person_id: ClusterId) -> None: ...

    async def remember_person(self, person_id: ClusterId) -> None:
        """Remember a person as it was before the change that is noted next."""

    async def retract_decision(self, decision_id: DecisionId) -> int:
        """Returns the number of the change that it is."""

    async def undo(self, number: int) -> int:
        """Returns the number of the change that takes another one back."""

    async def delete_face(self, face_id: FaceId) -> Erasure: ...

    async def delete_image(self, image_id: ImageId) -> Erasure: ...

    async def delete_cluster(self, cluster_id: ClusterId) -> Erasure: ...

    async def delete_tenant(self) -> Erasure: ...

    async def delete_review(self, review_id: ReviewId) -> Erasure: ...


class FaceStore(Protocol):
    """Opens transactions on one tenant."""

    @property
    def makes_tenants(self) -> bool:
        """Whether `inserting` makes a tenant that is missing, and raises no NotFoundError."""

    def reading(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantReads]: ...

    async def image_of_bytes(self, tenant_id: TenantId, sha256: str) -> ImageId | None:
        """As the method of `TenantReads`, in a view of its own that costs less."""

    def writing(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantWrites]: ...

    def leasing(self, tenant_id: TenantId) -> AbstractAsyncContextManager[ReviewLeasing]:
        """A transaction that hands out questions, and excludes no other writer of the tenant."""

    def inserting(
        self, tenant_id: TenantId, query: ClusterQuery
    ) -> AbstractAsyncContextManager[tuple[TenantWrites, Candidates]]: ...

    def creating(
        self, facts: TenantFacts
    ) -> AbstractAsyncContextManager[tuple[TenantWrites, bool]]:
        """A transaction on a tenant, which is made unless there is one; and whether it was."""

    async def tenants(self, behind: str, limit: int) -> list[TenantFacts]:
        """A page of all tenants, in the order of their ids."""


class ChangeFeed(Protocol):
    """The changes of tenants, as they are committed."""

    async def newest(self, tenant_id: TenantId) -> int:
        """The number of the last change, to follow from now on; 0 before the first one.

        Raises:
            NotFoundError: there is no such tenant.
            StoreUnavailableError: the database does not answer.
        """

    def follow(self, tenant_id: TenantId, after: int) -> AsyncGenerator[Sequence[Change], None]:
        """The changes after a number, oldest first, and an empty sequence now and then.

        It ends when the service stops.

        Raises:
            NotFoundError: there is no such tenant, or it was deleted.
            StoreUnavailableError: the database does not answer.
        """

    def followers(self, tenant_id: TenantId | None = None) -> int:
        """The number of followers in this process, of one tenant or of all."""


class TenantSearch(Protocol):
    """Searches one tenant, as it is at one moment."""

    async def direction_of(self, person_id: ClusterId) -> Embedding | None:
        """A unit vector that stands for all faces of a person; None where nothing is known."""

    async def near_people(self, query: PeopleQuery) -> NearPeople: ...


class PeopleStore(Protocol):
    """Opens searches of one tenant."""

    def searching(
        self, tenant_id: TenantId, space: ModelSpace, ahead: PeopleQuery | None = None
    ) -> AbstractAsyncContextManager[TenantSearch]:
        """A search by vectors of a model, in a transaction that only reads.

        Args:
            ahead: what will be searched first, where that is known; it is faster then.

        Raises:
            NotFoundError: there is no such tenant.
            ModelReplacedError: the database is searched by another model.
        """

    def searching_by_face(
        self, tenant_id: TenantId, space: ModelSpace, face_id: FaceId
    ) -> AbstractAsyncContextManager[tuple[TenantSearch, StoredFace, Embedding]]:
        """The same by a stored face: the search, the face, and its vector of the model.

        Raises:
            NotFoundError, ModelReplacedError: as above; or the tenant has no such face.
            FaceNotEmbeddedError: the face has no such vector.
        """


class DoubtReads(Protocol):
    """What the search for questions reads of a tenant, as it is at one moment."""

    @property
    def number_of_people(self) -> int: ...

    @property
    def match_factor(self) -> float: ...

    async def unasked(self) -> Unasked: ...

    async def people(
        self, person_ids: Collection[ClusterId]
    ) -> dict[ClusterId, DoubtfulPerson]: ...

    async def near(
        self, people: Sequence[DoubtfulPerson], rule: MatchRule, wanted: int
    ) -> list[list[ClusterId]]: ...

    async def near_faces(
        self, faces: Sequence[DoubtfulFace], rule: MatchRule
    ) -> list[tuple[ClusterId, float] | tuple[None, None]]: ...

    async def faces(self, person_ids: Collection[ClusterId]) -> list[DoubtfulFace]: ...

    async def asked(self, person_ids: Collection[ClusterId]) -> list[AskedQuestion]: ...

    async def photographed_together(
        self, pairs: Collection[tuple[ClusterId, ClusterId]]
    ) -> set[tuple[ClusterId, ClusterId]]: ...

    async def kept_apart(
        self, people: Collection[ClusterId]
    ) -> set[tuple[ClusterId, ClusterId]]: ...


class QuestionWrites(Protocol):
    """Writes the questions that were found."""

    async def write(self, findings: Findings) -> int:
        """Returns the number of new ones."""


class AskingStore(Protocol):
    """Opens transactions on one tenant for the search for questions."""

    def doubting(
        self, tenant_id: TenantId, space: ModelSpace
    ) -> AbstractAsyncContextManager[DoubtReads]: ...

    def asking(
        self, tenant_id: TenantId, position: AskingPosition
    ) -> AbstractAsyncContextManager[QuestionWrites]:
        """A transaction that excludes other writers, and moves the search on to a position."""

    def writing(self, tenant_id: TenantId) -> AbstractAsyncContextManager[TenantWrites]: ...


class Deferring(Protocol):
    """Lets others work beside something that takes long, and behind each piece of it."""

    def piece(self) -> AbstractAsyncContextManager[None]:
        """A piece of the work, with a rest behind it."""

    async def rest(self) -> None:
        """Take the rests that are left; the work holds nothing here."""


class AskingTurns(Protocol):
    """Gives the search for questions to one process at a time."""

    def take(self) -> AbstractAsyncContextManager[AsyncIterator[TenantId] | None]:
        """The tenants in which something happened, as long as this process has the turn.

        None while another process looks.
        """


class BlobStore(Protocol):
    """Stores image bytes; all methods but `key` and `delete` raise StoreUnavailableError."""

    def key(self, tenant_id: TenantId, image_id: ImageId, suffix: str) -> str: ...

    def thumbnail_key(self, tenant_id: TenantId, image_id: ImageId, size: int) -> str: ...

    async def put(self, key: str, data: bytes) -> str: ...

    async def get(self, key: str) -> bytes: ...

    def stream(
        self, key: str, start: int, stop: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes from `start` to before `stop`, piece by piece, while the block lasts.

        NotFoundError where the blob is missing or ends before `stop`.
        """

    async def delete(self, keys: Iterable[str]) -> list[str]:
        """Remove blobs, and with those of images their thumbnails; returns what may be left."""

    async def find(self, key: str) -> StoredBlob | None: ...

    def listing(self, folder: str | None = None) -> AsyncIterator[StoredBlob]: ...

    async def now(self) -> datetime: ...

    async def owner(self) -> str | None:
        """The id of the database that owns the blobs; None where the store has no mark."""

    async def claim(self, database_id: str) -> None:
        """Mark the store as owned by a database, unless it has a mark."""


class BlobIndex(Protocol):
    """Finds the blobs that rows name, over all tenants."""

    async def database_id(self) -> str: ...

    async def named_blobs(self, keys: Sequence[str]) -> set[str]: ...

    def unnamed_for_good(self, keys: Sequence[str]) -> AbstractAsyncContextManager[list[str]]:
        """The keys, of one folder, that no row names and no insert can name in the block."""


class SweepTurns(Protocol):
    """Gives the sweep to one process at a time."""

    def take(self) -> AbstractAsyncContextManager[BlobIndex | None]:
        """The index for the block; None while another process sweeps."""


class KeyFinder(Protocol):
    """Finds access keys, which it may have looked up up to five seconds ago."""

    async def find(self, key_id: KeyId) -> KnownKey | None:
        """The key with an id; None where there is none.

        Raises:
            KeysUnavailableError: there is no master secret to check it with.
            StoreUnavailableError: the database does not answer.
        """

    def note_use(self, known: KnownKey) -> None:
        """Take note that a caller has just shown a key; it is written later."""


class SessionStore(Protocol):
    """Stores sessions of the console; each method raises StoreUnavailableError."""

    async def insert(
        self, secret: SessionSecret, key_id: KeyId | None, shown: bytes
    ) -> datetime: ...

    async def find(self, secret: SessionSecret) -> StoredSession | None: ...

    async def delete(self, secret: SessionSecret) -> None: ...


class MasterSecretSource(Protocol):
    """Gives the master secrets of the service, which may be rotated while it runs."""

    def read(self) -> MasterSecrets:
        """The master secrets of now.

        Raises:
            KeysUnavailableError: there are none; the message says what to set.
        """


class KeyStore(Protocol):
    """Stores access keys; each method raises StoreUnavailableError.

    A method that takes an id raises NotFoundError where there is no such key.
    """

    async def key(self, key_id: KeyId) -> AccessKey: ...

    async def newest(
        self, tenant_id: TenantId | None, after: KeyPosition | None, limit: int
    ) -> KeyPage: ...

    async def seed(self, key_id: KeyId) -> Seed: ...

    async def insert(self, key_id: KeyId, new: NewKey, seed: Seed) -> AccessKey | None:
        """Store a key; None where there is one of this id."""

    async def revoke(self, key_id: KeyId) -> AccessKey: ...

    async def rotate(
        self, key_id: KeyId, seed: Seed, former_until: datetime | None
    ) -> AccessKey: ...
