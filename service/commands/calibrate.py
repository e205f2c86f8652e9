"""`facette calibrate`: learns the limit of a match in a tenant from what people said there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np

from service.app.settings import DatabasePlace, database_place, first_model, rule_of
from service.commands.display import tell
from service.commands.place import current_database, serving_embedding
from service.commands.statuses import Status
from service.config import Config, MatchConfig
from service.domain.calibration import AnsweredPairs, Calibration, Outcome, Share, calibrate
from service.domain.errors import ConfigError
from service.domain.matching import MatchRule
from service.domain.types import ModelSpace, TenantId
from service.store.face.answers import Answers, Said, SaidPair

_USUAL: Final = 1.0


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """The data that are learned from, and the settings that the limit comes from.

    first_model: the name of the models of a database that has none yet.
    """

    database: DatabasePlace
    models_dir: Path
    first_model: str
    match: MatchConfig

    @classmethod
    def of(cls, config: Config) -> CalibrationSettings:
        """The settings of a configuration."""
        return cls(
            database_place(config), config.paths.models_dir, first_model(config), config.match
        )


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """What is done: learn and say, learn and apply, or take back.

    sure: how likely a pair just at the limit should be one person.
    """

    tenant_id: TenantId
    sure: float
    apply: bool
    reset: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What the command has to tell. learned: None where there is too little to learn from."""

    rule: MatchRule
    people: int
    factor: float
    questions: int
    looked_through: int
    same: int
    different: int
    not_counted: int
    lacks: str
    learned: Calibration | None

    def limit(self, factor: float) -> float:
        return self.rule.limit.at(self.people, factor=factor)


def run_calibrate(settings: CalibrationSettings, options: CalibrationOptions) -> int:
    """Learn a limit, and print it or apply it; returns the exit status.

    Raises:
        ConfigError: the database cannot be used.
        ModelError: the models of the database are missing.
        NotFoundError: there is no such tenant.
        StoreUnavailableError: the database went away.
    """
    return asyncio.run(_run(settings, options))


async def _run(settings: CalibrationSettings, options: CalibrationOptions) -> int:
    async with current_database(settings.database) as connection:
        if options.reset:
            return await _take_back(connection, options)
        models, facts = await serving_embedding(
            connection, settings.models_dir, settings.first_model
        )
        answers = Answers(connection, options.tenant_id, ModelSpace(models.space))
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            factor, people = await answers.limit()
            said = await answers.said()
        found = _learn(rule_of(settings.match, facts), people, factor, said, options.sure)
        learned = found.learned
        applies = options.apply and learned is not None and learned.after != factor
        if applies and learned is not None:
            await answers.change_factor(learned.after)
    if options.as_json:
        print(json.dumps(_as_json(found, options, applied=applies), indent=2))
    else:
        for line in _lines(found, options, applied=applies):
            tell(line, indent="  ")
    return Status.DONE if learned is not None else Status.INCOMPLETE


async def _take_back(connection: asyncpg.Connection, options: CalibrationOptions) -> int:
    answers = Answers(connection, options.tenant_id, ModelSpace(""))
    factor, _ = await answers.limit()
    await answers.change_factor(_USUAL)
    if options.as_json:
        print(json.dumps({"tenant": options.tenant_id, "factor": _USUAL, "was": factor}))
    elif factor == _USUAL:
        print(f"tenant {options.tenant_id!r} has the usual limit, nothing was changed")
    else:
        print(
            f"tenant {options.tenant_id!r} has the usual limit again; its factor was {factor:.3g}"
        )
    return Status.DONE


def _learn(rule: MatchRule, people: int, factor: float, said: Said, sure: float) -> _Found:
    usual = rule.limit.at(people)
    if usual <= 0:
        raise ConfigError("the limit of a match is 0 by match.max_distance: nothing ever joins")
    now = float(np.log10(factor))
    answered = _decades(rule, usual, said.answers)
    # Who looks through a person sees only what the machine joined, which was within the limit.
    seen = [each for each in _decades(rule, usual, said.looked_through) if each[0] <= now]
    counted = [*answered, *seen]
    numbers = {person: n for n, person in enumerate({pair.person_id for _, pair in counted})}
    pairs = AnsweredPairs(
        np.array([decades for decades, _ in counted], np.float64),
        np.array([pair.is_same for _, pair in counted], np.bool_),
        np.array([numbers[pair.person_id] for _, pair in counted], np.int64),
    )
    same = int(np.count_nonzero(pairs.same))
    return _Found(
        rule,
        people,
        factor,
        len(answered),
        len(seen),
        same,
        len(counted) - same,
        max(0, said.decisions - len(answered)),
        pairs.lacks,
        None if pairs.lacks else calibrate(pairs, factor, sure),
    )


