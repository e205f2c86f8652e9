"""The service keeps its contract, whatever is sent: cases that schemathesis makes of the contract.

`CONTRACT_SEED` is the seed, which is printed; the same seed makes the same cases.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from bench.common.server import TOKEN, ServiceProcess
from service.api.v1.operations import OPERATIONS
from tests.support.calls import Photos
from tests.support.folders import ROOT

SEED = os.environ.get("CONTRACT_SEED", "20261130")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
# Their answers have no end.
ENDLESS = [each.name for each in OPERATIONS if "text/event-stream" in each.answers.values()]
# The parameters that take a person, who is a cluster in the legacy API.
PEOPLE = ("person_id", "into", "cluster_id", "to_cluster_id", "from_cluster_id", "into_cluster_id")


@pytest.fixture
def known(client: httpx.Client, tenant: str, photos: Photos) -> dict[str, list[str]]:
    """Ids of things that exist, by the names of the parameters that take them."""
    found: dict[str, set[str]] = {"image_id": set(), "face_id": set(), "cluster_id": set()}
    for photo in [photos.astronaut, photos.both, photos.twins, photos.nobody] * 3:
        answer = client.post(
            f"/v1/tenants/{tenant}/images", content=photo, headers={"Content-Type": "image/jpeg"}
        )
        assert answer.status_code == 201, answer.text
        found["image_id"].add(answer.json()["image_id"])
        for face in answer.json()["faces"]:
            found["face_id"].add(face["id"])
            found["cluster_id"].add(face["person_id"])
    ids = {name: sorted(values) for name, values in found.items()}
    reviews = client.get("/review-pending-list", params={"tenant_id": tenant}).json()
    return {
        **ids,
        **dict.fromkeys(PEOPLE, ids["cluster_id"]),
        "tenant_id": [tenant],
        "review_id": [str(each["id"]) for each in reviews],
    }


def cases(
    service: ServiceProcess,
    folder: Path,
    photos: Photos,
    known: dict[str, list[str]],
    *,
    phases: str,
    examples: int,
) -> int:
    """The number of cases that were sent, all of which the service answered as it should."""
    (folder / "photos").mkdir()
    for field in dataclasses.fields(photos):
        (folder / "photos" / f"{field.name}.jpg").write_bytes(getattr(photos, field.name))
    sys.stdout.write(f"CONTRACT_SEED={SEED}\n")
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{service.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {TOKEN}", "--checks", ",".join(CHECKS)),
            *("--phases", phases, "--max-examples", str(examples), "--seed", SEED),
            # Attempts with a wrong token are slowed down, and have tests of their own.
            *("--generation-with-security-parameters", "false", "--generation-database", "none"),
            *("--continue-on-failure", "--no-shrink", "--warnings", "off", "--no-color"),
            *("--suppress-health-check", "all"),
            *(f"--exclude-operation-id={name}" for name in ENDLESS),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.contract_hooks",
            "CONTRACT_PHOTOS": str(folder / "photos"),
            "CONTRACT_KNOWN": json.dumps(known),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    (generated,) = re.findall(r"(\d+) generated", done.stdout)
    return int(generated)


@pytest.mark.long
def test_the_service_keeps_its_contract(
    service: ServiceProcess, tmp_path: Path, photos: Photos, known: dict[str, list[str]]
) -> None:
    sent = cases(service, tmp_path, photos, known, phases="fuzzing", examples=3)
    assert sent >= 100


@pytest.mark.long
@pytest.mark.slow
def test_the_service_keeps_its_contract_in_thousands_of_cases(
    service: ServiceProcess, tmp_path: Path, photos: Photos, known: dict[str, list[str]]
) -> None:
    phases = "coverage,fuzzing,stateful"
    assert cases(service, tmp_path, photos, known, phases=phases, examples=60) >= 5000
