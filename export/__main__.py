"""The command line of the export program: `python -m export`, or `facette export`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from export import recipe
from export.errors import ExportError, MissingExtraError
from service.commands.extras import install_command, missing_extras
from service.runtime.manifest import Fidelity, Manifest


def main(argv: Sequence[str] | None = None, *, models_dir: Path = Path("models")) -> int:
    """Run the export program and return its exit status: 0, or an `ExportError`'s code.

    Args:
        models_dir: where the models go unless the arguments name another folder.
    """
    started = time.monotonic()
    arguments = _parser(models_dir).parse_args(argv)
    if arguments.weights is None and not arguments.download:
        choice = recipe.recorded_weights(arguments.models_dir)
    else:
        choice = recipe.parse_weights(
            arguments.weights or "casia-webface", download=arguments.download
        )
    try:
        if (
            arguments.if_stale
            and not arguments.calibrate
            and recipe.is_fresh(arguments.models_dir, choice)
        ):
            print("models are up to date")
            return 0
        # Reports a missing file of weights before torch is imported, which takes seconds.
        _ = choice.identity
        if missing := recipe.missing_packages():
            extras = missing_extras("cpu", "export") or ["cpu", "export"]
            raise MissingExtraError(
                f"the models must be exported, but {', '.join(missing)} cannot be imported: "
                f"{install_command(*extras)}"
            )
        _stop_cleanly_on_sigterm()
        from export import pipeline

        def progress(text: str) -> None:
            print(f"[{time.monotonic() - started:5.1f} s] {text}", flush=True)

        if arguments.calibrate:
            pipeline.calibrate(choice, progress)
            return 0
        manifest = pipeline.run(arguments.models_dir, choice, progress)
    except ExportError as error:
        print(f"export: {error}", file=sys.stderr)
        return error.exit_code
    _print_table(arguments.models_dir, manifest)
    return 0


def _parser(models_dir: Path) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facette export",
        description="Export MTCNN and FaceNet or SFace to ONNX, verify and publish them.",
    )
    parser.add_argument(
        "--models-dir",
        type=Path,
        default=models_dir,
        metavar="DIR",
        help="where the models and manifest.json go (default: paths.models_dir of the "
        "configuration for `facette export`, ./models for `python -m export`)",
    )
    parser.add_argument(
        "--weights",
        metavar="NAME|PATH",
        help="FaceNet's casia-webface (from an installed package) or vggface2 (downloaded), sface "
        "(from an installed package), or the path of an InceptionResnetV1 state dict (default: "
        "those of the last export, else casia-webface)",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="take casia-webface through facenet-pytorch's download instead",
    )
    parser.add_argument(
        "--if-stale",
        action="store_true",
        help="do nothing when the models on disk are the ones this run would make",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="export nothing: measure the embedder's activation ranges anew, on the labelled "
        "photos of FACES_DIR or ../shared/faces, and record them beside the code for int8",
    )
    return parser


def _stop_cleanly_on_sigterm() -> None:
    """Let SIGTERM unwind the stack, so that the staging folder is removed."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _print_table(models_dir: Path, manifest: Manifest) -> None:
    print(f"\n{'model':<8} {'output':<12} {'max |diff|':>10} {'tolerance':>10} {'bytes':>11}")
    for name, spec in manifest.models.items():
        size = (models_dir / spec.file).stat().st_size
        for output, difference in spec.verification.max_abs_difference.items():
            tolerance = spec.verification.tolerance
            print(f"{name:<8} {output:<12} {difference:>10.1e} {tolerance:>10.0e} {size:>11,}")
    offered = [variant for spec in manifest.models.values() for variant in spec.variants]
    if not offered:
        return
    print(f"\n{'variant':<18} {'bytes':>11} {'min cosine':>10} {'median':>7}  labelled pairs")
    for variant in offered:
        size = (models_dir / variant.file).stat().st_size
        for found in variant.fidelity:
            cosines = f"{found.min_cosine:>10.4f} {found.median_cosine:>7.4f}"
            print(f"{variant.file:<18} {size:>11,} {cosines}  {_pairs_text(found)}")
            print(f"  in {found.space}")
    print(f"cosines to fp32 over {offered[0].fidelity[0].inputs}")


def _pairs_text(found: Fidelity) -> str:
    if found.pairs is None:
        return "none at hand"
    pairs = found.pairs
    return (
        f"one person up to {pairs.max_same_person_distance:.3f}, "
        f"strangers from {pairs.min_stranger_distance:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
