"""The client against the contract: what it can ask, and what it takes from an answer."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest

import facette_client
from facette_client import (
    AnsweredError,
    AsyncClient,
    AsyncTenant,
    BatchEndedError,
    Client,
    ConflictError,
    DecisionConflictError,
    EditedError,
    FacetteError,
    PhotoError,
    Retries,
    Tenant,
    UndoError,
    answers,
    calls,
)
from facette_client.errors import error_of
from service.api.v1 import models
from service.api.v1.operations import OPERATIONS
from tests.support.folders import ROOT

PACKAGE = ROOT / "clients" / "python" / "facette_client"
# The client lists keys, and asks for none of them alone.
_OTHERWISE = {("GET", "/v1/keys/{}")}
_MODELS = {
    answers.Box: models.BoxAnswer,
    answers.Quality: models.QualityAnswer,
    answers.Face: models.FaceAnswer,
    answers.InsertedFace: models.InsertedFace,
    answers.Inserted: models.InsertAnswer,
    answers.Location: models.LocationAnswer,
    answers.Image: models.ImageAnswer,
    answers.NearCopy: models.NearCopyAnswer,
    answers.Person: models.PersonAnswer,
    answers.Match: models.MatchAnswer,
    answers.DetectedFace: models.ComparedFaceAnswer,
    answers.SearchedFace: models.SearchedFaceAnswer,
    answers.PhotoSearch: models.PhotoSearchAnswer,
    answers.FaceSearch: models.FaceSearchAnswer,
    answers.ComparedPhoto: models.ComparedPhotoAnswer,
    answers.ComparedPair: models.ComparedPairAnswer,
    answers.TenantFacts: models.TenantAnswer,
    answers.Key: models.KeyAnswer,
    answers.IssuedKey: models.IssuedKeyAnswer,
    answers.Receipt: models.Erased,
    answers.Decision: models.DecisionAnswer,
    answers.Change: models.ChangeAnswer,
    answers.AskedPerson: models.AskedPersonAnswer,
    answers.AskedFace: models.AskedFaceAnswer,
    answers.Review: models.ReviewAnswer,
}


@pytest.mark.parametrize("kind", _MODELS)
def test_an_answer_has_all_that_the_contract_says(kind: type[Any]) -> None:
    assert {each.name for each in dataclasses.fields(kind)} == set(_MODELS[kind].model_fields)


def test_every_operation_of_a_tenant_and_of_keys_can_be_asked() -> None:
    asked: set[tuple[str, str]] = set()

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.add((request.method, re.sub(r"/(x|x%20%2F)(?=/|$)", "/{}", request.url.path)))
        return httpx.Response(404, json={})

    retries = Retries(attempts=1)
    with Client("http://host", transport=httpx.MockTransport(refuse), retries=retries) as client:
        for call in (*_calls(client), *_calls(client.tenant("x"))):
            with pytest.raises(FacetteError):
                _use_up(call())
    operations = {
        (each.method, re.sub(r"\{\w+\}", "{}", each.path)) for each in OPERATIONS
    } - _OTHERWISE
    assert operations <= asked
    assert asked - operations == {("POST", "/v1/embed")}


def test_each_photo_of_a_batch_has_a_result_also_where_the_batch_ended_early() -> None:
    stored = {"image_id": "i", "created": True, "turned": 0, "faces": []}
    broken = {"status": 422, "code": "corrupt_image", "detail": "No."}
    items = [
        {"index": 0, "filename": "0", "status": 201, "image": stored, "problem": None},
        {"index": 2, "filename": "2", "status": 422, "image": None, "problem": broken},
    ]
    ended = {"status": 503, "code": "store_unavailable", "detail": "The database is away."}
    answer = httpx.MockTransport(
        lambda request: httpx.Response(200, json={"items": items, "problem": ended})
    )
    with Client("http://host", transport=answer) as client:
        results = client.tenant("x").insert_batch([b"a", b"b", b"c"])
    assert [each.photo for each in results] == [b"a", b"b", b"c"]
    assert [each.answer is not None for each in results] == [True, False, False]
    assert [type(each.error) for each in results] == [type(None), BatchEndedError, PhotoError]
    assert isinstance(results[1].error, BatchEndedError)
    assert (results[1].error.status, results[1].error.code) == (503, "store_unavailable")


def _calls(of: object) -> Iterator[Any]:
    """Each public method with arguments for those that it must have."""
    given: dict[str, Any] = {
        "photo": b"x", "first": b"x", "second": b"x", "scopes": ["read"], "face_ids": ["x"],
        "photos": [b"x"],
    }  # fmt: skip
    for name, method in inspect.getmembers(of, inspect.ismethod):
        if name.startswith("_") or name in {"close", "run", "pages", "events", "tenant", "ingest"}:
            continue
        wanted = [
            each.name
            for each in inspect.signature(method).parameters.values()
            if each.default is inspect.Parameter.empty
        ]
        yield lambda method=method, wanted=wanted: method(
            **{name: given.get(name, "x") for name in wanted}
        )
    if isinstance(of, Tenant):
        yield of.events


def _use_up(answer: Any) -> None:
    if inspect.isgenerator(answer):
        next(answer)


@pytest.mark.parametrize(("plain", "awaited"), [(Client, AsyncClient), (Tenant, AsyncTenant)])
def test_both_clients_have_the_same_methods(plain: type[Any], awaited: type[Any]) -> None:
    def methods(of: type[Any]) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(of, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(plain) == methods(awaited)
    for name in methods(plain):
        assert getattr(plain, name).__doc__ == getattr(awaited, name).__doc__


def test_it_imports_httpx2_and_nothing_of_the_service() -> None:
    imported = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"httpx2", "facette_client", "numpy"}


def test_an_embedding_is_an_array_and_without_numpy_a_tuple(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = np.array([1, -2], "<f4").tobytes()
    vector = calls._vector(sent)
    assert isinstance(vector, np.ndarray)
    assert vector.dtype == np.float32
    assert vector.tolist() == [1, -2]
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert calls._vector(sent) == (1.0, -2.0)


def test_a_member_that_is_not_known_yet_is_left_out() -> None:
    data = {"images": 1, "faces": 2, "people": 3, "reviews": 4, "files": 5}
    data |= {"decisions": 6, "changes": 7, "future": 8}
    assert answers.decode(answers.Receipt, data) == answers.Receipt(1, 2, 3, 4, 5, 6, 7)
    assert "future" not in json.dumps(dataclasses.asdict(answers.decode(answers.Receipt, data)))


def test_an_error_about_decisions_names_them_and_one_about_undoing_says_why() -> None:
    body = {"code": "decision_conflict", "detail": "no", "decisions": ["a", "b"]}
    conflict = error_of(409, body, "r")
    assert isinstance(conflict, DecisionConflictError)
    assert conflict.decisions == ("a", "b")
    for code in ("change_in_use", "change_undone", "change_for_good"):
        error = error_of(409, {"code": code}, "r")
        assert isinstance(error, UndoError)
        assert isinstance(error, ConflictError)
        assert error.code == code


def test_an_error_about_a_question_says_what_it_was_answered() -> None:
    body = {"code": "review_answered", "change_id": "7", "answer": "yes"}
    answered = error_of(412, body, "r")
    assert isinstance(answered, AnsweredError)
    assert isinstance(answered, EditedError)
    assert (answered.change_id, answered.answer) == ("7", "yes")
    assert error_of(412, {**body, "answer": None}, "r").facts["answer"] is None


def test_times_of_answers_have_an_offset() -> None:
    data = {
        "id": "t", "created_at": "2026-03-01T12:30:00.5Z", "image_count": 0, "face_count": 0,
        "person_count": 0, "max_images": None, "max_faces": None, "requests_per_minute": None,
    }  # fmt: skip
    facts = answers.decode(answers.TenantFacts, data)
    assert facts.created_at == datetime(2026, 3, 1, 12, 30, 0, 500_000, UTC)


def test_a_key_is_not_shown_by_accident() -> None:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    key = answers.IssuedKey("id", "name", ("read",), None, made, None, None, None, "fct_secret")
    assert "fct_secret" not in repr(key)
    assert key.key == "fct_secret"


def test_all_that_is_public_is_there() -> None:
    assert all(hasattr(facette_client, name) for name in facette_client.__all__)
