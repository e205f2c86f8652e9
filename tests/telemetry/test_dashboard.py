"""The dashboard and the alert rules ask for what the service tells: only that, and all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import Metrics

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "observability"
# What Prometheus itself adds: labels to every series, and a series to every target.
TARGET_LABELS = {"instance", "job"}
TARGET_SERIES = {"up": TARGET_LABELS}

_STRING = r'"(?:[^"\\]|\\.)*"'
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_SELECTOR = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?(?!\s*\(|[\w:])")
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "without", "on", "ignoring"}


@dataclass(frozen=True)
class Query:
    """What one PromQL expression names."""

    where: str
    expr: str
    selectors: tuple[tuple[str, frozenset[str]], ...]
    grouping: frozenset[str]

    @classmethod
    def of(cls, where: str, expr: str) -> Query:
        bare = re.sub(r"\[[^\]]*\]", "", re.sub(_STRING, '""', expr))
        grouping = {label for group in _GROUPING.findall(bare) for label in _names(group)}
        selectors = tuple(
            (name, frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)))
            for name, matchers in _SELECTOR.findall(_GROUPING.sub(" ", bare))
            if name.lower() not in _WORDS
        )
        return cls(where, expr, selectors, frozenset(grouping))


def _names(group: str) -> set[str]:
    return {name.strip() for name in group.split(",") if name.strip()}


def _dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / "facette-dashboard.json").read_text(encoding="utf-8"))


def _alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def _targets() -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in _dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target


DASHBOARD = [Query.of(title, target["expr"]) for title, target in _targets()]
ALERTS = [Query.of(rule["alert"], rule["expr"]) for rule in _alerts()]


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """Every series of the exposition and its labels, once each metric has been used."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        if labels := getattr(metric, "_labelnames", ()):
            metric.labels(*["any"] * len(labels))
    found = dict(TARGET_SERIES)
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels, TARGET_LABELS)
    return found


def test_expressions_are_taken_apart() -> None:
    query = Query.of(
        "",
        'histogram_quantile(0.99, sum by (le, stage) (rate(a_bucket{x=~"b{}|c", y!="d"}[5m])))'
        " / on (z) group_left () time() - e > bool 1e3 and absent(f)",
    )
    assert query.selectors == (
        ("a_bucket", frozenset("xy")),
        ("e", frozenset()),
        ("f", frozenset()),
    )
    assert query.grouping == {"le", "stage", "z"}


@pytest.mark.parametrize("query", [*DASHBOARD, *ALERTS], ids=lambda query: query.where)
def test_every_metric_asked_for_exists_with_the_labels_asked_for(
    query: Query, series: dict[str, set[str]]
) -> None:
    assert query.selectors
    for name, matched in query.selectors:
        assert name in series
        assert matched | query.grouping <= series[name]


def test_the_dashboard_shows_every_metric(series: dict[str, set[str]]) -> None:
    shown = {name for query in DASHBOARD for name, _ in query.selectors}
    parts = re.compile(r"_(bucket|sum|count)$")
    ours = {parts.sub("", name) for name in series if name.startswith("facette_")}
    assert ours - {parts.sub("", name) for name in shown} == set()


@pytest.mark.parametrize("query", DASHBOARD, ids=lambda query: query.where)
def test_every_panel_follows_the_chosen_instances(query: Query) -> None:
    selectors = len(query.selectors)
    assert query.expr.count('instance=~"$instance"') == selectors


@pytest.mark.parametrize(("title", "target"), list(_targets()))
def test_legends_name_labels_that_the_expression_keeps(title: str, target: dict[str, Any]) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert named - Query.of(title, target["expr"]).grouping <= TARGET_LABELS


def test_the_list_of_instances_comes_from_a_metric_that_exists(series: dict[str, set[str]]) -> None:
    (variable,) = (v for v in _dashboard()["templating"]["list"] if v["type"] == "query")
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()
    assert label in series[name]
    assert variable["query"]["query"] == variable["definition"]


def test_panels_take_their_data_source_from_the_variable() -> None:
    sources = [panel["datasource"] for panel in _dashboard()["panels"] if panel["type"] != "row"]
    sources += [target["datasource"] for _, target in _targets()]
    assert {source["uid"] for source in sources} == {"${datasource}"}


def test_panel_ids_are_unique() -> None:
    ids = [panel["id"] for panel in _dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_lie_side_by_side_within_the_grid() -> None:
    places = [panel["gridPos"] for panel in _dashboard()["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_every_panel_says_what_it_shows() -> None:
    silent = [
        p["title"] for p in _dashboard()["panels"] if p["type"] != "row" and not p["description"]
    ]
    assert silent == []


@pytest.mark.parametrize("rule", _alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_has_a_severity_a_summary_and_a_description(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"].split()) > 15


@pytest.mark.parametrize("rule", _alerts(), ids=lambda rule: rule["alert"])
def test_alerts_name_labels_that_their_expression_keeps(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert named - Query.of("", rule["expr"]).grouping <= TARGET_LABELS


def test_the_page_beside_them_explains_every_row_and_alert() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [panel["title"] for panel in _dashboard()["panels"] if panel["type"] == "row"]
    named = [*rows, *(rule["alert"] for rule in _alerts())]
    assert [name for name in named if name not in page] == []
