"""`python -m bench http`: the service over HTTP, by parts, or any server by its URL."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

PARTS = {
    "embed": "http_embed",
    "insert": "http_insert",
    "small": "http_small",
    "overload": "http_overload",
    "fair": "http_fair",
    "drills": "http_drills",
}
"""What --only may name -> the bench that measures it; each has its own line of the history."""
MODULES = {
    "http_embed": "bench.http.embed",
    "http_insert": "bench.http.insert",
    "http_small": "bench.http.small",
    "http_overload": "bench.http.overload",
    "http_fair": "bench.http.fair",
    "http_drills": "bench.drills",
}
ROUNDS = 5


def parts(text: str) -> list[str]:
    """The parts of a list with commas, each once.

    Raises:
        argparse.ArgumentTypeError: there is no such part.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if wrong := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]} is none of {', '.join(PARTS)}")
    return list(dict.fromkeys(names)) or list(PARTS)


def benches(names: Sequence[str]) -> list[str]:
    """The benches of some parts."""
    return [PARTS[name] for name in names]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench http`."""
    own = parser.add_argument_group("http")
    own.add_argument(
        "--only",
        type=parts,
        default=list(PARTS),
        metavar="PART,...",
        help=f"some of {', '.join(PARTS)} (default: all)",
    )
    own.add_argument("--url", help="measure this server instead, into no history")
    own.add_argument("--token", help="sent as 'Authorization: Bearer TOKEN'")
    own.add_argument("--header", action="append", default=[], help="'Name: value', any number")
    own.add_argument("--path", default="/v1/embed?input=crop", help="(default: %(default)s)")
    own.add_argument("--method", help="(default: POST with a --file, else GET)")
    own.add_argument("--file", help="the body of every request")
    own.add_argument("--multipart", action="store_true", help="send the file in a form")
    own.add_argument("--field", default="image", help="its name in the form (default: image)")
    own.add_argument(
        "--connections",
        type=_numbers(int),
        default=[1, 4, 16, 32],
        help="of closed loops (default: 1,4,16,32)",
    )
    own.add_argument(
        "--loads",
        type=_numbers(float),
        default=[0.5, 0.7, 0.9, 1.1, 2.0],
        help="of open loops, as shares of the best closed one (default: 0.5,0.7,0.9,1.1,2)",
    )
    own.add_argument("--seconds", type=float, default=10.0, help="of each (default: 10)")
    own.add_argument(
        "--progress", action="store_true", help="a line a second even where stderr is no terminal"
    )


class _numbers:  # noqa: N801
    """A list with commas of positive numbers, for argparse."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind
        self.__name__ = "list"

    def __call__(self, text: str) -> list[float]:
        found: list[float] = [self._kind(each) for each in text.split(",")]
        if not found or min(found) <= 0:
            raise argparse.ArgumentTypeError("numbers above 0 are wanted")
        return found
