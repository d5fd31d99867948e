"""LoRA: low-rank adapters beside linear layers."""

from __future__ import annotations

import copy
import re
from dataclasses import field

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from mdetr.errors import MissingDependencyError, RecipeError
from mdetr.settings import STRICT, Fraction


@dataclass(frozen=True, config=STRICT)
class LoraSettings:
    """Settings of LoRA: low-rank adapters beside linear layers (arXiv 2106.09685).

    Attributes:
        rank: Rank of each adapter.
        alpha: Scale: an adapter's output is multiplied by alpha / rank.
        dropout: Dropout before each adapter.
        layers: Regular expression that the full name of a layer must match to get an adapter.
        also: Regular expressions; parameters whose name contains a match are trained themselves.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Fraction = 0.0
    layers: str = r"text_encoder\..*\.(query|value)|(encoder|decoder)\.\d+\.feed_forward\.linear[12]"
    also: list[str] = field(default_factory=lambda: [r"_head\.", r"_alignment\.", r"answers\."])


def add_lora(model: nn.Module, settings: LoraSettings) -> None:
    """Give layers their additions, and let only these and what the settings name train.

    Raises:
        RecipeError: no layer has such a name. MissingDependencyError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingDependencyError("model.lora needs PEFT: pip install 'mdetr[lora]'.") from None

    if not any(re.fullmatch(settings.layers, name) for name, _ in model.named_modules()):
        raise RecipeError(f"model.lora.layers: no layer has a name that fits {settings.layers!r}.")
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=settings.layers,
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in settings.also):
            parameter.requires_grad_(True)


def merge_lora(model: nn.Module) -> nn.Module:
    """The model with all additions added to its weights, a copy; or itself, where it has none."""
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    merged = copy.deepcopy(model)
    for name, layer in list(merged.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            merged.set_submodule(name, layer.get_base_layer())
    return merged
