"""The comparison with other servers asks each in its way, believes none, and names the best."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.common.result import Result
from bench.load import Outcome
from bench.peers import contestants
from bench.peers.contestants import PEERS, Peer, installed_peers
from bench.peers.process import Served, serve_peer
from bench.peers.rounds import FACETTE, Findings, Turn
from bench.peers.summary import summarize
from tests.support.load_server import Conversation, Reply, serving

JPEG = b"\xff\xd8 not quite a picture \xff\xd9"
UNIT = np.eye(1, 512, dtype=np.float32)[0]
BY_KEY = {peer.key: peer for peer in PEERS}


def outcome(p99_ms: float, *, sent: int = 1000, ok: int = 1000) -> Outcome:
    return Outcome(
        label="",
        kind="open",
        seconds=1.0,
        offered=100.0,
        sent=sent,
        ok=ok,
        goodput_per_s=100.0,
        statuses={200: ok},
        codes={},
        errors={},
        latency_ms={"p50": p99_ms / 2, "p99": p99_ms},
        refused_ms={},
        lag_ms={},
        client_cpu_share=0.1,
        most_connections=1,
    )


def turn(capacity: float, lone_ms: float, p99_ms: float, *, failed: int = 0) -> Turn:
    return Turn(capacity, 9.0, lone_ms, failed, outcome(p99_ms), outcome(p99_ms))


def findings(turns: dict[str, list[Turn]]) -> Findings:
    rounds = len(turns[FACETTE])
    return Findings(turns, raw=[250.0] * rounds, raw_lone_ms=[10.0] * rounds, same_rates=[140.0])


def summary(found: Findings, *keys: str) -> Result:
    return summarize(found, [BY_KEY[key] for key in keys], "facenet-int8.onnx", [JPEG], {})


def test_each_figure_is_held_against_the_peer_that_is_best_in_it() -> None:
    mosec, control = BY_KEY["mosec"].name, BY_KEY["starlette"].name
    found = findings(
        {
            FACETTE: [turn(240, 11, 30), turn(220, 12, 40)],
            mosec: [turn(200, 13, 60), turn(200, 13, 60)],
            control: [turn(100, 11, 90), turn(110, 6, 90)],
        }
    )
    ratios = summary(found, "mosec", "starlette").document()["ratios"]
    assert ratios == {
        "embed_throughput_vs_best_peer": 1.15,
        "embed_throughput_vs_mosec": 1.15,
        "embed_throughput_vs_starlette": 2.2,
        "embed_http_vs_raw_session": 0.92,
        "embed_p99_best_peer_vs_facette": 1.75,
        "embed_lone_median_best_peer_vs_facette": 0.75,
    }


def test_a_peer_that_loses_requests_is_not_the_best_by_p99() -> None:
    mosec, bentoml = BY_KEY["mosec"].name, BY_KEY["bentoml"].name
    losing = replace(turn(150, 13, 5, failed=7), same=outcome(5, sent=1000, ok=900))
    found = findings({FACETTE: [turn(230, 11, 20)], mosec: [turn(200, 13, 40)], bentoml: [losing]})
    result = summary(found, "mosec", "bentoml")
    assert result.document()["ratios"]["embed_p99_best_peer_vs_facette"] == 2.0
    notes = "\n".join(result.notes)
    assert f"Not keeping up with it: {bentoml}." in notes
    assert f"failed in closed loops: {bentoml} 7." in notes


def test_facette_does_not_look_prompt_by_refusing() -> None:
    mosec = BY_KEY["mosec"].name
    refusing = replace(turn(230, 11, 5), same=outcome(5, sent=1000, ok=980))
    found = findings({FACETTE: [refusing], mosec: [turn(200, 13, 40)]})
    ratios = summary(found, "mosec").document()["ratios"]
    assert ratios["embed_p99_best_peer_vs_facette"] == 0.004


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.key)
def test_every_peer_is_sent_the_image_unchanged(peer: Peer) -> None:
    assert JPEG in peer.call(JPEG).body


def test_triton_finds_the_image_behind_its_length_behind_the_described_request() -> None:
    call = BY_KEY["pytriton"].call(JPEG)
    head = int(dict(call.headers)["Inference-Header-Content-Length"])
    (described,) = json.loads(call.body[:head])["inputs"]
    assert described["parameters"]["binary_data_size"] == len(call.body) - head
    assert int.from_bytes(call.body[head : head + 4], "little") == len(JPEG)
    assert call.body[head + 4 :] == JPEG


def answering(embedding: list[float], status: int = 200) -> Reply:
    def reply(conversation: Conversation) -> None:
        assert conversation.body == JPEG
        conversation.answer(status, json.dumps({"embedding": embedding}).encode())

    return reply


def check(reply: Reply) -> None:
    mosec = BY_KEY["mosec"]
    with serving(reply) as server:
        Served(server.url, 0, mosec.call, mosec.embedding).check({JPEG: UNIT})


def test_a_server_that_answers_as_the_session_is_believed() -> None:
    check(answering(UNIT.tolist()))


def test_a_server_that_embeds_otherwise_is_not_measured() -> None:
    other = UNIT + np.float32(0.001)
    with pytest.raises(RuntimeError, match=r"embeds otherwise: cosine 0\.99"):
        check(answering(other.tolist()))


def test_a_server_that_refuses_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="503"):
        check(answering([], status=503))


def test_without_their_environment_the_command_that_makes_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contestants, "PEERS_ENVIRONMENT", tmp_path)
    monkeypatch.setattr(
        contestants, "PEERS", tuple(replace(peer, environment=tmp_path) for peer in PEERS)
    )
    with pytest.raises(SystemExit, match="make peers"):
        installed_peers()


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no such model: $PEER_MODEL\nexit 1\n")
    program.chmod(0o755)
    broken = replace(BY_KEY["mosec"], environment=tmp_path)
    with (
        pytest.raises(RuntimeError, match=r"mosec did not come up:\nno such model: some\.onnx"),
        serve_peer(broken, Path("some.onnx"), 2, tmp_path, JPEG),
    ):
        pass


def test_what_a_server_leaves_running_ends_with_its_turn(tmp_path: Path) -> None:
    """Here the first process ends when asked to; its child would serve on."""
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        "sh -c 'trap \"\" TERM; while :; do sleep 1; done' &\n"
        f"echo $! > {tmp_path}/child\n"
        "wait\n"
    )
    program.chmod(0o755)

    with serving(answering(UNIT.tolist())) as server:
        port = server.url.rsplit(":", 1)[1]
        peer = replace(BY_KEY["mosec"], environment=tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.peers.process._free_port", lambda: int(port))
            with serve_peer(peer, Path("some.onnx"), 2, tmp_path, JPEG):
                child = int(_written(tmp_path / "child"))
    assert _ends(child)


def _written(path: Path) -> str:
    while not (path.exists() and (text := path.read_text().strip())):
        time.sleep(0.01)
    return text


def _ends(pid: int) -> bool:
    """Whether a process that nobody here can wait for is gone, or soon will be."""
    for _ in range(500):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False
