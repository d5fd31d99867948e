"""Every odd input of the corpus gives the right value, or one plain sentence."""

from __future__ import annotations

import pytest

from tests.corpus.cases import KINDS, cases_of
from tests.corpus.running import run_kind


@pytest.mark.parametrize("kind", KINDS)
def test_odd_inputs_are_right_or_refused_in_a_sentence_with_little_time_and_memory(kind: str) -> None:
    report = run_kind(kind)
    assert len(report.outcomes) == len(cases_of(kind))
    assert not report.wrong, "\n".join(f"{outcome.case}: {outcome.detail}" for outcome in report.wrong)


def test_the_corpus_has_at_least_250_inputs() -> None:
    assert sum(len(cases_of(kind)) for kind in KINDS) >= 250
