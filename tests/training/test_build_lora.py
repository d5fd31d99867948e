"""LoRA adapters: they alone train, and are merged into the saved weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from mdetr.errors import RecipeError
from mdetr.modeling import MdetrForObjectDetection
from mdetr.training.build import LoraSettings, add_lora, merge_lora
from mdetr.training.recipe_file import parse_recipe
from mdetr.training.run import train
from mdetr.training.run_folder import last_checkpoint
from tests.model.models import small_model
from tests.small_training import small_recipe


def test_only_adapters_and_heads_train() -> None:
    model = small_model()
    before = sum(parameter.numel() for parameter in model.parameters())
    add_lora(model, LoraSettings(rank=2))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {
        name
        for name, _ in model.named_parameters()
        if any(p in name for p in ("_head.", "_alignment.", "answers."))
    }
    assert any("text_encoder" in name and "query.lora_A" in name for name in trained)
    assert sum(p.numel() for n, p in model.named_parameters() if "lora_" in n) < before / 20


def test_merged_weights_give_the_same_output_as_adapters() -> None:
    model = small_model().eval()
    names = set(model.state_dict())
    add_lora(model, LoraSettings(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    merged = merge_lora(model)
    assert set(merged.state_dict()) == names
    assert merged is not model
    layer = model.encoder[0].feed_forward
    hidden = torch.randn(3, layer.linear1.in_features)
    torch.testing.assert_close(merged.encoder[0].feed_forward(hidden), layer(hidden))
    assert not torch.equal(
        merged.encoder[0].feed_forward.linear1.weight, layer.linear1.get_base_layer().weight
    )
    plain = small_model()
    assert merge_lora(plain) is plain


def test_a_pattern_that_matches_no_layer_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"model.lora.layers: expected a pattern .* got 'nothing'"):
        add_lora(small_model(), LoraSettings(layers="nothing"))


def test_a_run_with_adapters_resumes_and_saves_a_model_without_them(
    shapes_store: Path, tmp_path: Path
) -> None:
    content = small_recipe(shapes_store)
    content["model"]["lora"] = {"rank": 2}
    content["data"]["validation"] = {}
    recipe = parse_recipe(content)
    whole = train(recipe, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped")
    shutil.rmtree(tmp_path / "stopped" / "checkpoint-4")
    assert last_checkpoint(tmp_path / "stopped").name == "checkpoint-2"
    resumed = train(recipe, tmp_path / "stopped", resume=True)
    states = [MdetrForObjectDetection.from_pretrained(folder).state_dict() for folder in (whole, resumed)]
    assert not [name for name in states[0] if "lora_" in name]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
