"""The few figures that README quotes, each from the last record of its bench, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bench.report import roofline
from bench.report.history import Record
from bench.report.tables import figure, ratio_spread, table

Newest = Mapping[str, Record]

_BESIDE_THE_PEER = (
    ("embedding, batches of 16", "embed", "embed_vs_facenet_pytorch"),
    ("detection, photos of 1024 px", "detect", "detect_vs_facenet_pytorch"),
    ("detection, image sizes not seen before", "detect", "detect_first_seen_vs_facenet_pytorch"),
    ("JPEG file to embeddings", "analyze", "analyze_vs_facenet_pytorch"),
)
_DEFAULT_MAX_SIDE = "2048"
_TWICE = 2.0
_ROUTES = {
    "insert": ("/insert-image", ""),
    "embed": ("/v1/embed?input=crop", "embed_"),
}


def speed(newest: Newest) -> str:
    """Facette's rates beside facenet-pytorch's."""
    rows = []
    for name, bench, key in _BESIDE_THE_PEER:
        record = newest[bench]
        ours, theirs = (record["rates"][each] for each in record["compared"][key])
        low, high = ratio_spread(record, key)
        rows.append(
            (
                name,
                f"{figure(ours['median'])} {record['unit']}",
                f"{figure(theirs['median'])} {record['unit']}",
                f"{record['ratios'][key]:.1f} ({low:.1f} to {high:.1f})",
                _when(record),
            )
        )
    return _table(("", "Facette", "facenet-pytorch", "ratio (rounds)", "measured"), rows)


def serving(newest: Newest) -> str:
    """The service over HTTP: capacity, overload, interruptions, memory and search."""
    rows = [(name, value, _when(record)) for name, value, record in _serving(newest)]
    return _table(("", "", "measured"), rows)


def _serving(newest: Newest) -> Iterator[tuple[str, str, Record]]:
    insert, embed = newest["http_insert"], newest["http_embed"]
    yield (
        "`POST /insert-image`, photos of 1024 px, 16 connections",
        (
            f"{figure(insert['rates']['HTTP, 16 connections']['median'])} photos/s; "
            f"{insert['ratios']['insert_http_vs_analysis']:.2f} of the analysis in process"
        ),
        insert,
    )
    yield (
        "`POST /v1/embed`, face crops, 16 connections",
        (
            f"{figure(embed['rates']['HTTP, 16 connections']['median'])} faces/s; "
            f"{embed['ratios']['embed_http_vs_raw_session']:.2f} of the raw model session"
        ),
        embed,
    )
    yield (
        "the same, one connection",
        f"{figure(embed['latency_ms']['HTTP, 1 connection']['p50'])} ms (median)",
        embed,
    )
    for what, (route, prefix) in _ROUTES.items():
        record = newest["http_overload"]
        (load,) = (each for each in record["loads"][route] if each["load"] == _TWICE)
        yield (
            f"{what} at twice the capacity for a minute",
            (
                f"{record['ratios'][f'{prefix}goodput_at_200_vs_capacity']:.2f} of the capacity is "
                f"answered, in {load['latency_ms']['p99']:.0f} ms (p99); refusals take "
                f"{load['refused_ms']['p99']:.0f} ms (p99)"
            ),
            record,
        )
    drills = newest["http_drills"]
    times, sent, kept = (_sum(drills["drills"], key) for key in ("repetitions", "sent", "right"))
    yield (
        f"SIGTERM, reload, restart of PostgreSQL under load, {times} times",
        f"{kept:,} of {sent:,} requests answered, and stored as answered",
        drills,
    )
    kills = newest["kills"]
    yield (
        f"SIGKILL of the service and of PostgreSQL, {_sum(kills['kinds'], 'kills')} times",
        (
            f"{_sum(kills['kinds'], 'inserts_acknowledged'):,} inserts acknowledged, "
            f"{_sum(kills['kinds'], 'lost')} lost"
        ),
        kills,
    )
    largest = max(newest["search"]["search"], key=lambda row: row["faces"])
    yield (
        f"nearest face in a tenant of {largest['faces']:,}",
        (
            f"recall {largest['matching']['recall_at_1']:.4g}, "
            f"{figure(largest['matching']['p50_ms'])} ms (median)"
        ),
        newest["search"],
    )
    soak = newest["soak"]
    yield (
        "memory of the service's process",
        "; ".join(f"{name}: {value:.0f} MB" for name, value in soak["memory_mb"].items()),
        soak,
    )


def limits(newest: Newest) -> str:
    """Measured weaknesses of the service."""
    rows = [(name, value, _when(record)) for name, value, record in _limits(newest)]
    return _table(("", "", "measured"), rows)


def _limits(newest: Newest) -> Iterator[tuple[str, str, Record]]:
    max_side = newest["max_side"]
    bins = max_side["max_side"]["height_bins"]
    crowds = max_side["max_side"]["limits"][_DEFAULT_MAX_SIDE]["crowds"]
    yield (
        f"faces below {bins[0]} px in photos of 4000 x 3000 px",
        (
            f"{crowds['found'][0]} of {crowds['expected'][0]} found that a search without "
            "`detection.max_side` finds"
        ),
        max_side,
    )
    accuracy = newest["accuracy"]
    served = accuracy["served"]["FaceNet"]["clustering"]
    yield (
        "pairs of photos of one person (FaceNet, news photos)",
        (
            f"{1 - served['recall']:.1%} are in two clusters; {1 - served['precision']:.1%} of the "
            "joined pairs are two people"
        ),
        accuracy,
    )
    friend, stranger = _cell(accuracy, "shared", "FaceNet", "20% of a face").split(" / ")
    yield (
        "a photo's edge cuts off a fifth of the face (FaceNet)",
        f"farthest pair of one person {friend}, nearest strangers {stranger}",
        accuracy,
    )
    fair = newest["http_fair"]
    yield (
        "a quiet tenant beside another's flood",
        f"p99 is {fair['fair_p99_flooded_over_alone']:.2f} times that alone",
        fair,
    )
    peers = newest["peers"]
    others = len(peers["rates"].keys() - {"Facette", *_bare(peers)})
    yield (
        f"embedding over HTTP next to the fastest of {others} other model servers",
        f"{peers['ratios']['embed_throughput_vs_best_peer']:.2f} of its throughput",
        peers,
    )


def setup(newest: Newest) -> str:
    """Sizes of a set-up: downloads, disk and models."""
    record = newest["setup"]
    rows = [*record["tables"]["setup"]["rows"]]
    return _table(record["tables"]["setup"]["head"], rows)


def parity(newest: Newest) -> str:
    """The faces of the reference photos next to facenet-pytorch's."""
    record = newest["accuracy"]
    found, pairs = record["parity"]["summary"], record["parity"]["pairs"]
    precision = record["configuration"]["models"]["embedder"]["precision"]
    rows = [
        (
            "photos with the same faces",
            f"{found['photos_with_the_same_faces']} of {found['photos']}",
        ),
        ("faces found again", f"{found['faces_found_again']} of {found['reference_faces']}"),
        ("IoU of the boxes: mean, smallest", f"{found['mean_iou']:.6f}, {found['min_iou']:.6f}"),
        (
            f"smallest cosine of an embedding ({precision}) to facenet-pytorch's",
            f"{found['min_cosine']:.4f}",
        ),
        (
            f"labelled pairs of one person ({pairs['same_person']['pairs']}): largest distance",
            f"{pairs['same_person']['max']:.3f}",
        ),
        (
            f"labelled pairs of strangers ({pairs['strangers']['pairs']}): smallest distance",
            f"{pairs['strangers']['min']:.3f}",
        ),
    ]
    return _table(("compatible mode", ""), rows)


