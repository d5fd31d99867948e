"""The names and arguments of released checkpoints; what they compute is tested with their conversion."""

from __future__ import annotations

import json

import pytest
import torch

from mdetr.checkpoints.key_mapping import config_from_released, rename_key
from mdetr.errors import CheckpointError
from mdetr.modeling import MdetrForObjectDetection
from tests.model.reference import FOLDER


def _layout(variant: str) -> tuple[dict, dict]:
    layout = json.loads((FOLDER / "layout" / f"{variant}.json").read_text())
    return layout["args"], {key: shape for key, (shape, _) in layout["keys"].items()}


@pytest.mark.parametrize("variant", sorted(path.stem for path in (FOLDER / "layout").glob("*.json")))
def test_every_released_layout_fits_a_model_key_by_key(variant: str) -> None:
    args, shapes = _layout(variant)
    with torch.device("meta"):
        state = MdetrForObjectDetection(config_from_released(args, shapes)).state_dict()
    renamed = {name: tuple(shape) for key, shape in shapes.items() if (name := rename_key(key)) is not None}
    assert renamed == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_a_frozen_efficientnet_keeps_the_activations_behind_its_norms() -> None:
    with torch.device("meta"):
        stem = MdetrForObjectDetection(config_from_released(*_layout("pretrain_eb3"))).backbone.body.bn1
    assert isinstance(stem.act, torch.nn.SiLU)
    assert stem.eps == 1e-5


def test_a_detector_that_was_frozen_stays_frozen() -> None:
    args, shapes = _layout("phrasecut_r101")
    with torch.device("meta"):
        model = MdetrForObjectDetection(
            config_from_released(args | {"frozen_weights": "detector.pth"}, shapes)
        )
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"mask_head", "mask_attention"}


def test_answers_have_words_where_the_vocabulary_is_given() -> None:
    args, shapes = _layout("gqa_unified_r101")
    words = [f"word {number}" for number in range(1853)]
    assert config_from_released(args, shapes, {"answer": words}).answer_vocabulary == {"answer": words}
    assert config_from_released(args, shapes).answer_vocabulary["answer"][:2] == ["#0", "#1"]
    with pytest.raises(CheckpointError, match="1853 answers of the kind 'answer', the vocabulary has 2"):
        config_from_released(args, shapes, {"answer": ["yes", "no"]})


def test_poolers_and_position_buffers_of_old_files_have_no_place_in_the_model() -> None:
    assert rename_key("transformer.text_encoder.pooler.dense.weight") is None
    assert rename_key("transformer.text_encoder.embeddings.position_ids") is None
    assert rename_key("detr.transformer.decoder.layers.3.norm4.bias") == "decoder.3.norm3.bias"


def test_an_unknown_text_encoder_is_refused() -> None:
    with pytest.raises(CheckpointError, match="'bert-base-uncased'"):
        config_from_released({"text_encoder_type": "bert-base-uncased"}, {})
