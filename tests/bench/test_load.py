"""The load client counts what a server does, and times it from the intended send."""

from __future__ import annotations

import email
import itertools
import json
import socket
import time
from collections import Counter

import pytest

from bench import load
from bench.load import Call, Outcome, Phase
from bench.load.client import execute
from bench.load.plan import decode, decode_outcome, encode, encode_outcome
from bench.load.wire import multipart
from tests.support.load_server import Conversation, Reply, Server, serving

GET = Call("GET", "/", (("token", "secret"),))
STALL_S = 0.5


def closed(connections: int = 2, seconds: float = 0.3, **more: object) -> Phase:
    given = {"calls": [GET], "warmup_s": 0.0, **more}
    return Phase(kind="closed", connections=connections, seconds=seconds, **given)


def opened(rate: float = 200.0, seconds: float = 0.5, **more: object) -> Phase:
    given = {"calls": [GET], "warmup_s": 0.0, **more}
    return Phase(kind="open", rate=rate, seconds=seconds, **given)


def against(reply: Reply, phase: Phase) -> tuple[Outcome, Server]:
    with serving(reply) as server:
        ((outcome,),) = execute(server.url, [[phase]])
    return outcome, server


def fine(conversation: Conversation) -> None:
    conversation.answer()


@pytest.mark.parametrize("phase", [closed(), opened()], ids=["closed", "open"])
def test_every_request_is_counted_once_and_connections_are_kept(phase: Phase) -> None:
    outcome, server = against(fine, phase)
    assert outcome.sent == server.requests > 10
    assert outcome.statuses == {200: outcome.sent}
    assert outcome.ok == outcome.sent
    assert not outcome.errors
    assert server.connections == outcome.most_connections
    assert phase.kind == "open" or server.connections == 2


def test_refusals_and_other_errors_are_counted_by_status_and_code_apart_from_the_latency() -> None:
    turn = itertools.cycle([(200, ""), (429, "overloaded"), (504, "deadline_exceeded"), (204, "")])

    def reply(conversation: Conversation) -> None:
        status, code = next(turn)
        body = json.dumps({"error": {"code": code}}).encode() if code else b""
        conversation.answer(status, body)

    outcome, _ = against(reply, closed(1))
    assert set(outcome.statuses) == {200, 204, 429, 504}
    assert outcome.ok == outcome.statuses[200] + outcome.statuses[204]
    assert outcome.refused == outcome.statuses[429]
    assert outcome.codes == {
        "overloaded": outcome.statuses[429],
        "deadline_exceeded": outcome.statuses[504],
    }
    assert outcome.refused_ms
    assert outcome.goodput_per_s <= outcome.ok / outcome.seconds


def stalling() -> Reply:
    seen = itertools.count(1)

    def reply(conversation: Conversation) -> None:
        if next(seen) == 20:
            time.sleep(STALL_S)  # nothing is read meanwhile, on any connection
        conversation.answer()

    return reply


def test_open_loop_charges_a_stall_to_every_request_that_was_due_meanwhile() -> None:
    outcome, _ = against(stalling(), opened(rate=200, seconds=1.0))
    # Some 100 of 200 fall due during the stall, evenly, so that a fifth of them all waits longer
    # than half of it.
    assert outcome.latency_ms["p90"] >= STALL_S * 1e3 / 2
    assert outcome.latency_ms["max"] >= STALL_S * 1e3
    # They left when they were due, over connections of their own.
    assert outcome.most_connections > 20


def test_closed_loop_sees_a_stall_once_for_each_connection() -> None:
    outcome, _ = against(stalling(), closed(1, seconds=1.0))
    assert outcome.latency_ms["max"] >= STALL_S * 1e3
    assert outcome.latency_ms["p50"] < STALL_S * 1e3 / 2


def test_an_answer_later_than_the_objective_is_no_goodput() -> None:
    outcome, _ = against(stalling(), opened(rate=200, seconds=1.0, objective_ms=STALL_S * 500))
    assert 0 < outcome.ok < outcome.statuses[200] == outcome.sent


def test_arrivals_are_a_poisson_process_that_a_seed_repeats() -> None:
    outcome, again, other = (
        against(fine, opened(rate=400, seconds=1.0, seed=seed))[0].sent for seed in (7, 7, 8)
    )
    assert outcome == again != other
    assert outcome == pytest.approx(400, abs=5 * 400**0.5)


def test_a_connection_that_the_server_closes_is_followed_by_a_new_one() -> None:
    def reply(conversation: Conversation) -> None:
        conversation.answer(200, b"once", "Connection: close")
        conversation.transport.close()

    outcome, server = against(reply, closed(2))
    assert outcome.statuses == {200: outcome.sent}
    assert not outcome.errors
    assert server.connections >= outcome.sent


def test_an_answer_may_end_with_its_connection() -> None:
    def reply(conversation: Conversation) -> None:
        conversation.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end")
        conversation.transport.close()

    outcome, _ = against(reply, closed(1, collect=True))
    assert not outcome.errors
    assert {answer.body for answer in outcome.answers} == {b"to the end"}


def test_an_interim_answer_is_not_the_answer() -> None:
    def reply(conversation: Conversation) -> None:
        conversation.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        conversation.answer(201)

    outcome, _ = against(reply, closed(1))
    assert outcome.statuses == {201: outcome.sent}


