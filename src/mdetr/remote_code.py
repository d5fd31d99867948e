"""Support of `trust_remote_code=True`: saved folders load in programs that do not import mdetr.

A saved configuration names our classes in a Python file beside it. The Auto classes of transformers run that
file, which imports mdetr or says that it must be installed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import MappingProxyType

FILE = Path(__file__).parent / "assets" / "auto_mdetr.py"

CONFIG_CLASSES = MappingProxyType(
    {
        "AutoConfig": f"{FILE.stem}.MdetrConfig",
        "AutoModel": f"{FILE.stem}.MdetrModel",
        "AutoModelForZeroShotObjectDetection": f"{FILE.stem}.MdetrForObjectDetection",
    }
)
"""Auto class -> our class, for the configuration file."""

PROCESSOR_CLASSES = MappingProxyType({"AutoProcessor": f"{FILE.stem}.MdetrProcessor"})
"""Auto class -> our class, for the processor's file."""


def write_remote_code(folder: str | os.PathLike[str]) -> None:
    """Copy the Python file into an existing folder."""
    shutil.copyfile(FILE, Path(folder) / FILE.name)
