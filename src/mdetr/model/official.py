"""Released checkpoints: their keys and arguments in, ours out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transformers import RobertaConfig

from mdetr.errors import CheckpointError
from mdetr.model.config import MdetrConfig

TIMM_NAMES = {
    "timm_tf_efficientnet_b3_ns": "tf_efficientnet_b3.ns_jft_in1k",
    "timm_tf_efficientnet_b5_ns": "tf_efficientnet_b5.ns_jft_in1k",
}
TEXT_LAYERS = {"roberta-base": 12, "distilroberta-base": 6}

# What the released files hold beside the model: buffers of older libraries, the text encoder's unused pooler.
UNUSED_KEYS = re.compile(r"text_encoder\.(pooler\.|embeddings\.position_ids$)|num_batches_tracked$")

RENAMES: tuple[tuple[str, str], ...] = (
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
)


def rename_key(official_key: str) -> str | None:
    """Our name of a released tensor, or None where the model has no use for it."""
    if UNUSED_KEYS.search(official_key):
        return None
    key = official_key
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def config_from_official(args: Mapping[str, Any], official_keys: Mapping[str, Any]) -> MdetrConfig:
    """The configuration of a released checkpoint from its stored arguments and its keys.

    Raises:
        CheckpointError: the arguments name a text encoder that no released model has.
    """
    text_encoder = args["text_encoder_type"]
    if text_encoder not in TEXT_LAYERS:
        raise CheckpointError(
            f"The checkpoint's text encoder is {text_encoder!r}; released models have "
            f"{' or '.join(TEXT_LAYERS)}."
        )
    backbone = args["backbone"]
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
        attention_heads=args["nheads"],
        feedforward_size=args["dim_feedforward"],
        dropout=args["dropout"],
        num_queries=args["num_queries"],
        alignment_size=args["contrastive_loss_hdim"] if args["contrastive_align_loss"] else 0,
        predict_referred="isfinal_embed.weight" in official_keys,
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
