"""MDETR: find what a text mentions in an image.

The public names are imported when they are first used. Importing this package registers its classes with the
Auto classes of transformers: `AutoModelForZeroShotObjectDetection` and `AutoProcessor` load a saved MDETR
like any other model, and `AutoModel` loads it without its heads.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mdetr.registration import follow_auto_classes as _follow_auto_classes

if TYPE_CHECKING:
    from mdetr.inference.grounder import Mdetr
    from mdetr.model.config import MdetrConfig
    from mdetr.model.mdetr import MdetrModel
    from mdetr.modeling import MdetrForObjectDetection
    from mdetr.processing.image_processor import MdetrImageProcessor
    from mdetr.processing.processor import MdetrProcessor

__version__ = "0.1.0"
__all__ = [
    "Mdetr",
    "MdetrConfig",
    "MdetrForObjectDetection",
    "MdetrImageProcessor",
    "MdetrModel",
    "MdetrProcessor",
    "__version__",
]

_MODULES = {
    "Mdetr": "mdetr.inference.grounder",
    "MdetrConfig": "mdetr.model.config",
    "MdetrForObjectDetection": "mdetr.modeling",
    "MdetrImageProcessor": "mdetr.processing.image_processor",
    "MdetrModel": "mdetr.model.mdetr",
    "MdetrProcessor": "mdetr.processing.processor",
}

_follow_auto_classes()


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names of the module, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
