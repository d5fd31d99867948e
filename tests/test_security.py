"""What the page on security says is shown by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "security.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _rows() -> list[str]:
    """The rows of the tables, without their heads."""
    lines = PAGE.read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith(("| ---", "| from a"))]


def test_every_claim_names_a_test_that_exists() -> None:
    rows = _rows()
    assert len(rows) > 15
    for row in rows:
        named = _TEST.findall(row.rstrip(" |").rpartition(" | ")[2])
        assert named, row
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_the_short_page_points_to_it() -> None:
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text()
