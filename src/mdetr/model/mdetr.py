"""`MdetrModel`: MDETR without heads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from mdetr.errors import InvalidInputError
from mdetr.files import give_ordinary_permissions
from mdetr.model.answers import AnswerQueries
from mdetr.model.backbone import Backbone
from mdetr.model.config import MdetrConfig
from mdetr.model.features import ImageFeatures, TextFeatures
from mdetr.model.heads import BoxHead
from mdetr.model.interface import MdetrModelOutput, Targets
from mdetr.model.position import grid_encoding
from mdetr.model.queries import (
    DenoisingQueries,
    LearnedQueries,
    ProposalHead,
    Queries,
    ReferenceQueries,
    query_mask,
)
from mdetr.model.text import TextProjection, make_text_encoder
from mdetr.model.transformer import DecoderLayer, EncoderLayer


class MdetrPreTrainedModel(PreTrainedModel):
    """Layers that both models share: backbone, text encoder, joint encoder, decoder and its queries.

    A subclass adds the heads and then calls `post_init`. Its `box_head` refines the boxes of reference
    queries in each layer; its `answers` holds the queries for answers.

    Source: arXiv 2104.12763, section 3.
    """

    config_class = MdetrConfig
    base_model_prefix = "mdetr"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["EncoderLayer", "DecoderLayer"]  # noqa: RUF012 (the base class's own form)

    config: MdetrConfig
    box_head: BoxHead | None
    answers: AnswerQueries | None

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        size = config.hidden_size

        # Image features
        self.backbone = Backbone(config)
        self.input_projection = nn.Conv2d(self.backbone.channels, size, kernel_size=1)
        coarse = self.backbone.coarse_channels
        self.coarse_projection = nn.Conv2d(coarse, size, kernel_size=1) if coarse else None
        self.image_norm = nn.LayerNorm(size) if config.image_norm else nn.Identity()

        # Text features
        text_config = cast(PreTrainedConfig, config.text_config)
        self.text_encoder = make_text_encoder(text_config)
        self.text_projection = TextProjection(text_config.hidden_size, size, config.dropout)

        # Joint transformer and its queries
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(size) if config.transformer_norm == "pre" else nn.Identity()
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(size)
        self.queries = (ReferenceQueries if config.query_type == "reference" else LearnedQueries)(config)
        self.proposal_head = ProposalHead(config) if config.proposals else None
        self.denoising_queries = DenoisingQueries(config) if config.denoising_groups else None

    def post_init(self) -> None:
        """Initialize the weights, and freeze those that do not train, after all layers are made."""
        moving = [head for head in self.modules() if isinstance(head, BoxHead)]
        self._box_outputs = {h.layers[-1] for h in moving} if self.config.query_type == "reference" else set()
        super().post_init()
        self._fix_parameters()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a model as `PreTrainedModel` does, and freeze what the configuration names."""
        loaded = super().from_pretrained(*args, **kwargs)
        # Loading replaces the parameters, and the new ones would all train
        (loaded[0] if isinstance(loaded, tuple) else loaded)._fix_parameters()
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the model as `PreTrainedModel` does, with the usual permissions of its files."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            for weights in Path(save_directory).glob("*.safetensors"):
                give_ordinary_permissions(weights)

    def get_input_embeddings(self) -> nn.Module:
        """Embeddings of the text encoder, which sharding uses."""
        return self.text_encoder.get_input_embeddings()

    def _set_gradient_checkpointing(self, enable: bool = True, *args: Any, **kwargs: Any) -> None:
        super()._set_gradient_checkpointing(enable, *args, **kwargs)
        self.backbone.set_gradient_checkpointing(enable)

    def _fix_parameters(self) -> None:
        self.backbone.fix_stages()
        if self.config.freeze_detector:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith(("mask_head.", "mask_attention.")))

    def encode_image(
        self,
        pixel_values: Float[Tensor, "images 3 height width"],
        pixel_mask: Shaped[Tensor, "images height width"] | None = None,
    ) -> ImageFeatures:
        """Encode images once; the features can be fused with any text.

        Args:
            pixel_values: (I, 3, H, W) float, normalized; cast to the dtype of the weights.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding; no padding if omitted.

        Returns:
            Features of the images.
        """
        # Project the feature map of the backbone
        maps = self.backbone(pixel_values.to(self.dtype))
        coarsest = maps.pop(0) if self.coarse_projection is not None else None
        features = self.input_projection(maps.pop(0))  # (I, C, h, w)
        if self.coarse_projection is not None and coarsest is not None:
            features = features + F.interpolate(self.coarse_projection(coarsest), size=features.shape[-2:])

        # Resize the padding to the map
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0])
        padding = (pixel_mask == 0).float()[:, None]
        map_padding = F.interpolate(padding, size=features.shape[-2:])[:, 0].to(torch.bool)

        # Flatten the map to a sequence
        sequence = self.image_norm(features.flatten(2).transpose(1, 2))
        positions = grid_encoding(map_padding, self.config.hidden_size).to(sequence.dtype)
        return ImageFeatures(sequence, positions, map_padding, tuple(maps))

    def encode_text(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Shaped[Tensor, "batch tokens"] | None = None,
    ) -> TextFeatures:
        """Encode texts once; the features can be fused with any image.

        Args:
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding; no padding if omitted.

        Returns:
            Features of the texts.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return TextFeatures(self.text_projection(hidden), attention_mask == 0)

    def encode_pairs(
        self,
        pixel_values: Float[Tensor, "images 3 height width"],
        pixel_mask: Shaped[Tensor, "images height width"] | None,
        input_ids: Int[Tensor, "batch tokens"] | None,
        attention_mask: Shaped[Tensor, "batch tokens"] | None,
        image_index: Int[Tensor, "batch"] | None,
    ) -> tuple[ImageFeatures, TextFeatures]:
        """Encode the arguments of `forward`.

        Args:
            pixel_values: (I, 3, H, W) float, normalized.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding; no padding if None.
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding; no padding if None.
            image_index: (B,) int64, the image of each text; image b for text b if None.

        Returns:
            Features of the images and of the texts of B pairs.

        Raises:
            InvalidInputError: There is no text.
        """
        if input_ids is None:
            raise InvalidInputError(
                "MDETR finds what a text mentions; give input_ids, which the processor makes."
            )
        # Texts first: transformers reads the mask back, and would wait for all that a GPU has to do before
        texts = self.encode_text(input_ids, attention_mask)
        images = self.encode_image(pixel_values, pixel_mask)
        return images if image_index is None else images.select(image_index), texts

    def run_transformer(
        self, images: ImageFeatures, texts: TextFeatures, targets: Targets | None = None
    ) -> MdetrModelOutput:
        """Run the joint encoder and decoder on B pairs of image and text features.

        Args:
            images: Features of the image of each text.
            texts: Features of B texts.
            targets: Targets of the texts in training, for the denoising queries.

        Returns:
            Hidden states of the decoder and of the joint memory.
        """
        # Encode image and text as one sequence
        sequence = torch.cat((images.sequence, texts.sequence), dim=1)
        positions = torch.cat((images.positions, torch.zeros_like(texts.sequence)), dim=1)
        padding = torch.cat((images.map_padding.flatten(1), texts.padding), dim=1)
        for layer in self.encoder:
            sequence = layer(sequence, positions, padding)
        sequence = self.encoder_norm(sequence)
        image_memory, text_memory = sequence.split((images.sequence.shape[1], texts.sequence.shape[1]), dim=1)

        # Make proposals, if configured, and the queries
        proposals = None
        if self.proposal_head is not None:
            proposals = self.proposal_head(image_memory, text_memory, texts.padding, images.map_padding)
        queries = self.queries(image_memory, proposals)
        extra_names = ["one_to_many"] * (len(queries) - 1)
        if self.denoising_queries is not None and self.training and targets is not None:
            queries.append(self.denoising_queries(targets))
            extra_names.append("denoising")

        # Decode
        output, *extra_outputs = self._decode(queries, sequence, sequence + positions, padding)
        for name, extra in zip(extra_names, extra_outputs, strict=True):
            setattr(output, name, extra)
        output.encoder_last_hidden_state_vision = image_memory
        output.encoder_last_hidden_state_text = text_memory
        output.proposals = proposals
        return output

    def _decode(
        self,
        parts: Sequence[Queries],
        memory: Float[Tensor, "batch length hidden"],
        memory_keys: Float[Tensor, "batch length hidden"],
        padding: Bool[Tensor, "batch length"],
    ) -> list[MdetrModelOutput]:
        """Decode the model's queries, and the extra ones of the training.

        Args:
            parts: The model's queries, then extra ones.
            memory: (B, S, C), the joint memory.
            memory_keys: (B, S, C), the memory with its positions added.
            padding: (B, S) bool, true on padding.

        Returns:
            For each part, its queries after each decoder layer and their boxes; the first also has the
            queries for answers.
        """
        # Append the queries for answers; only queries with references come in several parts
        target = torch.cat([part.content for part in parts], dim=1)
        positions, references = parts[0].positions, None
        if parts[0].references is not None:
            references = torch.cat([cast(Tensor, part.references) for part in parts], dim=1)
        num_queries = target.shape[1]
        answer_positions = target[:, :0]
        if self.answers is not None:
            answer_positions = self.answers.positions.weight.to(target.dtype).expand(target.shape[0], -1, -1)
            target = torch.cat((target, torch.zeros_like(answer_positions)), dim=1)

        # Run the layers; each refines the reference boxes, if any, for the next
        mask = query_mask(parts, answer_positions.shape[1])
        refined: Tensor | None = None
        hidden_states: list[Tensor] = []
        box_states: list[Tensor] = []
        answer_states: list[Tensor] = []
        for layer in self.decoder:
            if references is not None:
                positions = self.queries.encode(references)
            query_positions = torch.cat((cast(Tensor, positions), answer_positions), dim=1)
            target = layer(target, query_positions, memory, memory_keys, padding, mask)
            hidden = self.decoder_norm(target)
            hidden_states.append(hidden[:, :num_queries])
            answer_states.append(hidden[:, num_queries:])
            if self.box_head is None:
                continue
            boxes = self.box_head(hidden_states[-1], references)
            if refined is None:
                box_states.append(boxes)
            else:  # the same boxes, whose loss also trains the layer that refined the references
                box_states.append(self.box_head(hidden_states[-1], refined))
            if references is not None:
                references = boxes.detach()
                refined = boxes if self.config.look_forward_twice and self.training else None

        # Separate the parts
        outputs: list[MdetrModelOutput] = []
        end = 0
        for part in parts:
            start, end = end, end + part.content.shape[1]
            layers = tuple(hidden[:, start:end] for hidden in hidden_states)
            boxes = tuple(layer_boxes[:, start:end] for layer_boxes in box_states)
            outputs.append(MdetrModelOutput(layers[-1], layers, boxes or None))
        if self.answers is not None:
            outputs[0].answer_hidden_states = tuple(answer_states)
        return outputs

    def _init_weights(self, module: nn.Module) -> None:
        """DETR's initialization: Xavier for linear layers, Kaiming for convolutions, else normal."""
        if isinstance(module, nn.Linear):
            if module in self._box_outputs:  # refined boxes start as their references
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


