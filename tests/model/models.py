"""Small random models that tests share."""

from __future__ import annotations

from typing import Any

import torch

from mdetr.model.answer_space import CLEVR_QUERIES, CLEVR_TYPES, CLEVR_VOCABULARY
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection


def small_config(**changes: Any) -> MdetrConfig:
    """A configuration of about one million parameters; `changes` override its fields."""
    text = {
        "model_type": "roberta",
        "vocab_size": 50265,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 258,
        "type_vocab_size": 1,
    }
    fields = {
        "backbone": "resnet10t",
        "text_config": text,
        "hidden_size": 32,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "num_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "num_queries": 7,
        "alignment_size": 8,
    }
    return MdetrConfig(**fields | changes)


OPTIONS: dict[str, Any] = {
    "query_type": "reference",
    "token_head": "dot_product",
    "proposals": True,
    "backbone_stride": 16,
    "predict_referred": True,
    "transformer_norm": "pre",
    "image_norm": True,
    "answer_queries": list(CLEVR_QUERIES),
    "answer_types": list(CLEVR_TYPES),
    "answer_vocabulary": CLEVR_VOCABULARY,
    "answer_layer": -1,
    "answer_sums": True,
    "predict_masks": True,
}


def small_model(seed: int = 0, **changes: Any) -> MdetrForObjectDetection:
    """A small model in evaluation mode, the same for the same seed."""
    torch.manual_seed(seed)
    return MdetrForObjectDetection(small_config(**changes)).eval()


def small_inputs() -> dict[str, torch.Tensor]:
    """Two images, the second with padding at the right and at the bottom, and a text for each."""
    generator = torch.Generator().manual_seed(1)
    pixel_values = torch.randn(2, 3, 96, 128, generator=generator)
    pixel_mask = torch.ones(2, 96, 128, dtype=torch.long)
    pixel_mask[1, 64:], pixel_mask[1, :, 96:] = 0, 0
    pixel_values = pixel_values * pixel_mask[:, None]
    input_ids = torch.tensor([[0, 100, 200, 300, 2], [0, 400, 2, 1, 1]])
    return {
        "pixel_values": pixel_values,
        "pixel_mask": pixel_mask,
        "input_ids": input_ids,
        "attention_mask": (input_ids != 1).long(),
    }
