"""The report of the doctor, as lines for people and as JSON for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """The result of one check; a note is information, no fault."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    check: stable name of the check. advice: what the operator should do; may be empty.
    """

    check: str
    verdict: Verdict
    text: str
    advice: str = ""


@dataclass(slots=True)
class Report:
    """Findings in order, and the counts of a tenant's data."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, **counts: int) -> None:
        """Add the number of things of each kind that a tenant has."""
        self.counts.update(counts)

    def ok(self, check: str, text: str) -> None:
        """Add the finding that a check passed."""
        self.findings.append(Finding(check, Verdict.OK, text))

    def note(self, check: str, text: str, advice: str = "") -> None:
        """Add a note."""
        self.findings.append(Finding(check, Verdict.NOTE, text, advice))

    def wrong(self, check: str, text: str, advice: str) -> None:
        """Add a fault."""
        self.findings.append(Finding(check, Verdict.WRONG, text, advice))

    def unknown(self, check: str, text: str) -> None:
        """Add the finding that a check could not be made."""
        self.findings.append(Finding(check, Verdict.UNKNOWN, text))

    def ok_unless_found(self, check: str, before: int, text: str) -> None:
        """Add that a check passed, unless it has a finding after the first `before` findings."""
        if not any(finding.check == check for finding in self.findings[before:]):
            self.ok(check, text)

    @property
    def status(self) -> int:
        """Exit status: 0 healthy, 1 a fault, 2 a check that could not be made."""
        verdicts = {finding.verdict for finding in self.findings}
        if Verdict.UNKNOWN in verdicts:
            return 2
        return 1 if Verdict.WRONG in verdicts else 0

    def as_lines(self) -> str:
        """A line for each finding, and a line below it for its advice."""
        width = max(len(finding.check) for finding in self.findings)
        lines = []
        for each in self.findings:
            lines.append(f"{each.verdict:<8}{each.check:<{width + 2}}{each.text}")
            if each.advice:
                lines.append(f"{'':<{width + 10}}-> {each.advice}")
        return "\n".join(lines)

    def as_json(self) -> str:
        """The report as one JSON object."""
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
