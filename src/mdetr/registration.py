"""Lazy registration with the Auto classes of transformers: importing `mdetr` imports neither torch nor these.

Each of our classes registers itself at the end of its module; an import hook imports these modules in time.
Configuration and processors are imported right after the Auto class that they register with. Models are
imported when the first configuration is made, since no Auto class makes a model without one; they cannot
follow `AutoModel`, which transformers imports halfway through modules that they need. Our pipeline replaces
the library's as soon as the library's pipelines are imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import MappingProxyType, ModuleType

# Module of an Auto class -> our module that registers with it
_OURS = MappingProxyType(
    {
        "transformers.models.auto.configuration_auto": "mdetr.model.config",
        "transformers.models.auto.image_processing_auto": "mdetr.processing.image_processor",
        "transformers.models.auto.processing_auto": "mdetr.processing.processor",
        "transformers.pipelines": "mdetr.inference.zero_shot",
    }
)


def follow_auto_classes() -> None:
    """Import our classes for the Auto classes that are imported already, and for the others once they are."""
    if any(isinstance(finder, _AutoClassFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _AutoClassFinder())
    for auto, ours in _OURS.items():
        if auto in sys.modules:
            import_module(ours)


def import_model() -> None:
    """Import the models, and so register them, where torch is installed."""
    if find_spec("torch") is not None:
        import_module("mdetr.modeling")


class _AutoClassFinder(MetaPathFinder):
    """Finds the modules of the Auto classes as Python does, and lets ours be imported after each of them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _OURS:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _LoaderBeforeOurs(spec.loader)
                return spec
        return None


class _LoaderBeforeOurs(Loader):
    """Loads a module, and then imports ours."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Restore the loader that the module has without us
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        import_module(_OURS[module.__name__])
