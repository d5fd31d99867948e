"""Shows the claims of the paper in miniature, and writes docs/paper-in-miniature.md.

python -m tools.miniature                 # all claims: run what is missing, then write the page
python -m tools.miniature protocols       # one claim
python -m tools.miniature --plan          # list the commands that are missing
python -m tools.miniature --page          # write the page from the results that there are
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mdetr.errors import MdetrError
from tools.miniature.claims import ROOT, read_claims
from tools.miniature.page import write_page
from tools.miniature.results import read_results
from tools.miniature.runner import plan, show, shown


def main() -> None:
    """Run what is missing, and write the page."""
    claims = read_claims()
    parser = argparse.ArgumentParser(prog="python -m tools.miniature", description="The paper in miniature.")
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"of {', '.join(claims.claims)}")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "miniature", help="working folder")
    parser.add_argument("--plan", action="store_true", help="list the missing commands only")
    parser.add_argument("--page", action="store_true", help="write the page only")
    options = parser.parse_args()
    unknown = [name for name in options.claims if name not in claims.claims]
    if unknown:
        parser.error(f"there is no claim {unknown[0]}; choose of {', '.join(claims.claims)}")
    names = options.claims or list(claims.claims)
    if options.plan:
        for one in plan(claims, names, options.work):
            for command in (one.training, one.evaluation):
                if command is not None:
                    print(shown(command))
        return
    try:
        if not options.page:
            show(claims, names, options.work.resolve())
    except MdetrError as error:
        sys.exit(str(error))
    finally:
        write_page(claims, read_results(claims))


if __name__ == "__main__":
    main()
