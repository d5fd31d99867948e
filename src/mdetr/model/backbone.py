"""The backbone: images in, one convolutional feature map (and, on request, finer ones) out."""

from __future__ import annotations

import math
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d, GroupNormAct, freeze_batch_norm_2d
from torch import Tensor, nn

from mdetr.errors import InvalidInputError
from mdetr.model.config import MdetrConfig


class Backbone(nn.Module):
    """A timm model cut at the wanted stride.

    `body` is timm's module, so that its keys are timm's own. `channels` is the number of features.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        body = _make_body(config)
        self.channels: int = body.feature_info.channels()[-1]
        _drop_unused_blocks(body)
        if config.backbone_norm == "frozen":
            body = freeze_batch_norm_2d(body)
        elif config.backbone_norm == "group":
            _replace_batch_norms(body)
        if config.backbone_norm != "group":
            for module in body.modules():
                if "BatchNorm" in type(module).__name__:
                    module.eps = config.backbone_norm_eps
        _fix_stages(body, config.backbone_fixed_stages or 0)
        self.body = body

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Images (I, 3, H, W) -> features (I, channels, H / stride, W / stride)."""
        return self.body(pixel_values.contiguous(memory_format=torch.channels_last))[-1]


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
    return timm.create_model(name, pretrained=False, features_only=True, out_indices=(strides.index(stride),))


def _drop_unused_blocks(body: Any) -> None:
    """Remove the stages behind the last feature map; timm runs an EfficientNet's to the end otherwise."""
    stage = body.feature_info.module_name()[-1]  # "blocks.4", for instance
    if stage.startswith("blocks."):
        body.blocks = body.blocks[: int(stage.split(".")[1]) + 1]


def _fix_stages(body: Any, count: int) -> None:
    """Stop the first `count` stages from training, and with them what lies before the first."""
    if count == 0:
        return
    if isinstance(getattr(body, "blocks", None), nn.Sequential):
        stages = list(body.blocks)
    else:
        stages = [module for name, module in body.named_children() if name.startswith("layer")]
    later = {id(parameter) for stage in stages[count:] for parameter in stage.parameters()}
    for parameter in body.parameters():
        parameter.requires_grad_(id(parameter) in later)


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
