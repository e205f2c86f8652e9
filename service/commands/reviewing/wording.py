"""Questions in words, and the keys that answer them: the same ones as in the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from facette_client import AskedPerson, Review

REPLIES: Final[Mapping[str, Mapping[str, str]]] = {
    "same_person": {"a": "same", "x": "different", "s": "not_sure"},
    "weak_match": {"a": "yes", "x": "no"},
    "odd_face": {"a": "yes", "x": "no"},
    "new_person": {"x": "ignore"},
}
"""What the keys answer to each kind of question at once; other keys ask for more."""

_KEYS: Final[Mapping[str, str]] = {
    "same_person": "a same  x different  s not sure",
    "weak_match": "a yes  x no  s later  m somebody else",
    "odd_face": "a yes  x no  s later",
    "new_person": "a or n name  x ignore  s later  m same as somebody else",
}

HELP: Final = (
    "a      yes, the same; of somebody new the name",
    "x      no, different; of somebody new: never ask again, and hide",
    "s      not sure: asked again when more is known; where that is no answer, later",
    "n      name somebody new",
    "m      somebody else: choose from those who look alike",
    "u      take the last answer back; Backspace does so, too",
    "q      end; all answers are saved",
)


def asks(question: Review) -> str:
    """What a question asks."""
    person, *others = question.people
    if question.kind == "new_person":
        return "Who is this?"
    if question.kind == "same_person":
        if person.label and others[0].label:
            return f"Are {person.label} and {others[0].label} one person?"
        return "Are these two one person?"
    if question.kind == "odd_face":
        if person.label:
            return f"Is this still {person.label}?"
        return "Does this face still belong here?"
    return f"Is this {person.label}?" if person.label else "Does this face belong here?"


def evidence(question: Review) -> str:
    """Why it is asked, and what the answer is worth."""
    settles = "1 face" if question.settles == 1 else f"{question.settles:,} faces"
    worth = f" The answer settles {settles}." if question.settles else ""
    return f"{question.why}.{worth}"


def named(person: AskedPerson) -> str:
    """A person in a line: name, number of faces, id."""
    faces = "1 face" if person.face_count == 1 else f"{person.face_count:,} faces"
    return f"{person.label or 'nobody known'}, {faces}, {person.id}"


def keys_of(question: Review) -> str:
    """The keys that answer a question, and the others."""
    return f"{_KEYS[question.kind]}  u undo  q end  ? help"
