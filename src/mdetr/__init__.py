"""MDETR: find what a text speaks of in an image.

Importing this package makes the Auto classes of transformers know its models: `AutoConfig`, `AutoModel` and
`AutoProcessor` load a saved MDETR like any other model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdetr import registration as _registration
from mdetr.model.config import MdetrConfig
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor

if TYPE_CHECKING:
    from mdetr.inference.grounder import Mdetr

__version__ = "0.1.0"
__all__ = ["Mdetr", "MdetrConfig", "MdetrModel", "MdetrProcessor", "__version__"]

_registration.register()


def __getattr__(name: str) -> object:
    """Import `Mdetr` when it is first asked for: training and evaluation never need it."""
    if name == "Mdetr":
        from mdetr.inference.grounder import Mdetr

        return Mdetr
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, `Mdetr` included."""
    return sorted({*globals(), *__all__})
