"""The configuration of a model: everything that decides its layers and its losses."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from types import MappingProxyType
from typing import Any, ClassVar, no_type_check

from transformers import AutoConfig, PreTrainedConfig

from mdetr.errors import InvalidInputError
from mdetr.model import MODEL_TYPE
from mdetr.registration import import_model
from mdetr.remote_code import CONFIG_CLASSES, write_remote_code

BACKBONE_NORMS = ("frozen", "batch", "group")
QUERY_TYPES = ("learned", "reference")
TOKEN_HEADS = ("positions", "dot_product")
TOKEN_TARGETS = ("binary", "uniform")
TRANSFORMER_NORMS = ("post", "pre")
PROPOSAL_CONTENTS = ("memory", "learned")
EARLIER_NAMES = MappingProxyType({"attention_heads": "attention_heads", "feedforward_size": "ffn_dim"})
"""Fields of earlier configurations and recipes, for encoder and decoder -> what these call it."""
_MAY_BE_ZERO = (
    *("alignment_size", "backbone_fixed_stages", "encoder_layers", "decoder_layers"),
    *("denoising_groups", "one_to_many_queries"),
)
_NEED_REFERENCES = ("proposals", "look_forward_twice", "denoising_groups", "one_to_many_queries")
_FROM_THE_END = ("answer_layer",)  # an index, which may be negative


@no_type_check  # transformers makes `__init__`, whose arguments the check of shapes cannot read
class MdetrConfig(PreTrainedConfig):
    """The configuration of a model; the defaults are the paper's pre-trained ResNet-101 model.

    Attributes:
        backbone: Name of any timm model that offers `features_only`.
        backbone_norm: "frozen" (constants, as in all released models), "batch" (trained) or "group"
            (replaced).
        backbone_norm_eps: Epsilon of the batch norms. Released models need 1e-5, also with EfficientNets,
            whose weights in timm were made with 1e-3.
        backbone_stride: Pixels per position of the feature map.
        backbone_fixed_stages: Number of the backbone's first stages that do not train, together with its
            first convolution; None for the released setting, 1 for a ResNet and 0 for others.
        text_config: Configuration of any Hugging Face text encoder; None for RoBERTa-base.
        hidden_size: Width of the joint transformer; `d_model` is another name.
        encoder_layers: Number of encoder layers; `num_hidden_layers` is another name.
        encoder_attention_heads: Number of attention heads of the encoder; `num_attention_heads` is another
            name.
        encoder_ffn_dim: Width of the feed-forward layers of the encoder.
        decoder_layers: Number of decoder layers.
        decoder_attention_heads: Number of attention heads of the decoder and of the heads that attend; None
            for the encoder's.
        decoder_ffn_dim: Width of the feed-forward layers of the decoder; None for the encoder's.
        dropout: Dropout of the joint transformer.
        num_queries: Number of boxes that the decoder predicts.
        num_token_positions: Positions of the soft token head; the last one means "no object".
        alignment_size: Size of the space in which queries and tokens are aligned; 0 for no such heads.
        predict_referred: Whether a head predicts which boxes the text as a whole refers to (CLEVR-Ref+).
        answer_queries: Names of the extra queries for question answering in order, "type" and the types, or
            "answer" alone; None for no answers.
        answer_types: Types of answers in the order of their ids; None if one head predicts all answers.
        answer_vocabulary: Type, or "answer" -> its answers in the order of the head's outputs.
        answer_layer: Decoder layer whose output the answer heads read; the first in released models.
        answer_sums: Whether the queries for answers sum the hidden states of the other queries, which helps
            to count.
        predict_masks: Whether queries have masks (PhraseCut).
        freeze_detector: Whether only the mask head trains.
        auxiliary_loss: Whether the outputs of earlier decoder layers are returned and trained.
        class_cost: Weight of the soft tokens in the matching.
        bbox_cost: Weight of the L1 distance in the matching.
        giou_cost: Weight of the generalized IoU in the matching.
        eos_coefficient: Weight of "no object" in the soft token loss.
        class_loss_coefficient: Weight of the soft token loss.
        bbox_loss_coefficient: Weight of the L1 loss of boxes.
        giou_loss_coefficient: Weight of the generalized IoU loss.
        alignment_loss_coefficient: Weight of the contrastive alignment loss.
        referred_loss_coefficient: Weight of the loss of `predict_referred`.
        answer_loss_coefficient: Weight of the losses of the answers.
        answer_type_loss_coefficient: Weight of the loss of the answer type.
        mask_loss_coefficient: Weight of the focal loss of masks.
        dice_loss_coefficient: Weight of the Dice loss of masks.
        alignment_temperature: Temperature of the contrastive alignment.
        token_targets: "binary" (1 for every token of the phrase, as for the released models) or "uniform" (a
            distribution over them, as in the paper).
        transformer_norm: "post" normalizes after each residual sum (released), "pre" before each attention
            and feed-forward layer, and once more after the encoder.
        image_norm: Whether projected image features pass a LayerNorm, like those of the text.
        query_type: "learned" embeddings (released), or "reference": each query has a box, whose sine encoding
            is its position and which each decoder layer refines.
        token_head: "positions", a linear layer onto absolute token positions (released), or "dot_product",
            the similarity of a query to each token of the text.
        proposals: Whether the first reference boxes are proposals of the joint memory (needs "reference"
            queries).
        proposal_targets_per_box: Number of proposals that learn to be the same box (one-to-many matching).
        proposal_content: Content of the queries that start from proposals: "memory", the joint memory at the
            proposal plus a learned embedding, or "learned", the embedding alone (DINO's mixed query
            selection, arXiv 2203.03605).
        look_forward_twice: Whether the loss of a decoder layer's boxes also trains the layer before, whose
            boxes it refines (arXiv 2203.03605); needs "reference" queries.
        denoising_groups: Number of groups of extra queries in training, each of which starts from all boxes
            of the text with little and with much noise, and learns to restore the former and to reject the
            latter (arXiv 2203.01305, 2203.03605); needs "reference" queries.
        one_to_many_queries: Number of extra queries in training, of which several learn to be the same box
            (hybrid matching, arXiv 2207.13080); needs "reference" queries.
        one_to_many_targets_per_box: Number of these queries that learn to be the same box.
        iou_aware_tokens: Whether the target of a matched query's tokens is weighted by the IoU of its box,
            and that of "no object" by the rest, so that the score tells how well the box fits (arXiv
            2008.13367).
        feature_pyramid: Whether the backbone's map of twice the stride, enlarged, is added to the projected
            features (arXiv 1612.03144).

    Source: arXiv 2104.12763, section 3 and appendix A; the options from `transformer_norm` on are not in the
    paper.
    """

    model_type = MODEL_TYPE
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": AutoConfig}
    attribute_map: ClassVar[dict[str, str]] = {
        "d_model": "hidden_size",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }

    backbone: str = "resnet101"
    backbone_norm: str = "frozen"
    backbone_norm_eps: float = 1e-5
    backbone_stride: int = 32
    backbone_fixed_stages: int | None = None
    text_config: dict | PreTrainedConfig | None = None
    hidden_size: int = 256
    encoder_layers: int = 6
    encoder_attention_heads: int = 8
    encoder_ffn_dim: int = 2048
    decoder_layers: int = 6
    decoder_attention_heads: int | None = None
    decoder_ffn_dim: int | None = None
    dropout: float = 0.1
    num_queries: int = 100
    num_token_positions: int = 256
    alignment_size: int = 64
    predict_referred: bool = False
    answer_queries: list[str] | None = None
    answer_types: list[str] | None = None
    answer_vocabulary: dict[str, list[str]] | None = None
    answer_layer: int = 0
    answer_sums: bool = False
    predict_masks: bool = False
    freeze_detector: bool = False
    auxiliary_loss: bool = True
    class_cost: float = 1.0
    bbox_cost: float = 5.0
    giou_cost: float = 2.0
    eos_coefficient: float = 0.1
    class_loss_coefficient: float = 1.0
    bbox_loss_coefficient: float = 5.0
    giou_loss_coefficient: float = 2.0
    alignment_loss_coefficient: float = 1.0
    referred_loss_coefficient: float = 1.0
    answer_loss_coefficient: float = 1.0
    answer_type_loss_coefficient: float = 1.0
    mask_loss_coefficient: float = 1.0
    dice_loss_coefficient: float = 1.0
    alignment_temperature: float = 0.07
    token_targets: str = "binary"
    transformer_norm: str = "post"
    image_norm: bool = False
    query_type: str = "learned"
    token_head: str = "positions"
    proposals: bool = False
    proposal_targets_per_box: int = 1
    proposal_content: str = "memory"
    look_forward_twice: bool = False
    denoising_groups: int = 0
    one_to_many_queries: int = 0
    one_to_many_targets_per_box: int = 5
    iou_aware_tokens: bool = False
    feature_pyramid: bool = False

    @classmethod
    def names(cls) -> set[str]:
        """The names that a configuration may be given: its fields, their other names and earlier ones."""
        return {field.name for field in fields(cls)} | set(cls.attribute_map) | set(EARLIER_NAMES)

    def __post_init__(self, **kwargs: Any) -> None:
        # Names that stand for others are settled first, since the checks below read what they stand for
        for name in set(kwargs) & set(self.attribute_map):
            setattr(self, name, kwargs.pop(name))
        for name in set(kwargs) & set(EARLIER_NAMES):
            value = kwargs.pop(name)
            for side in ("encoder", "decoder"):
                setattr(self, f"{side}_{EARLIER_NAMES[name]}", value)

        for name, kind in MdetrConfig.__annotations__.items():
            if name not in self.attribute_map:
                _check_kind(name, str(kind), getattr(self, name))

        # Numbers are often written whole, 5 for 5.0, and released settings have them so
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float) and isinstance(value, int):
                setattr(self, field.name, float(value))

        # Fill in what depends on other fields
        if self.decoder_attention_heads is None:
            self.decoder_attention_heads = self.encoder_attention_heads
        if self.decoder_ffn_dim is None:
            self.decoder_ffn_dim = self.encoder_ffn_dim
        if self.text_config is None:
            self.text_config = AutoConfig.for_model(
                "roberta", max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
            )
        elif isinstance(self.text_config, dict):
            text = dict(self.text_config)
            kind = text.pop("model_type", "roberta")
            try:
                self.text_config = AutoConfig.for_model(kind, **text)
            except (TypeError, ValueError) as error:
                reason = str(error).partition(". ")[0].partition("\n")[0]
                raise InvalidInputError(f"text_config is not that of a text encoder: {reason}.") from None
        if self.backbone_fixed_stages is None:
            self.backbone_fixed_stages = 1 if self.backbone.startswith("resnet") else 0

        # Refuse values that no model can have
        _check_choice("backbone_norm", self.backbone_norm, BACKBONE_NORMS)
        _check_choice("query_type", self.query_type, QUERY_TYPES)
        _check_choice("token_head", self.token_head, TOKEN_HEADS)
        _check_choice("token_targets", self.token_targets, TOKEN_TARGETS)
        _check_choice("transformer_norm", self.transformer_norm, TRANSFORMER_NORMS)
        _check_choice("proposal_content", self.proposal_content, PROPOSAL_CONTENTS)
        _check_answers(self.answer_queries or [], self.answer_types or [], self.answer_vocabulary or {})
        if self.freeze_detector and not self.predict_masks:
            raise InvalidInputError("freeze_detector: true leaves nothing to train without predict_masks.")
        for name in _NEED_REFERENCES:
            value = getattr(self, name)
            if value and self.query_type != "reference":
                raise InvalidInputError(
                    f"{name}: {str(value).lower()} needs query_type: reference, since its queries start from "
                    "boxes."
                )
        for heads in (self.encoder_attention_heads, self.decoder_attention_heads):
            if self.hidden_size % (2 * heads):
                raise InvalidInputError(
                    f"hidden_size {self.hidden_size} must be a multiple of twice the {heads} attention heads."
                )

        super().__post_init__(**kwargs)
        import_model()  # so that the Auto classes know whose configuration this is

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the configuration as `PreTrainedConfig` does, with what the Auto classes need to load it."""
        self.auto_map = dict(CONFIG_CLASSES)
        super().save_pretrained(save_directory, *args, **kwargs)
        write_remote_code(save_directory)


