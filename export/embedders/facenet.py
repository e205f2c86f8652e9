"""FaceNet: InceptionResnetV1 of facenet-pytorch with one set of weights, in one or two spaces.

With a recorded centre the graph has two outputs: `compatible`, the vector of facenet-pytorch, and
`embedding`, the same vector less the centre, normalised again. Each belongs to one crop.
facenet-pytorch's crop stretches a box that the photo's edge cuts off; the default crop keeps the
proportions and includes more of the head.
"""

from __future__ import annotations

from collections.abc import Callable

from export.embedders import centre, curves, facts
from export.embedders.centre import Centre
from export.embedders.embedder import Embedder, unit
from export.graphs import convert, fold, networks, weights
from export.graphs.signature import FACENET, FACENET_CENTRED
from export.recipe import WeightsChoice
from export.verification.samples import Pixels
from export.verification.verify import Outputs, Reference, reference
from service.runtime.manifest import EmbeddingFacts, FaceCrop

# Margin of the default crop without a recorded centre: 1.2 and 1.3 had the best TPR of 1.0 to 1.4.
MARGIN = 1.2

_SIZE, _DIMENSION = 160, 512
_COMPATIBLE_CROP = FaceCrop(kind="box", size=_SIZE, margin=1.0, fill="clip")


def default_crop(margin: float) -> FaceCrop:
    """The default crop: the enlarged box, black outside of the photo."""
    return FaceCrop(kind="box", size=_SIZE, margin=margin, fill="black")


class FaceNet(Embedder):
    """InceptionResnetV1 with the chosen weights.

    Raises:
        WeightsError: they cannot be found, fetched or used.
        RecordError: a recorded centre or curve cannot be read.
    """

    precisions = ("int8", "fp16")

    def __init__(self, choice: WeightsChoice) -> None:
        self._network = networks.inception_resnet_v1()
        loaded = weights.load(choice, self._network)
        self._centre = centre.tracked(loaded.space)
        self.weights = loaded.space
        self.source = facts.facenet_source(choice, loaded)
        self.signature = FACENET if self._centre is None else FACENET_CENTRED
        self.embeddings = _embeddings(loaded.space, self._centre)

    def to_onnx(self) -> bytes:
        """See `Embedder`."""
        mean = None if self._centre is None else self._centre.vector
        return convert.to_onnx(self.signature, fold.fold_facenet(self._network, mean))

    def reference(self) -> Reference:
        """facenet-pytorch's module; NumPy subtracts the centre."""
        plain = reference(FACENET, self._network)
        return plain if self._centre is None else _centred(plain, self._centre)


def _embeddings(space: str, middle: Centre | None) -> tuple[EmbeddingFacts, ...]:
    margin = MARGIN if middle is None else middle.margin
    default = f"{space}/box{margin:g}"
    other = "embedding"
    if middle is not None:
        default, other = f"{default}-centred-{middle.digest}", "compatible"
    return (
        curves.facts(default, default_crop(margin), "embedding", _DIMENSION),
        curves.facts(space, _COMPATIBLE_CROP, other, _DIMENSION),
    )


def _centred(plain: Callable[[Pixels], Outputs], middle: Centre) -> Reference:
    def run(images: Pixels) -> Outputs:
        vectors = plain(images)["embedding"]
        return {"embedding": unit(vectors - middle.vector), "compatible": vectors}

    return run