def _decades(
    rule: MatchRule, usual: float, pairs: Iterable[SaidPair]
) -> list[tuple[float, SaidPair]]:
    found = []
    for each in pairs:
        (distance,) = rule.distances_between(
            each.total,
            each.count,
            each.other_total[np.newaxis],
            np.array([each.other_count]),
        ).tolist()
        found.append((rule.limit.decades(distance, usual), each))
    return found


def _lines(found: _Found, options: CalibrationOptions, *, applied: bool) -> list[str]:
    tenant, now = options.tenant_id, found.limit(found.factor)
    lines = [
        f"tenant {tenant!r}: {found.people:,} people; limit of a match {now:.3f}"
        + _in_words(found.factor),
        (
            f"{found.same:,} confirmed pairs and {found.different:,} rejected ones: "
            f"{found.questions:,} answers to questions, {found.looked_through:,} faces of people "
            "who were confirmed as a whole"
        ),
    ]
    if found.not_counted:
        lines.append(
            f"{found.not_counted:,} further decisions do not count: people chose those pairs by "
            "what they are, so they do not tell how often such a pair is one person"
        )
    if found.learned is None:
        lines += [
            f"too few to learn from: {found.lacks}",
            f"  -> answer more questions by `facette review --tenant {tenant}` or in the console",
        ]
    else:
        lines += _table(found, found.learned, options.sure)
        lines += _conclusion(found, found.learned, tenant, applied=applied)
    return lines


def _table(found: _Found, learned: Calibration, sure: float) -> list[str]:
    low, high = learned.certainty_interval
    rows = [
        ("", "now", "then"),
        ("limit", *(f"{found.limit(each):.3f}" for each in (learned.before, learned.after))),
    ]
    for title, name in (
        ("joined, two people", "false_joins"),
        ("apart, one person", "missed_joins"),
    ):
        outcomes = (learned.outcome_before, learned.outcome_after)
        rows.append((title, *(_share(getattr(each, name)) for each in outcomes)))
    return [
        (
            f"a pair just at the limit is one person with {_percent(learned.certainty)} "
            f"({_percent(low)} to {_percent(high)}), and {_percent(sure)} are wanted"
        ),
        "",
        "of these pairs, with intervals of 95 %:",
        *(f"  {title:<20}{now:<28}{then}".rstrip() for title, now, then in rows),
        "",
    ]


def _conclusion(
    found: _Found, learned: Calibration, tenant: TenantId, *, applied: bool
) -> list[str]:
    best, low, high = (f"{found.limit(each):.3f}" for each in (learned.best, *learned.interval))
    by_line = f"best estimate {best}, {low} to {high}"
    if learned.after == learned.before:
        return [f"the answers do not speak clearly against the present limit ({by_line})"]
    verb = "is now" if applied else "should be"
    lines = [
        f"the limit {verb} {found.limit(learned.after):.3f} ({by_line})" + _in_words(learned.after)
    ]
    if not learned.reaches[0] < learned.after < learned.reaches[1]:
        lines.append("answers reach no farther; further ones come with the limit: run this later")
    if applied:
        lines.append(f"  -> `facette calibrate --tenant {tenant} --reset` takes it back")
    else:
        lines.append(f"  -> nothing was changed; --apply gives {tenant!r} this limit")
    return lines


def _in_words(factor: float) -> str:
    if factor == _USUAL:
        return ", that of the model and the settings"
    return f", which admits {factor:.3g} times the usual share of strangers"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(share: Share) -> str:
    low, high = share.interval
    return f"{share.part} of {share.whole} ({100 * low:.1f} to {_percent(high)})"


def _as_json(found: _Found, options: CalibrationOptions, *, applied: bool) -> dict[str, Any]:
    learned = found.learned
    told: dict[str, Any] = {
        "tenant": options.tenant_id,
        "people": found.people,
        "pairs": {
            "same": found.same,
            "different": found.different,
            "answers": found.questions,
            "looked_through": found.looked_through,
            "not_counted": found.not_counted,
        },
        "factor": found.factor,
        "limit": found.limit(found.factor),
        "lacks": found.lacks or None,
        "applied": applied,
    }
    if learned is not None:
        told |= {
            "learned_factor": learned.after,
            "learned_limit": found.limit(learned.after),
            "best_factor": learned.best,
            "interval": learned.interval,
            "wanted": options.sure,
            "certainty": learned.certainty,
            "certainty_interval": learned.certainty_interval,
            "now": _outcome(learned.outcome_before),
            "then": _outcome(learned.outcome_after),
        }
    return told


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        name: {"part": share.part, "whole": share.whole, "interval": share.interval}
        for name, share in (
            ("false_joins", outcome.false_joins),
            ("missed_joins", outcome.missed_joins),
        )
    }