def close_at_once(conversation: Conversation) -> None:
    conversation.transport.close()


def close_in_the_middle(conversation: Conversation) -> None:
    conversation.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome of it")
    conversation.transport.close()


def no_http(conversation: Conversation) -> None:
    conversation.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


def silence(conversation: Conversation) -> None:
    pass


@pytest.mark.parametrize("make", [closed, opened])
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (close_at_once, "before_answer"),
        (close_in_the_middle, "in_answer"),
        (no_http, "malformed"),
        (silence, "timeout"),
    ],
)
def test_broken_answers_are_told_apart(reply: Reply, error: str, make: type[Phase]) -> None:
    # Nothing but silence may count as a timeout, however slow the machine is.
    outcome, _ = against(reply, make(timeout_s=0.1 if reply is silence else 60.0))
    assert outcome.errors == {error: outcome.sent}
    assert outcome.sent > 0
    assert outcome.ok == 0
    assert outcome.latency_ms == {}


def test_a_server_that_is_not_there_costs_every_request_of_an_open_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    ((outcome,),) = execute(f"http://127.0.0.1:{port}", [[opened()]])
    assert outcome.errors == {"connect": outcome.sent}


def test_a_server_that_is_not_there_stops_a_closed_loop_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(OSError, match="onnect"):
        execute(f"http://127.0.0.1:{port}", [[closed()]])


def test_calls_go_out_in_turn_as_they_were_prepared_and_answers_come_back_with_them() -> None:
    large = b"x" * 300_000

    def reply(conversation: Conversation) -> None:
        assert conversation.headers["token"] == "secret"
        conversation.answer(200, f"{conversation.path} {len(conversation.body)}".encode())

    calls = [
        GET,
        Call("POST", "/small?a=b", GET.headers, b"12"),
        Call("POST", "/large", GET.headers, large),
    ]
    outcome, _ = against(reply, closed(1, calls=calls, collect=True))
    expected = [b"/ 0", b"/small?a=b 2", b"/large 300000"]
    assert len(outcome.answers) == outcome.sent >= 3
    for number, answer in enumerate(outcome.answers):
        assert answer.call == number % 3
        assert (answer.status, answer.body, answer.error) == (200, expected[answer.call], "")
        assert answer.sent_at == pytest.approx(time.time(), abs=60)


def test_warm_up_is_sent_but_not_counted() -> None:
    outcome, server = against(fine, opened(rate=200, seconds=0.4, warmup_s=0.4))
    assert 0 < outcome.sent < server.requests
    assert outcome.statuses[200] == outcome.sent


def test_a_form_holds_its_fields_and_its_file() -> None:
    (name, value), body = multipart("image", b"\xff\xd8\r\n--", {"tenant_id": "a"})
    form = email.message_from_bytes(f"{name}: {value}\r\n\r\n".encode() + body)
    field, file = form.get_payload()
    assert field.get_param("name", header="content-disposition") == "tenant_id"
    assert field.get_payload(decode=True) == b"a"
    assert file.get_filename() == "photo.jpg"
    assert file.get_payload(decode=True) == b"\xff\xd8\r\n--"


def test_a_specification_survives_its_file_and_holds_each_body_once() -> None:
    shared = b"shared" * 100
    calls = [Call("POST", f"/{n}", (("a", "b"),), shared) for n in range(5)]
    groups = [[closed(3, calls=calls, label="a", collect=True)], [opened(12.5, calls=[GET])]]
    document = json.loads(json.dumps(encode("http://host:1", groups)))
    assert len(document["bodies"]) == 2
    assert decode(document) == ("http://host:1", groups)


def test_an_outcome_survives_its_file_and_histograms_add_up() -> None:
    outcome, _ = against(fine, closed(1, collect=True))
    other, _ = against(stalling(), closed(1, seconds=1.0))
    assert decode_outcome(json.loads(json.dumps(encode_outcome(outcome)))) == outcome
    both = load.merged([outcome, other])["latency_ms"]
    assert both["max"] == max(outcome.latency_ms["max"], other.latency_ms["max"])
    assert load.merged([outcome])["latency_ms"] == outcome.latency_ms
    assert load.merged([outcome])["refused_ms"] == {}


def test_groups_run_at_once_in_another_process_each_with_its_own_outcome() -> None:
    paths: Counter[str] = Counter()

    def reply(conversation: Conversation) -> None:
        paths[conversation.path] += 1
        conversation.answer(200 if conversation.path == "/a" else 429)

    with serving(reply) as server:
        (first, then), (beside,) = load.run_together(
            server.url,
            [
                [closed(calls=[Call("GET", "/a")]), opened(calls=[Call("GET", "/a")])],
                [opened(100, seconds=0.6, calls=[Call("GET", "/b")], label="b")],
            ],
            progress=False,
        )
    assert first.sent + then.sent == first.ok + then.ok == paths["/a"]
    assert beside.label == "b"
    assert beside.refused == beside.sent == paths["/b"]
    assert then.client_cpu_share > 0
    assert then.lag_ms["max"] > 0
    assert first.lag_ms == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"calls": []},
        {"seconds": 0.0},
        {"connections": 0},
        {"kind": "open", "rate": 0.0},
    ],
)
def test_a_phase_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"phase|loop"):
        Phase(**{"kind": "closed", "calls": [GET], "seconds": 1.0, **wrong})
