"""The released program's recorded numbers against ours, with the same weights and inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.layers.norm_act import FrozenBatchNormAct2d

from mdetr.errors import CheckpointError
from mdetr.losses.criterion import compute_loss
from mdetr.losses.matcher import assign, matching_cost
from mdetr.model.mdetr import MdetrModel
from mdetr.model.official import config_from_official, rename_key
from tests.model.reference import recorded_losses, recorded_outputs, reference_inputs, reference_model

LOGITS, BOXES, LOSSES = 1e-3, 1e-4, 4e-5  # ten times the noise between two correct runs
GRADIENTS = 6e-4

GRADIENT_GROUPS = {
    "backbone": "backbone",
    "text_encoder": "text_encoder",
    "resizer": "text_projection",
    "encoder": "encoder.",
    "decoder": "decoder",
    "input_proj": "input_projection",
    "query_embed": "queries",
    "class_embed": "token_head",
    "bbox_embed": "box_head",
    "contrastive_image": "query_alignment",
    "contrastive_text": "token_alignment",
}


def _forward(model: MdetrModel):
    inputs = reference_inputs()
    inputs.pop("targets")
    with torch.no_grad():
        return model(**inputs)


def _assert_outputs_agree(model: MdetrModel, variant: str) -> None:
    recorded, output = recorded_outputs(variant), _forward(model)
    first_layer = output.auxiliary_outputs[0]
    assert np.abs(output.logits.numpy() - recorded["pred_logits"]).max() < LOGITS
    assert np.abs(output.pred_boxes.numpy() - recorded["pred_boxes"]).max() < BOXES
    assert np.abs(output.query_embeddings.numpy() - recorded["proj_queries"]).max() < LOGITS
    assert np.abs(output.token_embeddings.numpy() - recorded["proj_tokens"]).max() < LOGITS
    assert np.abs(first_layer.logits[:, :5].numpy() - recorded["aux0_pred_logits_q5"]).max() < LOGITS
    assert np.abs(first_layer.pred_boxes.numpy() - recorded["aux0_pred_boxes"]).max() < BOXES


def test_pretrained_resnet101_gives_the_recorded_outputs() -> None:
    _assert_outputs_agree(reference_model("pretrain_r101"), "pretrain_r101")


def test_clevr_ref_model_gives_the_recorded_outputs_and_referred_logits() -> None:
    model = reference_model("clevrref_r18")
    _assert_outputs_agree(model, "clevrref_r18")
    recorded = recorded_outputs("clevrref_r18")["pred_isfinal"][..., 0]
    assert np.abs(_forward(model).referred_logits.numpy() - recorded).max() < LOGITS


def test_efficientnet_without_fused_activations_gives_the_recorded_outputs() -> None:
    """The recorded numbers lack the activations behind the norms; see tests/fixtures/official/README.md."""
    model = reference_model("pretrain_eb3")
    fused = [module for module in model.backbone.modules() if isinstance(module, FrozenBatchNormAct2d)]
    activations = [module.act for module in fused]
    try:
        for module in fused:
            module.act = torch.nn.Identity()
        _assert_outputs_agree(model, "pretrain_eb3")
    finally:
        for module, activation in zip(fused, activations, strict=True):
            module.act = activation


@pytest.mark.parametrize(
    ("token_targets", "name"), [("binary", "losses"), ("uniform", "losses_with_uniform_map")]
)
def test_pretrained_resnet101_gives_the_recorded_losses(token_targets: str, name: str) -> None:
    model, inputs = reference_model("pretrain_r101"), reference_inputs()
    targets = inputs.pop("targets")
    config = config_like(model, token_targets)
    with torch.no_grad():
        _, losses = compute_loss(model(**inputs), targets, config)
    recorded = recorded_losses("pretrain_r101")[name]
    assert set(losses) == set(recorded)
    for key, value in recorded.items():
        assert losses[key].item() == pytest.approx(value, rel=LOSSES), key


def config_like(model: MdetrModel, token_targets: str):
    """The model's configuration with other token targets."""
    return type(model.config).from_dict(model.config.to_dict() | {"token_targets": token_targets})


def test_pretrained_resnet101_gives_the_recorded_matches() -> None:
    model, inputs = reference_model("pretrain_r101"), reference_inputs()
    targets = inputs.pop("targets")
    with torch.no_grad():
        output = model(**inputs)
        cost = matching_cost(
            output.logits[None], output.pred_boxes[None], targets["positive_map"].float(), targets["boxes"]
        )
    matches = assign([cost], targets["box_mask"], [1])[0]
    for text, (queries, boxes) in enumerate(recorded_losses("pretrain_r101")["matches"]):
        here = matches.text == text
        assert matches.query[here].tolist() == queries
        assert matches.target[here].tolist() == boxes


def test_pretrained_resnet101_gives_the_recorded_total_and_gradients() -> None:
    model, inputs = reference_model("pretrain_r101"), reference_inputs()
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    recorded = recorded_losses("pretrain_r101")
    assert loss.item() == pytest.approx(recorded["total"], rel=LOSSES)
    norms = {}
    for group, prefix in GRADIENT_GROUPS.items():
        gradients = [
            parameter.grad.double().norm()  # summing 100 million squares in float32 loses a percent
            for name, parameter in model.named_parameters()
            if name.startswith(prefix) and parameter.grad is not None
        ]
        norms[group] = torch.stack(gradients).norm().item()
    model.zero_grad(set_to_none=True)
    assert norms == pytest.approx(recorded["gradient_norms"], rel=GRADIENTS)


def test_a_frozen_efficientnet_keeps_the_activations_behind_its_norms() -> None:
    model = reference_model("pretrain_eb3")
    stem = model.backbone.body.bn1
    assert isinstance(stem.act, torch.nn.SiLU)
    assert stem.eps == 1e-5


def test_poolers_and_position_buffers_of_old_files_have_no_place_in_the_model() -> None:
    assert rename_key("transformer.text_encoder.pooler.dense.weight") is None
    assert rename_key("transformer.text_encoder.embeddings.position_ids") is None
    assert rename_key("transformer.decoder.layers.3.norm4.bias") == "decoder.3.norm3.bias"


def test_an_unknown_text_encoder_is_refused() -> None:
    with pytest.raises(CheckpointError, match="'bert-base-uncased'"):
        config_from_official({"text_encoder_type": "bert-base-uncased"}, {})
