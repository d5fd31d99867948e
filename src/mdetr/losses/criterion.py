"""The weighted loss of a model's output, and its named terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch import distributed as dist

from mdetr.errors import InvalidInputError
from mdetr.losses.alignment import alignment_loss
from mdetr.losses.answers import answer_losses
from mdetr.losses.boxes import box_losses
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
class Truth:
    """What the texts of a batch should be answered with, made ready for the losses.

    targets: as given. token_targets: (B, N, T) float32. num_boxes: scalar, what the sums are divided by.
    """

    targets: Targets
    token_targets: Float32[Tensor, "batch boxes positions"]
    num_boxes: Float32[Tensor, ""]


def compute_loss(
    output: MdetrOutput, targets: Targets, config: MdetrConfig
) -> tuple[Float32[Tensor, ""], dict[str, Float32[Tensor, ""]]]:
    """Match queries with boxes in every decoder layer and add up the losses.

    Args:
        output: of the model; earlier decoder layers in `auxiliary_outputs`, and `proposals` if any.
        targets: the boxes of the texts, on the same device.
        config: the weights of the matching and of the losses, and which soft tokens to learn.

    Returns:
        The weighted sum over all layers, with gradient; and its parts, unweighted and without gradient, under
        the published names: `loss_ce` of the last layer, `loss_ce_0` of the first, `loss_ce_proposals`.

    Raises:
        TrainingError: the predictions are not finite.
        InvalidInputError: the targets were made for another number of token positions.

    Source: arXiv 2104.12763, section 2.2.2.
    """
    logits = _required(output.logits)
    with torch.autocast(logits.device.type, enabled=False):
        return _compute_loss(output, targets, config)


def _compute_loss(
    output: MdetrOutput, targets: Targets, config: MdetrConfig
) -> tuple[Float32[Tensor, ""], dict[str, Float32[Tensor, ""]]]:
    decoder = _stack([*(output.auxiliary_outputs or []), output])
    positions = targets["positive_map"].shape[-1]
    if positions != decoder.logits.shape[-1]:
        raise InvalidInputError(
            f"Expected targets over the model's {decoder.logits.shape[-1]} token positions, found "
            f"{positions}: make them with the processor that belongs to this model."
        )
    truth = Truth(
        targets=targets,
        token_targets=token_targets(targets["positive_map"], cast(TokenTargets, config.token_targets)),
        num_boxes=count_boxes(targets["box_mask"]),
    )
    stacks, copies, names = [decoder], [1], [_decoder_names(len(decoder.logits))]
    if output.proposals is not None:
        stacks.append(_stack([output.proposals]))
        copies.append(config.proposal_targets_per_box)
        names.append(["_proposals"])
    costs = [_cost(stack, truth, config) for stack in stacks]
    matches = assign(costs, targets["box_mask"], copies)

    parts = [
        _detection_losses(stack, truth, found, truth.num_boxes * k, config.eos_coefficient)
        for stack, found, k in zip(stacks, matches, copies, strict=True)
    ]
    parts[0] |= {"cardinality_error": cardinality_error(decoder.logits, targets["box_mask"])}
    parts[0] |= _alignment_losses(decoder, output.token_embeddings, truth, matches[0], config)
    parts[0] |= _referred_losses(decoder, truth, matches[0])
    last = _last_layer_losses(output, truth, matches[0], len(decoder.logits) - 1, config)
    parts.append({name: value[None] for name, value in last.items()})
    names.append([""])

    weights = loss_weights(config)
    loss = sum(weights.get(name, 0.0) * values.sum() for part in parts for name, values in part.items())
    return cast(Tensor, loss), {
        name + suffix: value
        for part, suffixes in zip(parts, names, strict=True)
        for name, values in part.items()
        for suffix, value in zip(suffixes, values.detach().unbind(), strict=True)
    }


def loss_weights(config: MdetrConfig) -> dict[str, float]:
    """Name the losses that are trained, with their weights; whatever else is reported is for logs only."""
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
    """Count the boxes of all processes over the number of processes, at least 1.

    Args:
        box_mask: (B, N) bool, true where this process has a box.

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
    stack: LayerPredictions,
    truth: Truth,
    matches: Matches,
    normalizer: Float32[Tensor, ""],
    eos_coefficient: float,
) -> dict[str, Float32[Tensor, "layers"]]:
    l1, giou = box_losses(stack.boxes, truth.targets["boxes"].float(), matches)
    ce = soft_token_loss(stack.logits, truth.token_targets, matches, eos_coefficient)
    return {"loss_ce": ce / normalizer, "loss_bbox": l1 / normalizer, "loss_giou": giou / normalizer}


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
    # Where no text says what it denotes, the head still takes part, with a loss of zero: DDP waits for it.
    is_referred = truth.targets.get("is_referred", torch.zeros_like(boxes[..., 0]))
    referred_mask = truth.targets.get("referred_mask", torch.zeros_like(box_mask[:, :1]).any(1))
    loss, accuracy = referred_loss(stack.referred_logits, is_referred.float(), referred_mask, matches)
    return {"loss_isfinal": loss / truth.num_boxes, "accuracy_isfinal": accuracy}


def _last_layer_losses(
    output: MdetrOutput, truth: Truth, matches: Matches, last_layer: int, config: MdetrConfig
) -> dict[str, Float32[Tensor, ""]]:
    """What is learnt once, not in every decoder layer: answers and masks."""
    targets, found = truth.targets, dict[str, Tensor]()
    if output.answer_logits is not None:
        logits = {name: values.float() for name, values in output.answer_logits.items()}
        unknown = torch.full_like(targets["box_mask"][:, :1].sum(1), -1)
        found |= answer_losses(
            logits,
            config.answer_types or (),
            targets.get("answer_type", unknown),
            targets.get("answer", unknown),
        )
    if output.pred_masks is not None and "masks" in targets:
        focal, dice = mask_losses(output.pred_masks.float(), targets["masks"], matches, last_layer)
        found |= {"loss_mask": focal / truth.num_boxes, "loss_dice": dice / truth.num_boxes}
    return found


def _decoder_names(num_layers: int) -> list[str]:
    return [*(f"_{layer}" for layer in range(num_layers - 1)), ""]


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
        raise InvalidInputError("Expected the model's logits and boxes in its output, found none.")
    return tensor
