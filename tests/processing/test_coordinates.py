"""The types of boxes, sizes and spans."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mdetr


def test_each_coordinate_type_is_defined_in_one_module() -> None:
    package = Path(mdetr.__file__).parent
    pattern = re.compile(r"^(Box|Span|Spans) = ", re.MULTILINE)
    definitions = [
        (path.relative_to(package).as_posix(), name)
        for path in package.rglob("*.py")
        for name in pattern.findall(path.read_text(encoding="utf-8"))
    ]
    assert sorted(definitions) == [("processing/coordinates.py", name) for name in ("Box", "Span", "Spans")]


def test_records_import_coordinate_types_without_torch() -> None:
    program = "import sys, mdetr.data.record, mdetr.processing.coordinates; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
