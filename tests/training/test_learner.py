"""What a recipe trains, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mdetr.errors import RecipeError
from mdetr.processor import MdetrProcessor
from mdetr.training.datasets import training_data
from mdetr.training.learner import make_learner
from mdetr.training.recipe import parse_recipe
from tests.training.conftest import small_recipe


def _step(content: dict[str, Any]) -> tuple[dict[str, torch.Tensor], int]:
    """The gradients of a step, and how many activations were kept for its backward pass."""
    recipe = parse_recipe(content)
    torch.manual_seed(0)
    learner = make_learner(recipe)
    data = training_data(recipe.data, 0)
    data.set_epoch(0)
    batch = learner.collator([data[0], data[1]])
    batch.pop("records")
    weights = {tensor.untyped_storage().data_ptr() for tensor in learner.model.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor.numel()
        return tensor

    learner.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = learner.model(**batch).loss
    loss.backward()
    gradients = {n: p.grad for n, p in learner.model.named_parameters() if p.grad is not None}
    return gradients, sum(kept.values())


def _deep(content: dict[str, Any]) -> dict[str, Any]:
    """With as many layers as there must be for most activations to be between them."""
    content["model"]["config"] |= {"backbone": "tf_efficientnet_lite0", "backbone_norm": "frozen"}
    content["model"]["config"] |= {"encoder_layers": 3}
    return content


def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(shapes_store: Path) -> None:
    usual, kept = _step(_deep(small_recipe(shapes_store)))
    again, kept_less = _step(_deep(small_recipe(shapes_store, gradient_checkpointing=True)))
    assert kept_less < 0.4 * kept
    assert set(usual) == set(again)
    for name, gradient in usual.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_a_baseline_has_no_additions(shapes_store: Path) -> None:
    content = small_recipe(shapes_store, gradient_checkpointing=True)
    content["model"] = {"baseline": "detr", "config": {}}
    content["data"]["validation"] = {}
    with pytest.raises(RecipeError, match="A baseline trains without"):
        make_learner(parse_recipe(content))


def test_an_image_size_changes_that_of_the_model_to_start_from(
    shapes_store: Path, tiny_model_folder: Path
) -> None:
    content = small_recipe(shapes_store) | {"model": {"start_from": str(tiny_model_folder)}}
    start = MdetrProcessor.from_pretrained(tiny_model_folder).image_processor
    content["image"] = {}
    assert make_learner(parse_recipe(content)).processor.image_processor.size == start.size
    content["image"] = {"shortest_edge": 77}
    processor = make_learner(parse_recipe(content)).processor.image_processor
    assert processor.size == {**start.size, "shortest_edge": 77}
    assert list(processor.image_mean) == list(start.image_mean)


def test_a_model_to_start_from_brings_its_tokenizer(shapes_store: Path) -> None:
    content = small_recipe(shapes_store)
    content["model"]["start_from"] = "clevr-tiny"
    with pytest.raises(RecipeError, match=r"brings its own; leave out model.tokenizer"):
        parse_recipe(content)
