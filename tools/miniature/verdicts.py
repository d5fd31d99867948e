"""Verdict on a claim: whether its figures differ by more than their errors, in the direction that it says."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tools.miniature.claims import Claim, Comparison, Figure
from tools.miniature.results import Result

ERRORS = 2.0  # standard errors that a difference must exceed
Verdict = Literal["shown", "not shown", "opposite", "not run yet"]


@dataclass(frozen=True)
class Estimate:
    """A figure over the seeds of a run.

    Attributes:
        value: Mean over the seeds.
        error: Its standard error.
        seeds: The value of each seed.
    """

    value: float
    error: float
    seeds: Sequence[float]


def estimate(figure: Figure, results: Mapping[str, Sequence[Result]], seeds: int) -> Estimate | None:
    """Estimate a figure and its standard error.

    The error is the larger of two: that of the mean over the seeds, and that of a fraction of so many
    examples, which all seeds have in common.

    Args:
        figure: The figure, a fraction from 0 to 1.
        results: Run -> results of its seeds.
        seeds: Number of seeds that the run is to have.

    Returns:
        The estimate; None where a seed has not been run.
    """
    found = results.get(figure.run, ())
    if len(found) < seeds:
        return None
    values = [result.scores[figure.score] for result in found]
    mean = statistics.fmean(values)
    examples = min(result.scores[figure.count] for result in found)
    of_examples = math.sqrt(mean * (1 - mean) / examples)
    of_seeds = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(mean, max(of_examples, of_seeds), values)


def verdict_of(higher: Estimate | None, lower: Estimate | None) -> Verdict:
    """Judge whether one figure is higher than another.

    Args:
        higher: The figure that is expected to be higher.
        lower: The other one.

    Returns:
        "shown" or "opposite" where they differ by more than two standard errors of their difference.
    """
    if higher is None or lower is None:
        return "not run yet"
    difference = higher.value - lower.value
    limit = ERRORS * math.hypot(higher.error, lower.error)
    if abs(difference) <= limit:
        return "not shown"
    return "shown" if difference > 0 else "opposite"


@dataclass(frozen=True)
class Judged:
    """A comparison with its figures and its verdict."""

    comparison: Comparison
    higher: Estimate | None
    lower: Estimate | None
    verdict: Verdict


def judge(
    claim: Claim, results: Mapping[str, Sequence[Result]], seeds: Mapping[str, int]
) -> tuple[Verdict, list[Judged]]:
    """Judge a claim by its comparisons.

    Args:
        claim: The claim.
        results: Run -> results of its seeds.
        seeds: Run -> number of its seeds.

    Returns:
        "shown" where all comparisons show it, "opposite" where one shows the opposite, "not run yet" where
        one is missing, otherwise "not shown"; and the comparisons.
    """
    judged = []
    for one in claim.comparisons:
        higher, lower = (estimate(side, results, seeds[side.run]) for side in (one.higher, one.lower))
        judged.append(Judged(one, higher, lower, verdict_of(higher, lower)))
    verdicts = {one.verdict for one in judged}
    order: tuple[Verdict, ...] = ("not run yet", "opposite", "not shown")
    return next((verdict for verdict in order if verdict in verdicts), "shown"), judged
