"""Mapping of the keys and arguments of released checkpoints to ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import RobertaConfig

from mdetr.errors import CheckpointError
from mdetr.model.answer_space import (
    CLEVR_QUERIES,
    CLEVR_TYPES,
    CLEVR_VOCABULARY,
    GQA_QUERIES,
    GQA_TYPES,
    UNIFIED,
    Vocabulary,
    numbered,
)
from mdetr.model.config import MdetrConfig

TIMM_NAMES = {
    "timm_tf_efficientnet_b3_ns": "tf_efficientnet_b3.ns_jft_in1k",
    "timm_tf_efficientnet_b5_ns": "tf_efficientnet_b5.ns_jft_in1k",
}
TEXT_LAYERS = {"roberta-base": 12, "distilroberta-base": 6}

# Keys without a counterpart: buffers of older libraries, and the text encoder's unused pooler.
UNUSED_KEYS = re.compile(r"text_encoder\.(pooler\.|embeddings\.position_ids$)|num_batches_tracked$")

MASK_LAYERS = {"lay": "convolutions", "gn": "norms", "adapter": "adapters"}


def _mask_layer(match: re.Match[str]) -> str:
    return f"mask_head.{MASK_LAYERS[match[1]]}.{int(match[2]) - 1}."


RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^detr\.", ""),
    (r"^backbone\.0\.body\.", "backbone.body."),
    (r"^input_proj\.", "input_projection."),
    (r"^transformer\.text_encoder\.", "text_encoder."),
    (r"^transformer\.resizer\.fc\.", "text_projection.linear."),
    (r"^transformer\.resizer\.layer_norm\.", "text_projection.layer_norm."),
    (r"^transformer\.decoder\.norm\.", "decoder_norm."),
    (r"^transformer\.(encoder|decoder)\.layers\.", r"\1."),
    (r"^((?:en|de)coder\.\d+)\.self_attn\.", r"\1.self_attention."),
    (r"^((?:en|de)coder\.\d+)\.(linear[12])\.", r"\1.feed_forward.\2."),
    (r"^(decoder\.\d+)\.cross_attn_image\.", r"\1.cross_attention."),
    (r"^(decoder\.\d+)\.norm3\.", r"\1.norm2."),
    (r"^(decoder\.\d+)\.norm4\.", r"\1.norm3."),
    (r"^query_embed\.", "queries.positions."),
    (r"^class_embed\.", "token_head.linear."),
    (r"^bbox_embed\.", "box_head."),
    (r"^isfinal_embed\.", "referred_head."),
    (r"^contrastive_align_projection_image\.", "query_alignment."),
    (r"^contrastive_align_projection_text\.", "token_alignment."),
    (r"^qa_embed\.", "answers.positions."),
    (r"^answer_head\.", "answers.heads.answer_head."),
    (r"^answer_([a-z]+_head)\.", r"answers.heads.\1."),
    (r"^bbox_attention\.q_linear\.", "mask_attention.query."),
    (r"^bbox_attention\.k_linear\.", "mask_attention.key."),
    (r"^mask_head\.(lay|gn|adapter)(\d)\.", _mask_layer),
    (r"^mask_head\.out_lay\.", "mask_head.output."),
)


def rename_key(released_key: str) -> str | None:
    """Name of a released tensor in our model, or None if it is not used."""
    if UNUSED_KEYS.search(released_key):
        return None
    key = released_key
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def config_from_released(
    args: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], vocabulary: Vocabulary | None = None
) -> MdetrConfig:
    """Configuration of a released checkpoint.

    Args:
        args: Arguments that the file stores under "args".
        shapes: Shape of every tensor in the file.
        vocabulary: Words of GQA's answers, by type or as "answer"; numbered if omitted.

    Returns:
        The configuration.

    Raises:
        CheckpointError: The arguments name a text encoder that no released model has.
    """
    text_encoder = args["text_encoder_type"]
    if text_encoder not in TEXT_LAYERS:
        raise CheckpointError(
            f"The checkpoint's text encoder is {text_encoder!r}; released models have "
            f"{' or '.join(TEXT_LAYERS)}."
        )
    backbone = args["backbone"]
    keys = {key.removeprefix("detr."): shape for key, shape in shapes.items()}
    masks = "bbox_attention.q_linear.weight" in keys
    return MdetrConfig(
        backbone=TIMM_NAMES.get(backbone, backbone),
        text_config=RobertaConfig(
            vocab_size=50265,
            num_hidden_layers=TEXT_LAYERS[text_encoder],
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        ),
        hidden_size=args["hidden_dim"],
        encoder_layers=args["enc_layers"],
        decoder_layers=args["dec_layers"],
        encoder_attention_heads=args["nheads"],
        encoder_ffn_dim=args["dim_feedforward"],
        dropout=args["dropout"],
        num_queries=args["num_queries"],
        alignment_size=args["contrastive_loss_hdim"] if args["contrastive_align_loss"] else 0,
        predict_referred="isfinal_embed.weight" in keys,
        **_answers(keys, args.get("qa_loss_coef", 1.0), vocabulary or {}),
        predict_masks=masks,
        freeze_detector=masks and args.get("frozen_weights") is not None,
        mask_loss_coefficient=args.get("mask_loss_coef", 1.0),
        dice_loss_coefficient=args.get("dice_loss_coef", 1.0),
        auxiliary_loss=args["aux_loss"],
        class_cost=args["set_cost_class"],
        bbox_cost=args["set_cost_bbox"],
        giou_cost=args["set_cost_giou"],
        eos_coefficient=args["eos_coef"],
        class_loss_coefficient=args["ce_loss_coef"],
        bbox_loss_coefficient=args["bbox_loss_coef"],
        giou_loss_coefficient=args["giou_loss_coef"],
        alignment_loss_coefficient=args["contrastive_align_loss_coef"],
        alignment_temperature=args["temperature_NCE"],
    )


def _answers(keys: Mapping[str, Sequence[int]], coefficient: float, given: Vocabulary) -> dict[str, Any]:
    """Configuration fields of the answers, from the heads that the file has."""
    if "answer_binary_head.weight" in keys:  # CLEVR
        return {
            "answer_queries": list(CLEVR_QUERIES),
            "answer_types": list(CLEVR_TYPES),
            "answer_vocabulary": CLEVR_VOCABULARY,
            "answer_type_loss_coefficient": coefficient,
        }
    types = GQA_TYPES if "answer_type_head.weight" in keys else ()
    queries = GQA_QUERIES if types else (UNIFIED,)
    heads = {
        name: f"answer_{name}_head.weight" if types else "answer_head.weight" for name in types or queries
    }
    if not all(key in keys for key in heads.values()):
        return {}
    words: dict[str, list[str]] = {}
    for name, key in heads.items():
        count = keys[key][0]
        words[name] = list(given.get(name) or numbered(count))
        if len(words[name]) != count:
            raise CheckpointError(
                f"The checkpoint has {count} answers of the kind {name!r}, the vocabulary has "
                f"{len(words[name])}: give the folder of the annotations that it was trained on."
            )
    return {
        "answer_queries": list(queries),
        "answer_types": list(types),
        "answer_vocabulary": words,
        "answer_loss_coefficient": coefficient,
        "answer_type_loss_coefficient": coefficient,
    }
