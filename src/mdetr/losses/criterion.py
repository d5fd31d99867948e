"""Total loss of a model's output, and its named terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch import distributed as dist

from mdetr.errors import InvalidInputError
from mdetr.losses.alignment import alignment_loss
from mdetr.losses.answers import answer_losses
from mdetr.losses.boxes import box_losses, matched_iou
from mdetr.losses.masks import mask_losses
from mdetr.losses.matcher import NEVER, assign, matching_cost
from mdetr.losses.matches import Matches
from mdetr.losses.referred import referred_loss
from mdetr.losses.soft_tokens import TokenTargets, cardinality_error, soft_token_loss, token_targets
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput, Targets


@dataclass(frozen=True)
class LayerPredictions:
    """The predictions of D decoder layers, stacked, in float32.

    logits: (D, B, Q, T). boxes: (D, B, Q, 4). query_embeddings: (D, B, Q, C). referred_logits: (D, B, Q).
    query_padding: (B, Q) bool, queries that may match nothing; None where all may.
    """

    logits: Float32[Tensor, "layers batch queries positions"]
    boxes: Float32[Tensor, "layers batch queries 4"]
    query_embeddings: Float32[Tensor, "layers batch queries aligned"] | None
    referred_logits: Float32[Tensor, "layers batch queries"] | None
    query_padding: Bool[Tensor, "batch queries"] | None


@dataclass(frozen=True)
class QuerySet:
    """The predictions of one kind of queries, and how many of them each box is matched with.

    suffix: Suffix of the names of its losses.
    """

    suffix: str
    layers: LayerPredictions
    queries_per_box: int

    def suffixes(self) -> list[str]:
        """Suffix of the losses of each layer, with its number except for the last."""
        earlier = range(len(self.layers.logits) - 1)
        return [*(f"{self.suffix}_{layer}" for layer in earlier), self.suffix]


@dataclass(frozen=True)
class Truth:
    """Targets of a batch, prepared for the losses.

    targets: As given. token_targets: (B, N, T) float32. num_boxes: Scalar, the divisor of summed losses.
    """

    targets: Targets
    token_targets: Float32[Tensor, "batch boxes positions"]
    num_boxes: Float32[Tensor, ""]


@dataclass(frozen=True)
class LossGroup:
    """Losses of one set of layers: name -> (layers,), and the suffix of the name in each layer."""

    losses: Mapping[str, Float32[Tensor, "layers"]]
    suffixes: Sequence[str]


def compute_loss(
    output: MdetrOutput, targets: Targets, config: MdetrConfig
) -> tuple[Float32[Tensor, ""], dict[str, Float32[Tensor, ""]]]:
    """Total loss: match queries with boxes in every decoder layer, and sum the weighted losses.

    Args:
        output: The model's output; earlier decoder layers in `auxiliary_outputs`, and `proposals` if any.
        targets: Targets of the texts, on the same device.
        config: Weights of the matching and of the losses, and the kind of soft tokens.

    Returns:
        The weighted sum over all layers, with gradient; and its terms, unweighted and without gradient, under
        their released names: `loss_ce` of the last layer, `loss_ce_0` of the first, `loss_ce_proposals`.

    Raises:
        TrainingError: The predictions are not finite.
        InvalidInputError: The targets have another number of token positions.

    Source: arXiv 2104.12763, section 2.2.2.
    """
    logits = _required(output.logits)
    with torch.autocast(logits.device.type, enabled=False):
        return _compute_loss(output, targets, config)


def _compute_loss(
    output: MdetrOutput, targets: Targets, config: MdetrConfig
) -> tuple[Float32[Tensor, ""], dict[str, Float32[Tensor, ""]]]:
    decoder = _stack_layers(output)
    positions = targets["positive_map"].shape[-1]
    if positions != decoder.logits.shape[-1]:
        raise InvalidInputError(
            f"Expected targets over the model's {decoder.logits.shape[-1]} token positions, got "
            f"{positions}; make them with the processor of this model."
        )
    truth = Truth(
        targets=targets,
        token_targets=token_targets(targets["positive_map"], cast(TokenTargets, config.token_targets)),
        num_boxes=count_boxes(targets["box_mask"]),
    )

    # Match the queries of the decoder, the proposals and extra queries with boxes, in one transfer to the CPU
    parts = [QuerySet("", decoder, 1)]
    if output.proposals is not None:
        proposals = _stack([output.proposals])
        parts.append(QuerySet("_proposals", proposals, config.proposal_targets_per_box))
    if output.one_to_many is not None:
        layers = _stack_layers(output.one_to_many)
        parts.append(QuerySet("_one_to_many", layers, config.one_to_many_targets_per_box))
    costs = [_cost(part.layers, truth, config) for part in parts]
    matches_by_part = assign(costs, targets["box_mask"], [part.queries_per_box for part in parts])
    matches = matches_by_part[0]

    # The denoising queries know their boxes
    if output.denoising is not None:
        part = QuerySet("_denoising", _stack_layers(output.denoising), config.denoising_groups)
        parts.append(part)
        num_layers = len(part.layers.logits)
        matches_by_part.append(Matches.of_denoising(targets["box_mask"], num_layers, config.denoising_groups))

    # Losses of every layer; those of the decoder's own queries include referring and alignment
    groups: list[LossGroup] = []
    for part, found in zip(parts, matches_by_part, strict=True):
        losses = _detection_losses(part, truth, found, config)
        if part.layers is decoder:
            losses["cardinality_error"] = cardinality_error(decoder.logits, targets["box_mask"])
            losses |= _alignment_losses(decoder, output.token_embeddings, truth, matches, config)
            losses |= _referred_losses(decoder, truth, matches)
        groups.append(LossGroup(losses, part.suffixes()))

    # Losses of the last decoder layer only
    losses = _last_layer_losses(output, truth, matches, len(decoder.logits) - 1, config)
    groups.append(LossGroup({name: value[None] for name, value in losses.items()}, [""]))
    return _weighted_sum(groups, loss_weights(config))


def _weighted_sum(
    groups: Sequence[LossGroup], weights: Mapping[str, float]
) -> tuple[Float32[Tensor, ""], dict[str, Float32[Tensor, ""]]]:
    """Weighted sum of all losses, and each of them without gradient under its name and suffix."""
    total: Tensor | float = 0.0
    terms: dict[str, Tensor] = {}
    for group in groups:
        for name, values in group.losses.items():
            total = total + weights.get(name, 0.0) * values.sum()
            for suffix, value in zip(group.suffixes, values.detach().unbind(), strict=True):
                terms[name + suffix] = value
    return cast(Tensor, total), terms


def loss_weights(config: MdetrConfig) -> dict[str, float]:
    """Weights of the losses that are trained; terms without a weight are for logs only."""
    return {
        "loss_ce": config.class_loss_coefficient,
        "loss_bbox": config.bbox_loss_coefficient,
        "loss_giou": config.giou_loss_coefficient,
        "loss_contrastive_align": config.alignment_loss_coefficient,
        "loss_isfinal": config.referred_loss_coefficient,
        "loss_answer_total": config.answer_loss_coefficient,
        "loss_answer_type": config.answer_type_loss_coefficient,
        **{f"loss_answer_{name}": config.answer_loss_coefficient for name in config.answer_types or ()},
        "loss_mask": config.mask_loss_coefficient,
        "loss_dice": config.dice_loss_coefficient,
    }


@torch.no_grad()
def count_boxes(box_mask: Bool[Tensor, "batch boxes"]) -> Float32[Tensor, ""]:
    """Number of boxes per process, averaged over all processes, at least 1.

    Args:
        box_mask: (B, N) bool, true for the boxes of this process.

    Returns:
        A float32 scalar, the same on every process.
    """
    count = box_mask.sum().float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return count.clamp(min=1)


def _cost(
    stack: LayerPredictions, truth: Truth, config: MdetrConfig
) -> Float32[Tensor, "layers batch queries boxes"]:
    cost = matching_cost(
        stack.logits,
        stack.boxes,
        truth.token_targets,
        truth.targets["boxes"].float(),
        class_cost=config.class_cost,
        bbox_cost=config.bbox_cost,
        giou_cost=config.giou_cost,
    )
    if stack.query_padding is None:
        return cost
    return cost.masked_fill(stack.query_padding[None, :, :, None], NEVER)


def _detection_losses(
    part: QuerySet, truth: Truth, matches: Matches, config: MdetrConfig
) -> dict[str, Float32[Tensor, "layers"]]:
    boxes, layers = truth.targets["boxes"].float(), part.layers
    quality = matched_iou(layers.boxes, boxes, matches) if config.iou_aware_tokens else None
    ce = soft_token_loss(layers.logits, truth.token_targets, matches, config.eos_coefficient, quality)
    l1, giou = box_losses(layers.boxes, boxes, matches)
    num_pairs = truth.num_boxes * part.queries_per_box
    return {"loss_ce": ce / num_pairs, "loss_bbox": l1 / num_pairs, "loss_giou": giou / num_pairs}


def _alignment_losses(
    stack: LayerPredictions,
    token_embeddings: Float[Tensor, "batch tokens aligned"] | None,
    truth: Truth,
    matches: Matches,
    config: MdetrConfig,
) -> dict[str, Float32[Tensor, "layers"]]:
    if stack.query_embeddings is None or token_embeddings is None:
        return {}
    loss = alignment_loss(
        stack.query_embeddings,
        token_embeddings.float(),
        truth.targets["alignment_map"],
        matches,
        config.alignment_temperature,
    )
    return {"loss_contrastive_align": loss / truth.num_boxes}


def _referred_losses(
    stack: LayerPredictions, truth: Truth, matches: Matches
) -> dict[str, Float32[Tensor, "layers"]]:
    if stack.referred_logits is None:
        return {}
    boxes, box_mask = truth.targets["boxes"], truth.targets["box_mask"]

    # Without such targets the head still needs a gradient, for which DDP waits; the loss is zero
    is_referred = truth.targets.get("is_referred", torch.zeros_like(boxes[..., 0]))
    referred_mask = truth.targets.get("referred_mask", torch.zeros_like(box_mask[:, :1]).any(1))

    loss, accuracy = referred_loss(stack.referred_logits, is_referred.float(), referred_mask, matches)
    return {"loss_isfinal": loss / truth.num_boxes, "accuracy_isfinal": accuracy}


def _last_layer_losses(
    output: MdetrOutput, truth: Truth, matches: Matches, last_layer: int, config: MdetrConfig
) -> dict[str, Float32[Tensor, ""]]:
    """Losses that are computed once, not in every decoder layer: answers and masks."""
    targets = truth.targets
    losses: dict[str, Tensor] = {}
    if output.answer_logits is not None:
        logits = {name: values.float() for name, values in output.answer_logits.items()}
        # Texts without an answer have the id -1
        unknown = torch.full_like(targets["box_mask"][:, :1].sum(1), -1)
        losses |= answer_losses(
            logits,
            config.answer_types or (),
            targets.get("answer_type", unknown),
            targets.get("answer", unknown),
        )
    if output.pred_masks is not None and "masks" in targets:
        focal, dice = mask_losses(output.pred_masks.float(), targets["masks"], matches, last_layer)
        losses |= {"loss_mask": focal / truth.num_boxes, "loss_dice": dice / truth.num_boxes}
    return losses


def _stack_layers(output: MdetrOutput) -> LayerPredictions:
    return _stack([*(output.auxiliary_outputs or []), output])


def _stack(outputs: Sequence[MdetrOutput]) -> LayerPredictions:
    return LayerPredictions(
        logits=_required(_stack_field(outputs, lambda layer: layer.logits)),
        boxes=_required(_stack_field(outputs, lambda layer: layer.pred_boxes)),
        query_embeddings=_stack_field(outputs, lambda layer: layer.query_embeddings),
        referred_logits=_stack_field(outputs, lambda layer: layer.referred_logits),
        query_padding=outputs[-1].query_padding,
    )


def _stack_field(
    outputs: Sequence[MdetrOutput], field: Callable[[MdetrOutput], Tensor | None]
) -> Float32[Tensor, "layers *shape"] | None:
    tensors = [tensor for tensor in map(field, outputs) if tensor is not None]
    return torch.stack(tensors).float() if tensors else None


def _required(tensor: Float[Tensor, "*shape"] | None) -> Float[Tensor, "*shape"]:
    if tensor is None:
        raise InvalidInputError(
            "Expected logits and boxes in the model's output, got none; pass the output of its forward."
        )
    return tensor
