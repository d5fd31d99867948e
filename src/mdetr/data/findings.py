"""Findings of data checks: severity, count, examples, and advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
"""error: training stops, or learns what is wrong. warning: it may. note: what is good to know."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXAMPLES = 3  # of each finding


@dataclass(frozen=True, slots=True)
class Example:
    """One thing that was found.

    Attributes:
        record: The record's id, "" where it has none.
        what: What is wrong with it.
        where: The file or store.
    """

    record: str
    what: str
    where: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding.

    Attributes:
        name: Short, for programs: "cut-words".
        severity: How bad it is.
        title: What was found, in the plural.
        advice: What to do about it.
    """

    name: str
    severity: Severity
    title: str
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """All that was found of one kind: how often, and the first few."""

    kind: Kind
    count: int
    examples: tuple[Example, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "check": self.kind.name,
            "severity": self.kind.severity,
            "count": self.count,
            "title": self.kind.title,
            "advice": self.kind.advice,
            "examples": [
                {"record": example.record, "what": example.what, "where": example.where}
                for example in self.examples
            ],
        }


class Tally:
    """Counts what is found of one kind and keeps the first few."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.count = 0
        self._examples: list[Example] = []

    def add(self, record: str, what: str, where: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(Example(record, what, where))

    def findings(self) -> list[Finding]:
        """One finding, or none if nothing was counted."""
        return [Finding(self.kind, self.count, tuple(self._examples))] if self.count else []
