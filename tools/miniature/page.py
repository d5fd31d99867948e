"""The page of the results, written from the claims and the results alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.miniature.claims import ROOT, Claim, Claims
from tools.miniature.curves import draw_curves
from tools.miniature.results import Result
from tools.miniature.verdicts import ERRORS, Estimate, Verdict, judge

PAGE = ROOT / "docs" / "paper-in-miniature.md"
CURVES = "miniature"  # folder of the drawings, beside the page
INTRODUCTION = f"""\
# The paper in miniature

Claims of the paper (arXiv 2104.12763), checked with this code on [generated scenes](synthetic-clevr.md), at
a size that two CPU cores can train. Small models on simple scenes cannot reproduce the paper's figures, which
stand beside ours to show what is compared; what can be checked is the direction of an effect.

```bash
make miniature CLAIM=protocols
```

runs what a claim still needs, and writes this page; without `CLAIM` it does so for all claims, overnight. A
call that was interrupted continues where it stopped: results are kept, and a training resumes from its last
checkpoint. The claims, and the data, runs and settings that show them, are in
[claims.yaml](../recipes/miniature/claims.yaml).

A claim is **shown** if each of its comparisons differs in the expected direction by more than {ERRORS:g}
standard errors of the difference, **opposite** if one differs as much in the other direction, and otherwise
**not shown**. The standard error of a figure is the larger of two: that of the mean over the seeds, and that
of a fraction of so many phrases, expressions or questions. It takes these as independent of each other,
though some are of one image, and the two figures as independent, though most are of the same images.
"""


def write_page(claims: Claims, results: Mapping[str, Sequence[Result]], page: Path = PAGE) -> None:
    """Write the page and its drawings.

    Args:
        claims: The claims.
        results: Run -> results of its seeds.
        page: File of the page.
    """
    seeds = {name: len(run.seeds) for name, run in claims.runs.items()}
    rows, sections = [], []
    for name, claim in claims.claims.items():
        verdict, judged = judge(claim, results, seeds)
        rows.append(
            f"| [{claim.title}](#{_anchor(claim.title)}) | `make miniature CLAIM={name}` | {verdict} |"
        )
        comparisons = [
            f"| {one.comparison.says} | {_value(one.higher)} | {_value(one.lower)} "
            f"| {one.comparison.paper or 'none'} | {one.verdict} |"
            for one in judged
        ]
        sections.append(_section(name, claim, verdict, comparisons, results, page))
    table = "\n".join(["| claim | command | verdict |", "| --- | --- | --- |", *rows])
    page.write_text("\n".join([INTRODUCTION, table, "", *sections]), encoding="utf-8")


def _section(
    name: str,
    claim: Claim,
    verdict: Verdict,
    comparisons: Sequence[str],
    results: Mapping[str, Sequence[Result]],
    page: Path,
) -> str:
    parts = [
        f"## {claim.title}",
        f"{claim.says}\n\nIn the paper: {claim.paper}\n\nVerdict: **{verdict}**.",
        "\n".join(
            [
                "| figure that should be higher, the other | higher | lower | paper | verdict |",
                "| --- | --- | --- | --- | --- |",
                *comparisons,
            ]
        ),
    ]
    if claim.remark:
        parts.append(claim.remark.strip())
    done = {run: results[run] for run in claim.runs if run in results}

    # Curves of the first seed
    if claim.curve is not None and verdict != "not run yet":
        curves = {run: found[0].curve.get(claim.curve, ()) for run, found in done.items()}
        curves = {run: points for run, points in curves.items() if len(points) > 1}
        if curves:
            drawing = page.parent / CURVES / f"{name}.svg"
            drawing.parent.mkdir(parents=True, exist_ok=True)
            drawing.write_text(draw_curves(claim.curve, curves), encoding="utf-8")
            parts.append(f"![{claim.curve} over the steps]({CURVES}/{name}.svg)")

    # How each run was made
    if done:
        rows = [_run_row(run, found) for run, found in done.items()]
        header = "| run | steps | minutes | seeds | version |\n| --- | --- | --- | --- | --- |"
        parts.append("\n".join([header, *rows]))
        commands = [command for found in done.values() for command in found[0].commands]
        parts.append("The commands of the first seed:\n\n```text\n" + "\n".join(commands) + "\n```")
    return "\n\n".join(parts) + "\n"


def _run_row(run: str, found: Sequence[Result]) -> str:
    minutes = statistics.fmean(result.minutes for result in found)
    seeds = ", ".join(str(result.seed) for result in found)
    trained = found[0].steps > 0
    cells = (f"{found[0].steps:,}", f"{minutes:.1f}", seeds) if trained else ("none", "", "")
    return f"| {run} | {' | '.join(cells)} | {found[0].version} |"


def _value(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not run yet"
    spread = ""
    if len(estimate.seeds) > 1:
        spread = f" (seeds {', '.join(f'{value:.3f}' for value in estimate.seeds)})"
    return f"{estimate.value:.3f} ± {estimate.error:.3f}{spread}"


def _anchor(title: str) -> str:
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in "_- ")
    return kept.replace(" ", "-")
