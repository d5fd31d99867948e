"""MDETR: images and texts in; boxes, and the words that each belongs to, out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from mdetr.files import give_ordinary_permissions
from mdetr.model.answers import AnswerHeads
from mdetr.model.backbone import Backbone
from mdetr.model.config import MdetrConfig
from mdetr.model.heads import BoxHead, make_token_head
from mdetr.model.interface import MdetrOutput, Targets
from mdetr.model.masks import MaskAttention, MaskHead
from mdetr.model.position import grid_encoding
from mdetr.model.queries import LearnedQueries, ProposalHead, Queries, ReferenceQueries
from mdetr.model.text import TextProjection, make_text_encoder
from mdetr.model.transformer import DecoderLayer, EncoderLayer


@dataclass(frozen=True)
class ImageFeatures:
    """What `encode_image` knows of I images; it does not depend on any text.

    sequence: (I, h * w, C) projected features. positions: (I, h * w, C) their sine encoding.
    map_padding: (I, h, w) bool, true on padding. fine_maps: finer features of the backbone, coarse to fine,
    where the model predicts masks.
    """

    sequence: Tensor
    positions: Tensor
    map_padding: Tensor
    fine_maps: tuple[Tensor, ...] = ()

    def select(self, index: Tensor) -> ImageFeatures:
        """The features of image `index[b]` for each text b: index (B,) int64."""
        return ImageFeatures(
            self.sequence[index],
            self.positions[index],
            self.map_padding[index],
            tuple(features[index] for features in self.fine_maps),
        )


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
        coarse = self.backbone.coarse_channels
        self.coarse_projection = nn.Conv2d(coarse, size, kernel_size=1) if coarse else None
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
        self.answers = AnswerHeads(config) if config.answer_queries else None
        self.mask_attention = MaskAttention(config) if config.predict_masks else None
        self.mask_head = MaskHead(config, self.backbone.fine_channels) if config.predict_masks else None
        moving = [head for head in self.modules() if isinstance(head, BoxHead)]
        self._box_outputs = {h.layers[-1] for h in moving} if config.query_type == "reference" else set()
        self.post_init()
        self._fix_parameters()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a model as `PreTrainedModel` does; what the configuration fixes does not train."""
        loaded = super().from_pretrained(*args, **kwargs)
        # Loading puts new parameters in place, all of which would train.
        (loaded[0] if isinstance(loaded, tuple) else loaded)._fix_parameters()
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the model as `PreTrainedModel` does, with the usual permissions of its files."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            for weights in Path(save_directory).glob("*.safetensors"):
                give_ordinary_permissions(weights)

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's, as `PreTrainedModel` wants (sharding asks for them)."""
        return self.text_encoder.get_input_embeddings()

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        super()._set_gradient_checkpointing(enable, *args, **kwargs)
        self.backbone.body.set_grad_checkpointing(enable)  # timm has its own

    def _fix_parameters(self) -> None:
        self.backbone.fix_stages()
        if self.config.freeze_detector:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith(("mask_head.", "mask_attention.")))

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        targets: Targets | None = None,
        image_index: Tensor | None = None,
        return_loss: bool = True,
    ) -> MdetrOutput:
        """Find in each text's image what the text speaks of.

        Args:
            pixel_values: (I, 3, H, W) float, normalised; cast to the weights' own dtype.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding.
            input_ids, attention_mask: (B, L) int64.
            targets: what to compute the losses against; see `Targets`.
            image_index: (B,) int64, the image that each text speaks of, where several texts share one;
                left out, text b speaks of image b.
            return_loss: Whether to compute the loss where there are targets.
        """
        images = self.encode_image(pixel_values, pixel_mask)
        texts = self.encode_text(input_ids, attention_mask)
        output = self.fuse(images if image_index is None else images.select(image_index), texts)
        if targets is not None and return_loss:
            output.loss, output.losses = self.loss_function(output, targets, self.config)
        return output

    def encode_image(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> ImageFeatures:
        """Images (I, 3, H, W) and mask (I, H, W; 1 = image) -> features that any text can be fused with."""
        maps = self.backbone(pixel_values.to(self.dtype))
        coarsest = maps.pop(0) if self.coarse_projection is not None else None
        features = self.input_projection(maps.pop(0))  # (I, C, h, w)
        if self.coarse_projection is not None and coarsest is not None:
            features = features + F.interpolate(self.coarse_projection(coarsest), size=features.shape[-2:])
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0])
        padding = (pixel_mask == 0).float()[:, None]
        map_padding = F.interpolate(padding, size=features.shape[-2:])[:, 0].to(torch.bool)
        sequence = self.image_norm(features.flatten(2).transpose(1, 2))
        positions = grid_encoding(map_padding, self.config.hidden_size).to(sequence.dtype)
        return ImageFeatures(sequence, positions, map_padding, tuple(maps))

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
        layers = self._decode(self.queries(image_memory, proposals), sequence, sequence + positions, padding)
        outputs = [self._heads(found, boxes, text_memory, texts.padding) for found, boxes, _ in layers]
        final = outputs[-1]
        final.proposals = proposals
        if self.answers is not None:
            found, _, asking = layers[self.config.answer_layer]
            final.answer_logits = self.answers(asking, found)
        if self.mask_attention is not None and self.mask_head is not None:
            attention = self.mask_attention(layers[-1][0], image_memory, images.map_padding)
            features = images.sequence.transpose(1, 2).unflatten(-1, images.map_padding.shape[-2:])
            final.pred_masks = self.mask_head(features, attention, images.fine_maps)
        if self.config.auxiliary_loss:
            final.auxiliary_outputs = outputs[:-1]
        return final

    def _decode(
        self, queries: Queries, memory: Tensor, memory_keys: Tensor, padding: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Each decoder layer's normalised queries (B, Q, C), their boxes (B, Q, 4) and those for answers."""
        target, positions, references = queries
        num_queries = target.shape[1]
        asking = target[:, :0]
        if self.answers is not None:
            asking = self.answers.positions.weight.to(target.dtype).expand(len(target), -1, -1)
            target = torch.cat((target, torch.zeros_like(asking)), dim=1)
        results = []
        for layer in self.decoder:
            if references is not None:
                positions = self.queries.encode(references)
            places = torch.cat((cast(Tensor, positions), asking), dim=1)
            target = layer(target, places, memory, memory_keys, padding)
            hidden = self.decoder_norm(target)
            found, answering = hidden[:, :num_queries], hidden[:, num_queries:]
            boxes = self.box_head(found, references)
            if references is not None:
                references = boxes.detach()
            results.append((found, boxes, answering))
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


AutoModel.register(MdetrConfig, MdetrModel, exist_ok=True)
