"""MDETR: images and texts in; boxes, and the words that each belongs to, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from mdetr.model.backbone import Backbone
from mdetr.model.config import MdetrConfig
from mdetr.model.heads import BoxHead, make_token_head
from mdetr.model.interface import MdetrOutput, Targets
from mdetr.model.position import grid_encoding
from mdetr.model.queries import LearnedQueries, ProposalHead, Queries, ReferenceQueries
from mdetr.model.text import TextProjection, make_text_encoder
from mdetr.model.transformer import DecoderLayer, EncoderLayer


@dataclass(frozen=True)
class ImageFeatures:
    """What `encode_image` knows of I images; it does not depend on any text.

    sequence: (I, h * w, C) projected features. positions: (I, h * w, C) their sine encoding.
    map_padding: (I, h, w) bool, true on padding.
    """

    sequence: Tensor
    positions: Tensor
    map_padding: Tensor

    def select(self, index: Tensor) -> ImageFeatures:
        """The features of image `index[b]` for each text b: index (B,) int64."""
        return ImageFeatures(self.sequence[index], self.positions[index], self.map_padding[index])


@dataclass(frozen=True)
class TextFeatures:
    """What `encode_text` knows of B texts; it does not depend on any image.

    sequence: (B, L, C) projected features. padding: (B, L) bool, true on padding.
    """

    sequence: Tensor
    padding: Tensor

    def select(self, index: Tensor) -> TextFeatures:
        """The features of text `index[b]` for each pair b: index (B,) int64."""
        return TextFeatures(self.sequence[index], self.padding[index])


class MdetrModel(PreTrainedModel):
    """The modulated detector, as a Hugging Face model.

    Source: arXiv 2104.12763, section 3.
    """

    config_class = MdetrConfig
    base_model_prefix = "mdetr"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]  # noqa: RUF012 (the base class's own form)

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.backbone = Backbone(config)
        self.input_projection = nn.Conv2d(self.backbone.channels, size, kernel_size=1)
        self.image_norm = nn.LayerNorm(size) if config.image_norm else nn.Identity()
        text_config = cast(PreTrainedConfig, config.text_config)
        self.text_encoder = make_text_encoder(text_config)
        self.text_projection = TextProjection(text_config.hidden_size, size, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(size) if config.transformer_norm == "pre" else nn.Identity()
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(size)
        self.queries = (ReferenceQueries if config.query_type == "reference" else LearnedQueries)(config)
        self.proposal_head = ProposalHead(config) if config.proposals else None
        self.token_head = make_token_head(config)
        self.box_head = BoxHead(config)
        aligned = config.alignment_size
        self.query_alignment = nn.Linear(size, aligned) if aligned else None
        self.token_alignment = nn.Linear(size, aligned) if aligned else None
        self.referred_head = nn.Linear(size, 1) if config.predict_referred else None
        moving = [head for head in self.modules() if isinstance(head, BoxHead)]
        self._box_outputs = {h.layers[-1] for h in moving} if config.query_type == "reference" else set()
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        targets: Targets | None = None,
        image_index: Tensor | None = None,
    ) -> MdetrOutput:
        """Find in each text's image what the text speaks of.

        Args:
            pixel_values: (I, 3, H, W) float, normalised.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding.
            input_ids, attention_mask: (B, L) int64.
            targets: what to compute the losses against; see `Targets`.
            image_index: (B,) int64, the image that each text speaks of, where several texts share one;
                left out, text b speaks of image b.
        """
        images = self.encode_image(pixel_values, pixel_mask)
        texts = self.encode_text(input_ids, attention_mask)
        output = self.fuse(images if image_index is None else images.select(image_index), texts)
        if targets is not None:
            output.loss, output.losses = self.loss_function(output, targets, self.config)
        return output

    def encode_image(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """Images (I, 3, H, W) and mask (I, H, W; 1 = image) -> features that any text can be fused with."""
        features = self.input_projection(self.backbone(pixel_values))  # (I, C, h, w)
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0])
        padding = (pixel_mask == 0).float()[:, None]
        map_padding = F.interpolate(padding, size=features.shape[-2:])[:, 0].to(torch.bool)
        sequence = self.image_norm(features.flatten(2).transpose(1, 2))
        positions = grid_encoding(map_padding, self.config.hidden_size).to(sequence.dtype)
        return ImageFeatures(sequence, positions, map_padding)

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> TextFeatures:
        """Token ids (B, L) and their mask (1 = token) -> features that any image can be fused with."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return TextFeatures(self.text_projection(hidden), attention_mask == 0)

    def fuse(self, images: ImageFeatures, texts: TextFeatures) -> MdetrOutput:
        """Joint encoder, decoder and heads on B pairs of image and text features."""
        sequence = torch.cat((images.sequence, texts.sequence), dim=1)
        positions = torch.cat((images.positions, torch.zeros_like(texts.sequence)), dim=1)
        padding = torch.cat((images.map_padding.flatten(1), texts.padding), dim=1)
        for layer in self.encoder:
            sequence = layer(sequence, positions, padding)
        sequence = self.encoder_norm(sequence)
        image_memory, text_memory = sequence.split((images.sequence.shape[1], texts.sequence.shape[1]), dim=1)
        proposals = None
        if self.proposal_head is not None:
            proposals = self.proposal_head(image_memory, text_memory, texts.padding, images.map_padding)
        outputs = [
            self._heads(hidden, boxes, text_memory, texts.padding)
            for hidden, boxes in self._decode(
                self.queries(image_memory, proposals), sequence, sequence + positions, padding
            )
        ]
        final = outputs[-1]
        final.proposals = proposals
        if self.config.auxiliary_loss:
            final.auxiliary_outputs = outputs[:-1]
        return final

    def _decode(
        self, queries: Queries, memory: Tensor, memory_keys: Tensor, padding: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Each decoder layer's normalised queries (B, Q, C) and their boxes (B, Q, 4)."""
        target, positions, references = queries
        results = []
        for layer in self.decoder:
            if references is not None:
                positions = self.queries.encode(references)
            target = layer(target, positions, memory, memory_keys, padding)
            hidden = self.decoder_norm(target)
            boxes = self.box_head(hidden, references)
            if references is not None:
                references = boxes.detach()
            results.append((hidden, boxes))
        return results

    def _heads(self, hidden: Tensor, boxes: Tensor, text_memory: Tensor, text_padding: Tensor) -> MdetrOutput:
        output = MdetrOutput(logits=self.token_head(hidden, text_memory, text_padding), pred_boxes=boxes)
        if self.query_alignment is not None and self.token_alignment is not None:
            output.query_embeddings = F.normalize(self.query_alignment(hidden), dim=-1)
            output.token_embeddings = F.normalize(self.token_alignment(text_memory), dim=-1)
        if self.referred_head is not None:
            output.referred_logits = self.referred_head(hidden)[..., 0]
        return output

    def _init_weights(self, module: nn.Module) -> None:
        """DETR's start values: Xavier for linear layers, Kaiming for convolutions, normal for embeddings."""
        if isinstance(module, nn.Linear):
            if module in self._box_outputs:  # boxes start as their references
                init.zeros_(module.weight)
            else:
                init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=1.0)
        else:
            super()._init_weights(module)
