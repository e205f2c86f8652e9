"""Access keys at the door: scopes, tenants, the end of a key, floods of wrong ones, the trail."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from bench.common.server import NO_AUTHORITIES
from service.store.access.master import MASTER_FILE
from service.store.embedded.server import running_server
from tests.support.calls import (
    BY_ID,
    GUARDED,
    OF_TENANTS,
    STATELESS,
    Photos,
    assert_error,
    call,
    change,
    insert,
    log_lines_of,
    metric,
    only_cluster,
    only_face,
    reviews,
    send,
    send_raw,
    state_of,
    wait_until,
)
from tests.support.databases import ask_all
from tests.support.folders import open_folder
from tests.support.keys import client_with, keys, make_key
from tests.support.live import end
from tests.support.service import TOKEN, ServiceProcess

UNKNOWN = "fct_" + "0" * 16 + "_" + "0" * 64
OWN, OTHER = "of-keys", "of-keys-other"


@pytest.fixture(scope="module")
def key(service: ServiceProcess) -> str:
    """A key that may do everything in the tenant `OWN`."""
    return make_key(service, "admin", tenant=OWN)


@pytest.fixture
def holder(service: ServiceProcess, key: str) -> Iterator[httpx.Client]:
    with client_with(service, key) as found:
        yield found


@pytest.fixture
def owned(client: httpx.Client, photos: Photos) -> Iterator[dict[str, Any]]:
    """What the other tenant has, by parameter name."""
    answer = insert(client, OTHER, photos.astronaut)
    yield {
        "image_id": answer["image_id"],
        "face_id": only_face(answer),
        "cluster_id": only_cluster(answer),
        "to_cluster_id": only_cluster(answer),
        "from_cluster_id": only_cluster(answer),
        "into_cluster_id": only_cluster(answer),
        "review_id": reviews(client, OTHER)[0]["id"],
    }
    change(client, "DELETE", "/tenant", tenant_id=OTHER)


def status_of_wrong(path: str) -> int:
    return 401 if path.startswith("/v1/") else 403


def test_a_key_serves_its_tenant_in_any_of_the_headers(service: ServiceProcess, key: str) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}, {"token": key}):
        answer = httpx.get(
            f"{service.url}/review-pending-list", params={"tenant_id": OWN}, headers=headers
        )
        assert answer.status_code == 200, answer.text


def test_token_and_key_in_one_request_are_refused(service: ServiceProcess, key: str) -> None:
    answer = httpx.get(f"{service.url}/image", headers={"token": TOKEN, "x-api-key": key})
    assert_error(answer, 403, "conflicting_tokens")


@pytest.mark.parametrize(("method", "path", "names"), OF_TENANTS)
def test_another_tenant_is_not_found_by_any_route_and_nothing_changes(
    client: httpx.Client,
    holder: httpx.Client,
    owned: dict[str, Any],
    method: str,
    path: str,
    names: tuple[str, ...],
) -> None:
    before = state_of(client, OTHER, owned["image_id"])
    given = {name: owned[name] for name in names}
    for tenant in (OTHER, f"{OTHER}-unknown", OWN.upper(), f"{OWN} "):
        assert_error(call(holder, method, path, tenant_id=tenant, **given), 404, "not_found")
    assert state_of(client, OTHER, owned["image_id"]) == before


@pytest.mark.parametrize(("method", "path", "names"), BY_ID)
def test_an_id_of_another_tenant_is_not_found_in_ones_own(
    client: httpx.Client,
    holder: httpx.Client,
    owned: dict[str, Any],
    method: str,
    path: str,
    names: tuple[str, ...],
) -> None:
    before = state_of(client, OTHER, owned["image_id"])
    given = {name: owned[name] for name in names}
    assert_error(call(holder, method, path, tenant_id=OWN, **given), 404, "not_found")
    assert state_of(client, OTHER, owned["image_id"]) == before


@pytest.mark.parametrize("path", ["/insert-image", "/v1/embed", "/v1/detect"])
@pytest.mark.parametrize("form", ["multipart", "query", "json"])
def test_another_tenant_in_a_body_or_query_is_not_found(
    holder: httpx.Client, photos: Photos, path: str, form: str
) -> None:
    if form == "multipart":
        answer = holder.post(path, data={"tenant_id": OTHER}, files={"image": photos.nobody})
    elif form == "query":
        answer = send_raw(holder, path, photos.nobody, tenant_id=OTHER)
    else:
        image = base64.b64encode(photos.nobody).decode()
        answer = holder.post(path, json={"tenant_id": OTHER, "image": image})
    assert_error(answer, 404, "not_found")


def test_the_answer_about_another_tenant_does_not_depend_on_its_data(
    holder: httpx.Client, owned: dict[str, Any]
) -> None:
    answers = [
        call(holder, "GET", "/image", tenant_id=tenant, image_id=owned["image_id"]).json()
        for tenant in (OTHER, f"{OTHER}-unknown")
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_a_key_may_do_what_its_scope_contains(
    service: ServiceProcess, client: httpx.Client, photos: Photos, tenant: str, scope: str
) -> None:
    insert(client, tenant, photos.nobody)
    with client_with(service, make_key(service, scope, tenant=tenant)) as caller:
        for path in ("/v1/embed", "/v1/detect"):
            answer = caller.post(path, files={"image": photos.nobody})
            assert answer.status_code == 200, answer.text
        assert call(caller, "GET", "/review-pending-list", tenant_id=tenant).status_code == 200
        assert call(caller, "HEAD", "/review-pending-list", tenant_id=tenant).status_code == 200
        inserted = send(caller, tenant, photos.nobody)
        removed = call(caller, "DELETE", "/tenant", tenant_id=tenant)
        for answer, needed in ((inserted, "write"), (removed, "admin")):
            if scope == "admin" or scope == needed:
                assert answer.status_code == 200, answer.text
            else:
                assert_error(answer, 403, "forbidden")


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [each for each in GUARDED if each[0] != "GET" and each not in STATELESS],
)
def test_a_key_that_reads_changes_nothing(
    service: ServiceProcess, method: str, path: str, names: tuple[str, ...]
) -> None:
    reader = make_key(service, "read", tenant=OWN)
    with client_with(service, reader) as caller:
        given = dict.fromkeys(names, "1")
        assert_error(call(caller, method, path, tenant_id=OWN, **given), 403, "forbidden")


def test_a_key_of_all_tenants_reaches_each(service: ServiceProcess, tenant: str) -> None:
    with client_with(service, make_key(service, "read")) as caller:
        for each in (tenant, OWN, OTHER):
            answer = call(caller, "GET", "/review-pending-list", tenant_id=each)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("method", "path", "_names"), GUARDED)
def test_every_route_refuses_a_made_up_key(
    service: ServiceProcess, method: str, path: str, _names: tuple[str, ...]
) -> None:
    answer = httpx.request(method, service.url + path, headers={"x-api-key": UNKNOWN})
    assert_error(answer, status_of_wrong(path), "wrong_token")
    if path.startswith("/v1/"):
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_damaged_keys_are_refused_alike(service: ServiceProcess, key: str) -> None:
    head, key_id, secret = key.split("_")
    damaged = [
        f"{head}_{key_id}_{secret[:-1]}",
        f"{head}_{key_id}_{secret}0",
        f"{head}_{key_id}_{secret[:-1]}{'0' if secret[-1] != '0' else '1'}",
        f"{head}_{key_id}_{secret.upper()}",
        f"{head}_{key_id.upper()}_{secret}",
        f"{head}_{'0' * 16}_{secret}",
        f"{head}{key_id}{secret}",
        f"_{key_id}_{secret}",
        key_id,
        secret,
        key[:-10] + "\xff" * 10,
        key * 100,
        "fct_" * 2000,
    ]
    bodies = set()
    for each in damaged:
        headers = {b"x-api-key": each.encode("latin-1")}
        answer = httpx.get(f"{service.url}/image", headers=headers)
        assert_error(answer, 403, "wrong_token")
        bodies.add(answer.text)
    assert len(bodies) == 1


def test_a_rotated_key_keeps_its_former_secret_only_as_long_as_told(
    service: ServiceProcess,
) -> None:
    former = make_key(service, "read", tenant=OWN)
    kept = keys(service, "rotate", former, "--keep-hours", "1").stdout.strip()
    for each in (former, kept):
        with client_with(service, each) as caller:
            assert call(caller, "GET", "/review-pending-list", tenant_id=OWN).status_code == 200
    newest = keys(service, "rotate", former).stdout.strip()
    with client_with(service, newest) as caller:
        wait_until(
            lambda: call(caller, "GET", "/review-pending-list", tenant_id=OWN).status_code == 200
        )
    for each in (former, kept):
        with client_with(service, each) as caller:
            assert_error(call(caller, "GET", "/image", tenant_id=OWN), 403, "wrong_token")


def test_a_key_that_expires_is_refused_like_any_other(
    service: ServiceProcess, client: httpx.Client
) -> None:
    key = make_key(service, "read", tenant=OWN)
    address = running_server(service.data_dir)
    assert address is not None
    before = metric(client, "facette_refused_tokens_total", reason="expired")
    with client_with(service, key) as caller:
        assert call(caller, "GET", "/review-pending-list", tenant_id=OWN).status_code == 200
        ended = f"UPDATE access_key SET expires_at = now() WHERE key_id = '{key.split('_')[1]}'"
        ask_all(address, f"{ended} RETURNING key_id")
        wait_until(
            lambda: call(caller, "GET", "/review-pending-list", tenant_id=OWN).status_code == 403
        )
        assert_error(call(caller, "GET", "/image", tenant_id=OWN), 403, "wrong_token")
    assert metric(client, "facette_refused_tokens_total", reason="expired") >= before + 2


def test_a_key_of_a_tenant_embeds_as_that_tenant(
    service: ServiceProcess, holder: httpx.Client, photos: Photos
) -> None:
    answer = holder.post("/v1/embed", files={"image": photos.nobody})
    assert answer.status_code == 200, answer.text
    named = holder.post("/v1/embed", data={"tenant_id": OWN}, files={"image": photos.nobody})
    assert named.json() == answer.json()


def test_failed_attempts_are_counted_by_reason_and_logged_without_the_secret(
    service: ServiceProcess, client: httpx.Client, key: str
) -> None:
    name = "facette_refused_tokens_total"
    before = {reason: metric(client, name, reason=reason) for reason in ("unknown", "wrong_secret")}
    wrong = key[:-4] + ("0000" if key[-4:] != "0000" else "1111")
    for token in (UNKNOWN, wrong):
        httpx.get(f"{service.url}/image", headers={"x-api-key": token})
    for reason, count in before.items():
        assert metric(client, name, reason=reason) == count + 1
    assert f"reason=wrong_secret address=127.0.0.1 key_id={key.split('_')[1]}" in service.log
    assert wrong.split("_")[2] not in service.log
    assert key.split("_")[2] not in service.log


def test_every_write_has_a_line_in_the_audit_trail(
    service: ServiceProcess, holder: httpx.Client, key: str, photos: Photos
) -> None:
    sent = [send(holder, OWN, photos.both)]
    first = sent[0].json()
    faces = list(first["face_ids"])
    sent.append(
        call(
            holder,
            "POST",
            "/update-face-cluster",
            tenant_id=OWN,
            face_id=faces[0],
            to_cluster_id="new",
        )
    )
    moved_to = sent[-1].json()["cluster_id"]
    sent.append(
        call(
            holder,
            "POST",
            "/v1/merge-clusters",
            tenant_id=OWN,
            from_cluster_id=moved_to,
            into_cluster_id=first["face_ids"][faces[1]],
        )
    )
    review = reviews(holder, OWN)[0]["id"]
    sent.append(call(holder, "DELETE", "/review-pending", tenant_id=OWN, review_id=review))
    sent.append(call(holder, "DELETE", "/face", tenant_id=OWN, face_id=faces[0]))
    cluster = first["face_ids"][faces[1]]
    sent.append(call(holder, "DELETE", "/cluster", tenant_id=OWN, cluster_id=cluster))
    again = send(holder, OWN, photos.nobody)
    sent.append(again)
    image = again.json()["image_id"]
    sent.append(call(holder, "DELETE", "/image", tenant_id=OWN, image_id=image))
    sent.append(call(holder, "DELETE", "/tenant", tenant_id=OWN))
    actions = []
    for answer in sent:
        assert answer.status_code == 200, answer.text
        (line,) = [each for each in log_lines_of(service, answer) if " audit " in each]
        assert f"key_id={key.split('_')[1]} tenant={OWN} " in line
        found = re.search(r"action=(\S+)", line)
        assert found is not None
        actions.append(found[1])
    assert actions == [
        "image.insert",
        "face.move",
        "person.merge",
        "review.delete",
        "face.delete",
        "person.delete",
        "image.insert",
        "image.delete",
        "tenant.delete",
    ]


def test_a_read_or_a_refused_write_is_no_line_of_the_trail(
    service: ServiceProcess, holder: httpx.Client
) -> None:
    answers = [
        call(holder, "GET", "/review-pending-list", tenant_id=OWN),
        call(holder, "DELETE", "/image", tenant_id=OWN, image_id="unknown"),
        call(holder, "DELETE", "/tenant", tenant_id=OTHER),
    ]
    for answer in answers:
        assert not [line for line in log_lines_of(service, answer) if " audit " in line]


@pytest.fixture(scope="module")
def pair(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service of two processes behind a trusted proxy, with a trail in a file."""
    settings = {
        "FACETTE_SERVER_PROCESSES": "2",
        "FACETTE_SERVER_TRUSTED_PROXIES": "127.0.0.1",
        "FACETTE_AUDIT_DESTINATION": "audit.log",
    }
    with open_folder() as folder:
        service = ServiceProcess(folder, models_dir, settings)
        try:
            yield service.start()
            assert service.stop() == 0
            assert "Traceback" not in service.log
        finally:
            end(service)


