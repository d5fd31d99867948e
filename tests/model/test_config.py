"""The configuration's fields: the library's names, and those of configurations saved before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import DetrConfig, GroundingDinoConfig

from mdetr.checkpoints.loading import load
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection
from tests.model.models import small_config, small_inputs


def test_fields_have_the_names_of_grounding_dino_and_detr() -> None:
    config, names = MdetrConfig(), ("hidden_size", "d_model", "num_attention_heads", "encoder_layers")
    names += ("decoder_layers", "dropout", "num_queries", "auxiliary_loss", "class_cost", "giou_cost")
    sides = [f"{side}_{name}" for side in ("encoder", "decoder") for name in ("attention_heads", "ffn_dim")]
    for name in (*names, *sides):
        assert all(hasattr(one, name) for one in (config, GroundingDinoConfig(), DetrConfig())), name
    assert (config.d_model, config.num_attention_heads, config.num_hidden_layers) == (256, 8, 6)
    assert (config.encoder_ffn_dim, config.decoder_ffn_dim, config.decoder_attention_heads) == (2048, 2048, 8)


@pytest.mark.parametrize(
    ("given", "heads", "widths"),
    [
        ({"num_attention_heads": 4}, (4, 4), (2048, 2048)),
        ({"encoder_attention_heads": 4, "encoder_ffn_dim": 64}, (4, 4), (64, 64)),
        ({"decoder_attention_heads": 2, "decoder_ffn_dim": 32}, (8, 2), (2048, 32)),
        ({"attention_heads": 4, "feedforward_size": 64}, (4, 4), (64, 64)),  # names of before
        ({"d_model": 64, "num_attention_heads": 32}, (32, 32), (2048, 2048)),
    ],
)
def test_one_number_is_for_both_sides_unless_the_decoder_has_its_own(
    given: dict, heads: tuple[int, int], widths: tuple[int, int]
) -> None:
    config = MdetrConfig(**given)
    assert (config.encoder_attention_heads, config.decoder_attention_heads) == heads
    assert (config.encoder_ffn_dim, config.decoder_ffn_dim) == widths
    assert config.hidden_size == given.get("d_model", 256)
    assert MdetrConfig(**config.to_dict()).to_dict() == config.to_dict()


def test_encoder_and_decoder_may_differ() -> None:
    config = small_config(decoder_attention_heads=2, decoder_ffn_dim=48, predict_masks=True)
    model = MdetrForObjectDetection(config).eval()
    assert model.encoder[0].self_attention.num_heads == 4
    assert model.encoder[0].feed_forward.linear1.out_features == 64
    assert model.decoder[0].cross_attention.num_heads == model.decoder[0].self_attention.num_heads == 2
    assert model.decoder[0].feed_forward.linear1.out_features == 48
    with torch.no_grad():
        assert model(**small_inputs()).pred_masks.shape == (2, 7, 24, 32)


def test_a_folder_with_the_names_of_before_loads_and_finds_the_same(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields.pop("encoder_attention_heads") == fields.pop("decoder_attention_heads") == 4
    assert fields.pop("encoder_ffn_dim") == fields.pop("decoder_ffn_dim") == 64
    fields |= {"attention_heads": 4, "feedforward_size": 64, "architectures": ["MdetrModel"]}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    (old, _), (new, _) = load(tmp_path), load(tiny_model_folder)
    with torch.no_grad():
        found, expected = old(**small_inputs()), new(**small_inputs())
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.pred_boxes, expected.pred_boxes)
    old.config.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    assert saved["decoder_ffn_dim"] == 64 and "feedforward_size" not in saved


def test_a_whole_number_is_as_good_as_a_fraction() -> None:
    config = MdetrConfig(bbox_cost=3)
    assert type(config.bbox_cost) is float
    assert config.bbox_cost == 3
