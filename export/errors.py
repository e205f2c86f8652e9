"""Every error the export program raises on purpose, as one tree.

ExportError
├── MissingExtraError           the packages of the `export` extra are not installed
├── WeightsError                the weights cannot be used
│   ├── WeightsNotFoundError    no such file, no such package data, no such name
│   ├── WeightsDownloadError    facenet-pytorch's download did not succeed
│   ├── WeightsMismatchError    a state dict that is not this network's
│   └── FrozenGraphError        the TensorFlow graph is not the one the mapping was written for
├── CalibrationError            activation ranges cannot be measured, read or recorded
├── RecordError                 a recorded centre or curve cannot be read or written
├── ConversionError             the graph could not be made, or ONNX's checker refused it
├── VerificationError           the graph is not the network it was made from; stages in this order:
│   ├── NamesError              inputs or outputs have other names
│   ├── ShapesError             a declared or a computed shape differs
│   ├── DtypesError             a declared or a computed element type differs
│   └── NumbersError            an output differs by more than the tolerance
└── PublishError                the models directory cannot be written

A message is one line for the person at the terminal; the program prints it and ends with
`exit_code`.
"""

from __future__ import annotations

from typing import ClassVar


class ExportError(Exception):
    """Root of the tree."""

    exit_code: ClassVar[int] = 1


class MissingExtraError(ExportError):
    """The packages of the `export` extra are not installed."""

    exit_code = 2


class WeightsError(ExportError):
    """The weights cannot be used."""

    exit_code = 2


class WeightsNotFoundError(WeightsError):
    """There is no such file, package data or name."""


class WeightsDownloadError(WeightsError):
    """facenet-pytorch's download did not succeed."""


class WeightsMismatchError(WeightsError):
    """The file holds no state dict of this network."""


class FrozenGraphError(WeightsError):
    """The TensorFlow graph is not the one the mapping was written for."""


class CalibrationError(ExportError):
    """Activation ranges cannot be measured, read or recorded."""


class RecordError(ExportError):
    """A recorded centre or curve cannot be read or written."""


class ConversionError(ExportError):
    """The graph could not be made, or ONNX's checker refused it."""


class VerificationError(ExportError):
    """The graph is not the network it was made from; `model` says which."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(f"{model}: {message}")
        self.model = model


class NamesError(VerificationError):
    """Inputs or outputs have other names than the manifest promises."""


class ShapesError(VerificationError):
    """A declared or a computed shape differs."""


class DtypesError(VerificationError):
    """A declared or a computed element type differs."""


class NumbersError(VerificationError):
    """An output differs from the original network's by more than the tolerance."""

    def __init__(self, model: str, output: str, difference: float, tolerance: float) -> None:
        super().__init__(
            model,
            f"'{output}' differs from the original network by {difference:.3g}, "
            f"more than the tolerance of {tolerance:.0e}",
        )
        self.output = output
        self.difference = difference
        self.tolerance = tolerance


class PublishError(ExportError):
    """The models directory cannot be written."""
