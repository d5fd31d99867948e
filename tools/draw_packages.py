"""Draws the packages of mdetr and what each imports, from the code, into docs/architecture.md.

    python tools/draw_packages.py           # write the drawing
    python tools/draw_packages.py --check   # fail if the page shows another

An arrow leads from a package to one that it imports; those that follow from other arrows are left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import grimp

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
PACKAGES = (
    *("cli", "app", "labeling", "server", "training", "baselines", "evaluation", "inference"),
    *("export", "visualization", "synthetic_clevr", "data", "checkpoints", "label_studio", "processing"),
    *("modeling", "losses", "model"),
)
DRAWING = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)


def imports_of_packages() -> dict[str, set[str]]:
    """Package -> the packages that its modules import."""
    graph = grimp.build_graph("mdetr")
    found: dict[str, set[str]] = {name: set() for name in PACKAGES}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            first, second = (name.split(".")[1] if "." in name else "" for name in (module, imported))
            if first in found and second in found and first != second:
                found[first].add(second)
    return found


def without_shortcuts(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same without the imports that lead over another package as well."""

    def reached(name: str) -> set[str]:
        return imports[name].union(*(reached(other) for other in imports[name]))

    return {
        name: {other for other in direct if not any(other in reached(via) for via in direct - {other})}
        for name, direct in imports.items()
    }


def drawing() -> str:
    """The drawing in Mermaid's language, which GitHub shows as a picture."""
    lines = ["graph TD"]
    for name, imported in without_shortcuts(imports_of_packages()).items():
        lines += [f"    {name} --> {other}" for other in sorted(imported, key=PACKAGES.index)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write or check the drawing."""
    text = PAGE.read_text(encoding="utf-8")
    drawn = DRAWING.sub(lambda _: drawing(), text, count=1)
    if "--check" not in sys.argv:
        PAGE.write_text(drawn, encoding="utf-8")
    elif drawn != text:
        sys.exit(f"{PAGE} does not show the packages as they are: run python tools/draw_packages.py")


if __name__ == "__main__":
    main()
