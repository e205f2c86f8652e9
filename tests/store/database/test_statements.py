"""Named SQL statements: how a file is cut into them."""

from __future__ import annotations

import pytest

from service.store.database.statements import SQL, parse_statements


def test_a_statement_begins_after_its_name_and_ends_at_the_next() -> None:
    text = "-- name: first\nSELECT 1;\n\n-- name: second\nSELECT 2\nFROM two;\n"
    assert parse_statements(text) == {"first": "SELECT 1;", "second": "SELECT 2\nFROM two;"}


def test_comments_and_what_stands_before_the_first_name_are_left_out() -> None:
    text = "-- All reads.\n\n-- name: one\n-- Why it is so.\nSELECT 1\n  -- inner\nFROM t;\n"
    assert parse_statements(text) == {"one": "SELECT 1\nFROM t;"}


def test_a_comment_that_only_mentions_a_name_begins_nothing() -> None:
    text = "-- name: one\nSELECT 1;\n-- name: of the second, to come\n"
    assert parse_statements(text) == {"one": "SELECT 1;"}


def test_a_file_without_names_has_no_statements() -> None:
    assert parse_statements("SELECT 1;\n") == {}


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="one is empty or defined twice"):
        parse_statements("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n")


@pytest.mark.parametrize("body", ["", "\n\n", "-- only a comment\n"])
def test_a_name_without_a_statement_is_refused(body: str) -> None:
    with pytest.raises(ValueError, match="one is empty or defined twice"):
        parse_statements(f"-- name: one\n{body}-- name: two\nSELECT 2;\n")


def test_the_packaged_statements_hold_one_statement_each() -> None:
    assert SQL
    for name, statement in SQL.items():
        assert statement.rstrip(";").count(";") == 0, name


def test_the_packaged_statements_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        SQL["another"] = "SELECT 1"  # type: ignore[index]
