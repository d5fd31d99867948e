"""Print the table of the corpus: `python -m tests.corpus [KIND...] [--show] [--only PART]`."""

from __future__ import annotations

import argparse
import sys

from tests.corpus.cases import KINDS
from tests.corpus.running import run_kind


def main() -> int:
    """Run kinds of the corpus, print the table and what is wrong, and return 1 if something is."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of: {', '.join(KINDS)}")
    parser.add_argument("--show", action="store_true", help="print what came of every input")
    parser.add_argument("--only", default="", metavar="PART", help="run inputs whose name has this part")
    arguments = parser.parse_args()
    unknown = sorted({*arguments.kinds} - {*KINDS})
    if unknown:
        parser.error(f"unknown kind {unknown[0]}; the kinds are {', '.join(KINDS)}")

    reports = [run_kind(kind, arguments.only) for kind in arguments.kinds or KINDS]
    for report in reports:
        for outcome in report.outcomes if arguments.show else report.wrong:
            print(f"{report.kind}, {outcome.case}: {outcome.verdict}: {outcome.detail}")
    rows = [
        (
            report.kind,
            *map(str, (len(report.outcomes), *map(report.count, ("right", "refused", "wrong")))),
            f"{report.seconds:.0f}",
        )
        for report in reports
    ]
    totals = [str(sum(int(row[column]) for row in rows)) for column in range(1, 6)]
    for row in [("kind", "inputs", "right", "refused plainly", "wrong", "seconds"), *rows, ("all", *totals)]:
        print(f"{row[0]:<12}{row[1]:>8}{row[2]:>8}{row[3]:>17}{row[4]:>8}{row[5]:>9}")
    return int(any(report.wrong for report in reports))


if __name__ == "__main__":
    sys.exit(main())