def statuses(service: ServiceProcess, key: str, count: int) -> set[int]:
    """The statuses on connections of their own, which both processes accept."""
    found = set()
    for _ in range(count):
        with client_with(service, key) as caller:
            answer = call(caller, "GET", "/review-pending-list", tenant_id=OWN)
            found.add(answer.status_code)
    return found


@pytest.mark.long
def test_keys_in_two_processes(pair: ServiceProcess, photos: Photos) -> None:
    """Revocation and expiry reach both, and the trail and the master secret are shared."""
    key = make_key(pair, "write", tenant=OWN)
    assert statuses(pair, key, 20) == {200}
    trail = pair.folder / "audit.log"
    before = trail.read_text(encoding="utf-8") if trail.exists() else ""
    with client_with(pair, key) as caller:
        insert(caller, OWN, photos.nobody)
    (line,) = trail.read_text(encoding="utf-8").removeprefix(before).splitlines()
    assert json.loads(line)["key_id"] == key.split("_")[1]

    began = time.monotonic()
    assert keys(pair, "revoke", key).returncode == 0
    time.sleep(max(0.0, began + 5.0 - time.monotonic()))  # what the contract promises
    assert statuses(pair, key, 20) == {403}

    made = make_key(pair, "read", tenant=OWN)
    assert statuses(pair, made, 20) == {200}
    rotated = keys(pair, "rotate-master", "--keep-days", "1")
    assert rotated.returncode == 0, rotated.stderr
    newest = make_key(pair, "read", tenant=OWN)
    assert statuses(pair, made, 10) | statuses(pair, newest, 10) == {200}

    secret_file = pair.data_dir / MASTER_FILE
    secret_file.rename(pair.data_dir / "lost")
    time.sleep(5.0)
    assert statuses(pair, made, 10) == {503}
    with pair.client() as operator:
        assert operator.get("/review-pending-list", params={"tenant_id": OWN}).status_code == 200
        answer = operator.get(
            "/review-pending-list", params={"tenant_id": OWN}, headers={"token": made}
        )
        assert_error(answer, 503, "keys_unavailable")
    (pair.data_dir / "lost").rename(secret_file)
    wait_until(lambda: statuses(pair, made, 1) == {200})


@pytest.mark.long
def test_a_flood_of_failed_attempts_slows_its_own_address_and_no_other(
    pair: ServiceProcess,
) -> None:
    key = make_key(pair, "read", tenant=OWN)
    statuses(pair, key, 10)
    address = urlsplit(pair.url)
    attempts, connections = 300, 16
    with httpx.Client(verify=NO_AUTHORITIES, timeout=60) as other:
        flood = []
        for _ in range(connections):
            attacker = socket.create_connection((address.hostname, address.port), timeout=60)
            head = (
                "GET /image HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n"
                f"X-Api-Key: {UNKNOWN}\r\n\r\n"
            )
            attacker.sendall(head.encode() * (attempts // connections))
            flood.append(attacker)
        # Each address has a pace of its own: this one is answered although the flood waits.
        answers = [
            other.get(
                f"{pair.url}/review-pending-list",
                params={"tenant_id": OWN},
                headers={"x-api-key": each, "x-forwarded-for": "198.51.100.7"},
            ).status_code
            for each in (key, UNKNOWN, key)
        ]
        assert answers == [200, 403, 200]
        for attacker in flood:
            attacker.close()
    assert "address=203.0.113.9" in pair.log
    assert "address=198.51.100.7" in pair.log
