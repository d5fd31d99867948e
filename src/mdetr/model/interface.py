"""Types of the model's targets and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NotRequired, TypedDict

from jaxtyping import Bool, Float, Float32, Int
from transformers.utils import ModelOutput

from mdetr.model.tensors import Tensor


class Targets(TypedDict):
    """Targets of a batch of B texts, padded to the N boxes of the text that has most.

    boxes: (B, N, 4) float32, center x, center y, width, height, relative to each unpadded image.
    box_mask: (B, N) bool, true where there is a box, false on padding.
    positive_map: (B, N, 256) bool, the token positions of each box's phrase, for the soft token loss.
    alignment_map: (B, N, L) bool, the same over the L tokens of the batch, without the fallbacks for
        spans that begin or end between tokens.
    is_referred: (B, N) float32, 1 for a box that the text as a whole refers to, else 0.
    referred_mask: (B,) bool, true for texts that state which boxes they refer to.
    answer_type, answer: (B,) int64, the id of each question's answer type (0 with one head)
        and of its answer within that type; -1 for texts without an answer.
    masks: (B, N, H, W) bool, padded like the images.
    """

    boxes: Float[Tensor, "batch boxes 4"]
    box_mask: Bool[Tensor, "batch boxes"]
    positive_map: Bool[Tensor, "batch boxes positions"]
    alignment_map: Bool[Tensor, "batch boxes tokens"]
    is_referred: NotRequired[Float[Tensor, "batch boxes"]]
    referred_mask: NotRequired[Bool[Tensor, "batch"]]
    answer_type: NotRequired[Int[Tensor, "batch"]]
    answer: NotRequired[Int[Tensor, "batch"]]
    masks: NotRequired[Bool[Tensor, "batch boxes height width"]]


@dataclass
class MdetrModelOutput(ModelOutput):
    """Output of the decoder for B texts and their images, before any head.

    Attributes:
        last_hidden_state: (B, Q, C), the queries after the last decoder layer, normalized.
        intermediate_hidden_states: For each decoder layer (B, Q, C); the last is `last_hidden_state`.
        intermediate_boxes: For each decoder layer (B, Q, 4) float32, the boxes after the layer,
            center x, center y, width, height, relative to each unpadded image; None for the base model with
            learned queries, which have no boxes without a head.
        answer_hidden_states: For each decoder layer (B, n, C), the n queries for answers; None without them.
        encoder_last_hidden_state_vision: (B, P, C), the P = h * w positions of the image in the joint memory.
        encoder_last_hidden_state_text: (B, L, C), the L tokens of the text in the joint memory.
        proposals: Proposals of the joint memory, one query for each of P positions; None without them.
        one_to_many: Output of the extra queries for one-to-many matching; None except in training.
        denoising: Output of the extra queries that start from boxes with noise; None except in training.
    """

    last_hidden_state: Float[Tensor, "batch queries hidden"] | None = None
    intermediate_hidden_states: tuple[Float[Tensor, "batch queries hidden"], ...] | None = None
    intermediate_boxes: tuple[Float32[Tensor, "batch queries 4"], ...] | None = None
    answer_hidden_states: tuple[Float[Tensor, "batch answer_queries hidden"], ...] | None = None
    encoder_last_hidden_state_vision: Float[Tensor, "batch cells hidden"] | None = None
    encoder_last_hidden_state_text: Float[Tensor, "batch tokens hidden"] | None = None
    proposals: MdetrOutput | None = None
    one_to_many: MdetrModelOutput | None = None
    denoising: MdetrModelOutput | None = None

    @property
    def pred_boxes(self) -> Float32[Tensor, "batch queries 4"]:
        """Boxes after the last decoder layer, (B, Q, 4) float32.

        Raises:
            AttributeError: The base model has no boxes, because its queries are learned.
        """
        if self.intermediate_boxes is None:
            raise AttributeError(
                "This MdetrModel has no boxes without its heads: load it with MdetrForObjectDetection or "
                "AutoModelForZeroShotObjectDetection."
            )
        return self.intermediate_boxes[-1]


@dataclass
class MdetrOutput(ModelOutput):
    """Predictions of Q queries for each of B texts. Fields that a configuration lacks are None.

    Attributes:
        loss: Scalar, the weighted sum of `losses`; None without targets.
        losses: Name -> scalar, under the released names (`loss_ce`, `loss_bbox_0`, ...).
        logits: (B, Q, 256) over token positions; the last position is "no object".
        pred_boxes: (B, Q, 4) float32, center x, center y, width, height, relative to each unpadded image.
        query_embeddings: (B, Q, 64), unit length.
        token_embeddings: (B, L, 64), unit length.
        referred_logits: (B, Q), whether the text as a whole refers to the box.
        answer_logits: Name -> (B, n); names: type, obj, rel, attr, cat, global, binary, reg; or answer.
        pred_masks: (B, Q, h, w) logits, an eighth of the backbone's stride.
        query_padding: (B, Q) bool, true for proposals on the padding of an image, which are never matched;
            None for decoder queries.
        auxiliary_outputs: Outputs of the earlier decoder layers, first to last.
        proposals: Proposals of the joint memory, one query per image position (an option that released
            models do not use).
        one_to_many: Predictions of the extra queries for one-to-many matching; None except in training.
        denoising: Predictions of the extra queries that start from boxes with noise; None except in training.
        input_ids: (B, L) int64, the tokens as given, which post-processing decodes.
    """

    loss: Float[Tensor, ""] | None = None
    losses: dict[str, Float[Tensor, ""]] | None = None
    logits: Float[Tensor, "batch queries positions"] | None = None
    pred_boxes: Float[Tensor, "batch queries 4"] | None = None
    query_embeddings: Float[Tensor, "batch queries aligned"] | None = None
    token_embeddings: Float[Tensor, "batch tokens aligned"] | None = None
    referred_logits: Float[Tensor, "batch queries"] | None = None
    answer_logits: dict[str, Float[Tensor, "batch _"]] | None = None
    pred_masks: Float[Tensor, "batch queries mask_height mask_width"] | None = None
    query_padding: Bool[Tensor, "batch queries"] | None = None
    auxiliary_outputs: list[MdetrOutput] | None = None
    proposals: MdetrOutput | None = None
    one_to_many: MdetrOutput | None = None
    denoising: MdetrOutput | None = None
    input_ids: Int[Tensor, "batch tokens"] | None = None