class MdetrModel(MdetrPreTrainedModel):
    """The modulated detector without heads, for heads of your own.

    Its weights have the same names as in `mdetr.MdetrForObjectDetection`; each loads what the other saved.
    """

    _keys_to_ignore_on_load_unexpected = [  # noqa: RUF012 (the base class's own form)
        r"^(token_head|box_head|query_alignment|token_alignment|referred_head|mask_attention|mask_head)\.",
        r"^answers\.(sums|heads)\.",
    ]

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__(config)
        self.box_head = BoxHead(config) if config.query_type == "reference" else None
        self.answers = AnswerQueries(config) if config.answer_queries else None
        self.post_init()

    def forward(
        self,
        pixel_values: Float[Tensor, "images 3 height width"],
        pixel_mask: Shaped[Tensor, "images height width"] | None = None,
        input_ids: Int[Tensor, "batch tokens"] | None = None,
        attention_mask: Shaped[Tensor, "batch tokens"] | None = None,
        image_index: Int[Tensor, "batch"] | None = None,
        token_type_ids: Int[Tensor, "batch tokens"] | None = None,
    ) -> MdetrModelOutput:
        """Encode each text together with its image.

        Args:
            pixel_values: (I, 3, H, W) float, normalized; cast to the dtype of the weights.
            pixel_mask: (I, H, W), 1 on the image, 0 on padding; no padding if omitted.
            input_ids: (B, L) int64.
            attention_mask: (B, L), 1 on tokens, 0 on padding; no padding if omitted.
            image_index: (B,) int64, the image of each text, if several texts share one; image b for text b
                if omitted.
            token_type_ids: Ignored; some tokenizers return it.

        Returns:
            Hidden states of the decoder and of the joint memory.

        Raises:
            InvalidInputError: There is no text.
        """
        return self.fuse(*self.encode_pairs(pixel_values, pixel_mask, input_ids, attention_mask, image_index))

    def fuse(self, images: ImageFeatures, texts: TextFeatures) -> MdetrModelOutput:
        """Run the joint encoder and decoder on B pairs of image and text features."""
        return self.run_transformer(images, texts)


AutoModel.register(MdetrConfig, MdetrModel, exist_ok=True)
