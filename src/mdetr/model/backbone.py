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
from mdetr.model.folding import FoldedBody


class Backbone(nn.Module):
    """Any timm model that gives feature maps, up to the configured stride.

    `body` is timm's module and keeps timm's keys. `channels` is the number of features of its map.
    `fine_channels` are those of the maps of a half, a quarter and an eighth of the stride, which masks need.
    `coarse_channels` are those of the map of twice the stride, which a feature pyramid adds (0 without one).
    With `folds_norms`, frozen norms are folded into convolutions, which is faster; inference then takes the
    memory of another copy of the weights.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        # Make the layers up to the coarsest map
        body = _make_body(config)
        channels = body.feature_info.channels()
        self.coarse_channels: int = channels.pop() if config.feature_pyramid else 0
        *fine_channels, self.channels = channels
        self.fine_channels: list[int] = fine_channels[::-1]
        _drop_unused_blocks(body)

        # Choose how they normalize
        if config.backbone_norm == "frozen":
            body = freeze_batch_norm_2d(body)
        elif config.backbone_norm == "group":
            _replace_batch_norms(body)
        if config.backbone_norm != "group":
            for module in body.modules():
                if "BatchNorm" in type(module).__name__:
                    module.eps = config.backbone_norm_eps

        self.body = body
        self.folds_norms = False
        self._folded_body = FoldedBody()
        self._checkpoints = False
        self.num_fixed_stages = config.backbone_fixed_stages or 0
        self.fix_stages()

    def fix_stages(self) -> None:
        """Freeze the first stages, and the layers before them."""
        if self.num_fixed_stages == 0:
            return
        if isinstance(getattr(self.body, "blocks", None), nn.Sequential):
            stages = list(self.body.blocks)
        else:
            stages = [module for name, module in self.body.named_children() if name.startswith("layer")]

        # Layers before the first stage are frozen with it
        self.body.requires_grad_(False)
        for stage in stages[self.num_fixed_stages :]:
            stage.requires_grad_(True)

    def set_gradient_checkpointing(self, enable: bool) -> None:
        """Compute the layers again in the backward pass, to save memory."""
        self._checkpoints = enable
        self.body.set_grad_checkpointing(enable)

    def forward(
        self, pixel_values: Float[Tensor, "images 3 height width"]
    ) -> list[Float[Tensor, "images _ _ _"]]:
        """Feature maps of images, coarse to fine.

        Args:
            pixel_values: (I, 3, H, W) float.

        Returns:
            With a feature pyramid the map of twice the stride; then (I, channels, H / stride, W / stride);
            then the finer maps, if masks need them.
        """
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        if not self.folds_norms or torch.compiler.is_compiling():
            return self.body(pixel_values)[::-1]
        if not (self.training or torch.is_grad_enabled()):
            return self._folded_body.infer(self.body, pixel_values)[::-1]
        # Checkpointing computes the layers again later, with weights that are no longer there
        if self._checkpoints:
            return self.body(pixel_values)[::-1]
        return self._folded_body.train(self.body, pixel_values)[::-1]


def _make_body(config: MdetrConfig) -> Any:
    # Find the strides of the model's feature maps, without making its weights
    name, stride = config.backbone, config.backbone_stride
    try:
        with torch.device("meta"):
            probe: Any = timm.create_model(name, pretrained=False, features_only=True)
        strides = probe.feature_info.reduction()
    except RuntimeError as error:
        raise InvalidInputError(f"timm has no backbone {name!r} with feature maps: {error}") from None
    if stride not in strides:
        raise InvalidInputError(f"{name} has feature maps of strides {strides}; backbone_stride is {stride}.")

    # Choose the maps that the configuration needs
    needed = [stride // 8, stride // 4, stride // 2, stride] if config.predict_masks else [stride]
    if config.feature_pyramid:
        if 2 * stride not in strides:
            raise InvalidInputError(
                f"feature_pyramid needs a map of stride {2 * stride}; {name} has {strides}."
            )
        needed.append(2 * stride)
    if missing := set(needed) - set(strides):
        raise InvalidInputError(
            f"Masks need feature maps of strides {needed}; {name} has none of {sorted(missing)}."
        )

    indices = tuple(strides.index(one) for one in needed)
    return timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)


def _drop_unused_blocks(body: Any) -> None:
    """Remove the stages after the last feature map, which timm runs for EfficientNets."""
    stage = body.feature_info.module_name()[-1]  # such as "blocks.4"
    if stage.startswith("blocks."):
        body.blocks = body.blocks[: int(stage.split(".")[1]) + 1]


def _replace_batch_norms(module: nn.Module) -> None:
    """Replace every batch norm by a group norm, and keep the activation that timm fuses with it."""
    for name, child in module.named_children():
        if isinstance(child, BatchNormAct2d):
            norm = GroupNormAct(child.num_features, num_groups=math.gcd(32, child.num_features))
            norm.act, norm.drop = child.act, child.drop
            setattr(module, name, norm)
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(math.gcd(32, child.num_features), child.num_features))
        else:
            _replace_batch_norms(child)
