"""`python -m bench.load SPEC.json`: runs the load that a file describes, writes the outcomes."""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
from pathlib import Path

from bench.load.client import execute
from bench.load.plan import decode, encode_outcome


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("spec", type=Path, help="what bench.load.plan.encode writes")
    parser.add_argument("--out", type=Path, help="where the outcomes go (default: stdout)")
    parser.add_argument(
        "--progress",
        choices=("auto", "always", "never"),
        default="auto",
        help="a line a second on stderr; auto: where that is a terminal",
    )
    options = parser.parse_args()
    url, groups = decode(json.loads(options.spec.read_bytes()))
    _allow_open_files()
    gc.collect()
    # What lives now lives to the end: no collection looks at it again.
    gc.freeze()
    terminal = sys.stderr.isatty()
    show = options.progress == "always" or (options.progress == "auto" and terminal)
    outcomes = execute(url, groups, show=show, erase=terminal)
    text = json.dumps([[encode_outcome(each) for each in group] for group in outcomes])
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


def _allow_open_files() -> None:
    """An open loop opens what it needs, and the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
