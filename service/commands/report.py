"""What the doctor found, in lines for a person and in JSON for a program."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """How one thing is; a note is worth knowing and nothing wrong."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    check: what was looked at, a stable word. advice: what to do; empty where nothing is.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(slots=True)
class Report:
    """Findings in the order they were made, and counts of what there is of a tenant."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, **counts: int) -> None:
        """Add the number of things of each kind that a tenant has."""
        self.counts.update(counts)

    def ok(self, check: str, text: str) -> None:
        """It is as it should be."""
        self.findings.append(Finding(check, Verdict.OK, text))

    def note(self, check: str, text: str, advice: str = "") -> None:
        """It is worth knowing."""
        self.findings.append(Finding(check, Verdict.NOTE, text, advice))

    def wrong(self, check: str, text: str, advice: str) -> None:
        """It is not as it should be."""
        self.findings.append(Finding(check, Verdict.WRONG, text, advice))

    def unknown(self, check: str, text: str) -> None:
        """It could not be looked at."""
        self.findings.append(Finding(check, Verdict.UNKNOWN, text))

    def ok_unless_found(self, check: str, before: int, text: str) -> None:
        """It is as it should be, if nothing was said of it since there were `before` findings."""
        if not any(finding.check == check for finding in self.findings[before:]):
            self.ok(check, text)

    @property
    def status(self) -> int:
        """0 when all is well, 1 when something is wrong, 2 when something could not be seen."""
        verdicts = {finding.verdict for finding in self.findings}
        if Verdict.UNKNOWN in verdicts:
            return 2
        return 1 if Verdict.WRONG in verdicts else 0

    def as_lines(self) -> str:
        """A line for each finding, and one below it for what to do."""
        width = max(len(finding.check) for finding in self.findings)
        lines = []
        for each in self.findings:
            lines.append(f"{each.verdict:<8}{each.check:<{width + 2}}{each.text}")
            if each.advice:
                lines.append(f"{'':<{width + 10}}-> {each.advice}")
        return "\n".join(lines)

    def as_json(self) -> str:
        """The same as one object."""
        return json.dumps(
            {
                "healthy": self.status == 0,
                "counts": self.counts,
                "findings": [
                    {
                        "check": each.check,
                        "verdict": each.verdict.value,
                        "text": each.text,
                        "advice": each.advice,
                    }
                    for each in self.findings
                ],
            },
            ensure_ascii=False,
            indent=2,
        )