def reviews(newest: Newest) -> str:
    """The questions until clusters are good enough, by each way of going through them."""
    record = newest["review"]
    rows = [
        (
            name.replace("_", " "),
            f"{found['faces']:,}",
            f"{found['lines']['by worth']['first']['recall']:.3f}",
            f"{found['lines']['by worth']['first']['precision']:.3f}",
            *map(_questions, found["lines"].values()),
        )
        for name, found in record["review"].items()
    ]
    ways = next(iter(record["review"].values()))["lines"]
    head = ("tenant", "faces", "recall before", "precision before", *ways)
    return f"{_table(head, rows)}\n\n{_when(record)}."


def _questions(line: Mapping[str, Any]) -> str:
    if line["questions"] is not None:
        return f"{line['questions']:,}"
    last = line["last"]
    return f"not by {last['questions']:,}: {last['recall']:.3f} at {last['precision']:.3f}"


TABLES: Mapping[str, Callable[[Newest], str]] = {
    "speed": speed,
    "serving": serving,
    "limits": limits,
    "setup_size": setup,
    "parity": parity,
    "reviews": reviews,
    "roofline_peaks": lambda newest: roofline.peaks(newest["roofline"]),
    "roofline_networks": lambda newest: roofline.networks(newest["roofline"]),
    "roofline_photo": lambda newest: roofline.photo(newest["roofline"]),
    "roofline_limits": roofline.limits,
}
"""Name between the markers -> table, and the benches that each table needs."""

NEEDS: Mapping[str, frozenset[str]] = {
    "speed": frozenset({"embed", "detect", "analyze"}),
    "serving": frozenset(
        {
            *("http_insert", "http_embed", "http_overload", "http_drills"),
            *("kills", "search", "soak"),
        }
    ),
    "limits": frozenset({"max_side", "accuracy", "http_fair", "peers"}),
    "setup_size": frozenset({"setup"}),
    "parity": frozenset({"accuracy"}),
    "reviews": frozenset({"review"}),
    "roofline_peaks": frozenset({"roofline"}),
    "roofline_networks": frozenset({"roofline"}),
    "roofline_photo": frozenset({"roofline"}),
    "roofline_limits": frozenset({"roofline", "analyze", "embed"}),
}


def _cell(record: Record, name: str, row: str, column: str) -> str:
    """A cell of a recorded table, by its row's name and a part of its column's."""
    found = record["tables"][name]
    place = next(n for n, head in enumerate(found["head"]) if column in head)
    (cells,) = (each for each in found["rows"] if each[0] == row)
    return str(cells[place])


def _bare(record: Record) -> list[str]:
    """The contestants that are no servers."""
    return [name for name in record["rates"] if name.startswith("raw session")]


def _sum(rows: Iterable[Mapping[str, Any]], key: str) -> int:
    return sum(row[key] for row in rows)


def _when(record: Record) -> str:
    """Day and machine of a run, such as `2026-11-29, 2 cores of AMD EPYC`."""
    machine = record["machine"]
    processor = machine["processor"].replace("(R)", "").removesuffix(" Processor")
    return f"{record['measured_at'][:10]}, {machine['usable_cores']} cores of {processor}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return table({"head": list(head), "rows": [list(row) for row in rows]}) + "\n"
