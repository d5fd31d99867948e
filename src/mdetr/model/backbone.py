"""Convolutional backbone: one feature map, and finer ones for masks."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers import BatchNormAct2d, GroupNormAct, freeze_batch_norm_2d
from torch import Tensor, nn

from mdetr.errors import InvalidInputError
from mdetr.model.config import MdetrConfig


class Backbone(nn.Module):
    """A timm model cut at the wanted stride.

    `body` is timm's module, so that its keys are timm's own. `channels` is the number of features.
    `fine_channels` are those of the maps of a half, a quarter and an eighth of its stride, which masks need,
    `coarse_channels` those of the map of twice its stride, which a feature pyramid adds (0 without one).
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        body = _make_body(config)
        channels = body.feature_info.channels()
        self.coarse_channels: int = channels.pop() if config.feature_pyramid else 0
        *fine_channels, self.channels = channels
        self.fine_channels: list[int] = fine_channels[::-1]
        _drop_unused_blocks(body)
        if config.backbone_norm == "frozen":
            body = freeze_batch_norm_2d(body)
        elif config.backbone_norm == "group":
            _replace_batch_norms(body)
        if config.backbone_norm != "group":
            for module in body.modules():
                if "BatchNorm" in type(module).__name__:
                    module.eps = config.backbone_norm_eps
        self.body = body
        self.num_fixed_stages = config.backbone_fixed_stages or 0
        self.fix_stages()

    def fix_stages(self) -> None:
        """Stop the first stages from training, and with them what lies before the first."""
        if self.num_fixed_stages == 0:
            return
        if isinstance(getattr(self.body, "blocks", None), nn.Sequential):
            stages = list(self.body.blocks)
        else:
            stages = [module for name, module in self.body.named_children() if name.startswith("layer")]
        later = {id(weight) for stage in stages[self.num_fixed_stages :] for weight in stage.parameters()}
        for parameter in self.body.parameters():
            parameter.requires_grad_(id(parameter) in later)

    def forward(
        self, pixel_values: Float[Tensor, "images 3 height width"]
    ) -> list[Float[Tensor, "images _ _ _"]]:
        """Images (I, 3, H, W) -> feature maps, coarse to fine.

        With a feature pyramid the first is of twice the stride; then comes (I, channels, H / stride,
        W / stride), and then any finer ones.
        """
        return self.body(pixel_values.contiguous(memory_format=torch.channels_last))[::-1]


def _make_body(config: MdetrConfig) -> Any:
    name, stride = config.backbone, config.backbone_stride
    try:
        with torch.device("meta"):  # only to ask for its strides
            probe: Any = timm.create_model(name, pretrained=False, features_only=True)
        strides = probe.feature_info.reduction()
    except RuntimeError as error:
        raise InvalidInputError(f"timm has no backbone {name!r} with feature maps: {error}") from None
    if stride not in strides:
        raise InvalidInputError(f"{name} has feature maps of strides {strides}; backbone_stride is {stride}.")
    wanted = [stride // 8, stride // 4, stride // 2, stride] if config.predict_masks else [stride]
    if config.feature_pyramid:
        if 2 * stride not in strides:
            raise InvalidInputError(
                f"feature_pyramid needs a map of stride {2 * stride}; {name} has {strides}."
            )
        wanted.append(2 * stride)
    if missing := set(wanted) - set(strides):
        raise InvalidInputError(
            f"Masks need feature maps of strides {wanted}; {name} has none of {sorted(missing)}."
        )
    indices = tuple(strides.index(one) for one in wanted)
    return timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)


def _drop_unused_blocks(body: Any) -> None:
    """Remove the stages behind the last feature map; timm runs an EfficientNet's to the end otherwise."""
    stage = body.feature_info.module_name()[-1]  # "blocks.4", for instance
    if stage.startswith("blocks."):
        body.blocks = body.blocks[: int(stage.split(".")[1]) + 1]


def _replace_batch_norms(module: nn.Module) -> None:
    """Put a group norm in place of every batch norm, and keep the activation that timm fuses with it."""
    for name, child in module.named_children():
        if isinstance(child, BatchNormAct2d):
            norm = GroupNormAct(child.num_features, num_groups=math.gcd(32, child.num_features))
            norm.act, norm.drop = child.act, child.drop
            setattr(module, name, norm)
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(math.gcd(32, child.num_features), child.num_features))
        else:
            _replace_batch_norms(child)
