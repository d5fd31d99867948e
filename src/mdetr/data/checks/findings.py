"""Findings of data checks: severity, count, examples, and advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
"""error: training fails or learns wrong labels; warning: it may; note: information only."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_MAX_CHARACTERS = 60  # characters of a text in an example
EXAMPLES = 3  # number per finding


@dataclass(frozen=True, slots=True)
class Example:
    """One occurrence of a problem.

    Attributes:
        record: Id of the record; "" if unknown.
        what: Description of the problem.
        where: File or store.
    """

    record: str
    what: str
    where: str


@dataclass(frozen=True, slots=True)
class Kind:
    """Kind of problem.

    Attributes:
        name: Short name for programs, such as "cut-words".
        severity: Effect on training.
        title: Description, in the plural.
        advice: How to solve the problem.
    """

    name: str
    severity: Severity
    title: str
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Problems of one kind: their number and the first few of them.

    Attributes:
        kind: Kind of problem.
        count: Number of occurrences.
        examples: The first occurrences.
    """

    kind: Kind
    count: int
    examples: tuple[Example, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert to types of JSON."""
        examples = []
        for example in self.examples:
            examples.append({"record": example.record, "what": example.what, "where": example.where})
        return {
            "check": self.kind.name,
            "severity": self.kind.severity,
            "count": self.count,
            "title": self.kind.title,
            "advice": self.kind.advice,
            "examples": examples,
        }


class Tally:
    """Counts the problems of one kind, and keeps the first few as examples."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.count = 0
        self._examples: list[Example] = []

    def add(self, record: str, what: str, where: str) -> None:
        """Count one problem."""
        self.count += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(Example(record, what, where))

    def findings(self) -> list[Finding]:
        """Return one finding, or none if nothing was counted."""
        return [Finding(self.kind, self.count, tuple(self._examples))] if self.count else []


def shorten(text: str) -> str:
    """Quote a text, truncated to fit into a line."""
    return repr(text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}...")
