"""MDETR: find what a text speaks of in an image.

Importing this package makes the Auto classes of transformers know its models: `AutoConfig`, `AutoModel` and
`AutoProcessor` load a saved MDETR like any other model.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

_collects = gc.isenabled()
gc.disable()  # collecting garbage while torch and transformers load takes a fifth of the time

from mdetr import registration as _registration  # noqa: E402
from mdetr.model.config import MdetrConfig  # noqa: E402
from mdetr.model.mdetr import MdetrModel  # noqa: E402
from mdetr.processor import MdetrProcessor  # noqa: E402

if _collects:
    gc.enable()

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
