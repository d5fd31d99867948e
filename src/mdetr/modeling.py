"""`MdetrForObjectDetection`: the MDETR model with all its heads and its loss."""

from __future__ import annotations

from jaxtyping import Bool, Float, Float32, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForZeroShotObjectDetection

from mdetr.losses import compute_loss
from mdetr.model.answers import AnswerHeads
from mdetr.model.config import MdetrConfig
from mdetr.model.features import ImageFeatures, TextFeatures
from mdetr.model.heads import BoxHead, make_token_head
from mdetr.model.interface import MdetrModelOutput, MdetrOutput, Targets
from mdetr.model.masks import MaskAttention, MaskHead
from mdetr.model.mdetr import MdetrPreTrainedModel


class MdetrForObjectDetection(MdetrPreTrainedModel):
    """The modulated detector with all heads of its configuration, and its loss.

    Source: arXiv 2104.12763, sections 3 and 4.
    """

    answers: AnswerHeads | None

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        size, aligned = config.hidden_size, config.alignment_size
        self.token_head = make_token_head(config)
        self.box_head = BoxHead(config)
        self.query_alignment = nn.Linear(size, aligned) if aligned else None
        self.token_alignment = nn.Linear(size, aligned) if aligned else None
        self.referred_head = nn.Linear(size, 1) if config.predict_referred else None
        self.answers = AnswerHeads(config) if config.answer_queries else None
        self.mask_attention = MaskAttention(config) if config.predict_masks else None
        self.mask_head = MaskHead(config, self.backbone.fine_channels) if config.predict_masks else None
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "images 3 height width"],
        pixel_mask: Shaped[Tensor, "images height width"] | None = None,
        input_ids: Int[Tensor, "batch tokens"] | None = None,
        attention_mask: Shaped[Tensor, "batch tokens"] | None = None,
        targets: Targets | None = None,
        image_index: Int[Tensor, "batch"] | None = None,
        return_loss: bool = True,
        token_type_ids: Int[Tensor, "batch tokens"] | None = None,
    ) -> MdetrOutput:
        """Detect in each text's image what the text mentions.

        Args:
            pixel_values: (I, 3, H, W) float, normalized; cast to the dtype of the weights.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding; no padding if omitted.
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding; no padding if omitted.
            targets: Targets of the losses; see `Targets`.
            image_index: (B,) int64, the image of each text, if several texts share one; image b for text b
                if omitted.
            return_loss: Whether to compute the loss if there are targets.
            token_type_ids: Ignored; some tokenizers return it.

        Returns:
            Predictions, and the loss if there are targets.

        Raises:
            InvalidInputError: There is no text, or the targets do not fit the model.
            TrainingError: There are targets, and the predictions are not finite.
        """
        images, texts = self.encode_pairs(pixel_values, pixel_mask, input_ids, attention_mask, image_index)
        output = self.fuse(images, texts, targets)
        output.input_ids = input_ids
        if targets is not None and return_loss:
            output.loss, output.losses = compute_loss(output, targets, self.config)
        return output

    def fuse(self, images: ImageFeatures, texts: TextFeatures, targets: Targets | None = None) -> MdetrOutput:
        """Run the joint encoder, the decoder and the heads on B pairs of image and text features.

        Args:
            images: Features of the image of each text.
            texts: Features of B texts.
            targets: Targets of the texts in training, for the denoising queries.

        Returns:
            Predictions.
        """
        decoded = self.run_transformer(images, texts, targets)
        image_memory, text_memory = (
            decoded.encoder_last_hidden_state_vision,
            decoded.encoder_last_hidden_state_text,
        )
        assert image_memory is not None and text_memory is not None

        # Apply the heads to the queries, and to the extra ones of the training
        final = self._read_layers(decoded, text_memory, texts.padding)
        final.proposals = decoded.proposals
        if decoded.one_to_many is not None:
            final.one_to_many = self._read_layers(decoded.one_to_many, text_memory, texts.padding)
        if decoded.denoising is not None:
            final.denoising = self._read_layers(decoded.denoising, text_memory, texts.padding)

        # Classify answers from one layer, and predict masks from the last
        final.answer_logits = self._read_answers(decoded)
        if self.mask_attention is not None and self.mask_head is not None:
            assert decoded.last_hidden_state is not None
            attention = self.mask_attention(decoded.last_hidden_state, image_memory, images.map_padding)
            features = images.sequence.transpose(1, 2).unflatten(-1, images.map_padding.shape[-2:])
            final.pred_masks = self.mask_head(features, attention, images.fine_maps)
        return final

    def _read_layers(
        self,
        decoded: MdetrModelOutput,
        text_memory: Float[Tensor, "batch tokens hidden"],
        text_padding: Bool[Tensor, "batch tokens"],
    ) -> MdetrOutput:
        """Predictions of the last decoder layer, and of earlier ones in `auxiliary_outputs`."""
        hidden_states, boxes = decoded.intermediate_hidden_states, decoded.intermediate_boxes
        assert hidden_states is not None and boxes is not None  # the model has a box head
        *earlier, final = (
            self._read_layer(hidden, layer_boxes, text_memory, text_padding)
            for hidden, layer_boxes in zip(hidden_states, boxes, strict=True)
        )
        if self.config.auxiliary_loss:
            final.auxiliary_outputs = earlier
        return final

    def _read_layer(
        self,
        hidden: Float[Tensor, "batch queries hidden"],
        boxes: Float32[Tensor, "batch queries 4"],
        text_memory: Float[Tensor, "batch tokens hidden"],
        text_padding: Bool[Tensor, "batch tokens"],
    ) -> MdetrOutput:
        output = MdetrOutput(logits=self.token_head(hidden, text_memory, text_padding), pred_boxes=boxes)
        if self.query_alignment is not None and self.token_alignment is not None:
            output.query_embeddings = F.normalize(self.query_alignment(hidden), dim=-1)
            output.token_embeddings = F.normalize(self.token_alignment(text_memory), dim=-1)
        if self.referred_head is not None:
            output.referred_logits = self.referred_head(hidden)[..., 0]
        return output

    def _read_answers(self, decoded: MdetrModelOutput) -> dict[str, Float[Tensor, "batch _"]] | None:
        if self.answers is None:
            return None
        assert decoded.answer_hidden_states is not None and decoded.intermediate_hidden_states is not None
        layer = self.config.answer_layer
        return self.answers(decoded.answer_hidden_states[layer], decoded.intermediate_hidden_states[layer])


AutoModelForZeroShotObjectDetection.register(MdetrConfig, MdetrForObjectDetection, exist_ok=True)
