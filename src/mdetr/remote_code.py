"""What lets programs that never import mdetr load a saved folder: names of classes, and a file with these.

The Auto classes of transformers read the names, and with `trust_remote_code=True` the file, which imports
mdetr or says that it must be installed.
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
"""Auto class -> where it finds ours; of the configuration."""

PROCESSOR_CLASSES = MappingProxyType({"AutoProcessor": f"{FILE.stem}.MdetrProcessor"})
"""The same of the processor."""


def write_remote_code(folder: str | os.PathLike[str]) -> None:
    """Put the file into a folder that exists."""
    shutil.copyfile(FILE, Path(folder) / FILE.name)