def _check_kind(name: str, kind: str, value: Any) -> None:
    """Check the type of a field against its annotation, and the range of a number.

    Args:
        name: Name of the field.
        kind: Its annotation.
        value: Its value.

    Raises:
        InvalidInputError: The value has another type, or is a number that no model can have.
    """
    main, _, others = kind.partition(" | ")
    if name.startswith("_") or main.startswith("ClassVar") or (value is None and "None" in others):
        return
    least = -math.inf if name in _FROM_THE_END else 0 if name in _MAY_BE_ZERO else 1
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_right, words = {
        "int": (is_number and isinstance(value, int) and value >= least, f"a whole number from {least} on"),
        "float": (is_number and 0 <= value < math.inf, "a number, not negative"),
        "bool": (isinstance(value, bool), "true or false"),
        "str": (isinstance(value, str), "a text"),
        "list[str]": (isinstance(value, list | tuple), "a list of texts"),
        "dict[str, list[str]]": (isinstance(value, dict), "a list of texts for each name"),
        "dict": (isinstance(value, dict | PreTrainedConfig), "the settings of a text encoder"),
    }.get(main, (True, ""))
    if not is_right:
        raise InvalidInputError(f"{name} must be {words}; got {value!r:.80}.")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")


def _check_answers(queries: list[str], types: list[str], vocabulary: dict[str, list[str]]) -> None:
    wanted = {"type", *types} if types else {"answer"} if queries else set()
    if set(queries) != wanted or len(queries) != len(wanted):
        raise InvalidInputError(
            f"answer_queries must be one each of {', '.join(sorted(wanted)) or 'nothing'}; "
            f"found {', '.join(queries) or 'nothing'}."
        )
    without = [name for name in queries if name != "type" and not vocabulary.get(name)]
    if without:
        raise InvalidInputError(f"answer_vocabulary must have words for {', '.join(without)}.")


AutoConfig.register(MdetrConfig.model_type, MdetrConfig, exist_ok=True)
