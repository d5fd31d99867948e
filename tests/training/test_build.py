"""Building of components: model, processor, collator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import RobertaConfig, RobertaModel

from mdetr.errors import RecipeError
from mdetr.processing.processor import MdetrProcessor
from mdetr.training.datasets import training_data
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import parse_recipe
from tests.small_training import components_of, small_recipe


def _step(content: dict[str, Any]) -> tuple[dict[str, torch.Tensor], int]:
    """The gradients of a step, and how many activations were kept for its backward pass."""
    recipe = parse_recipe(content)
    torch.manual_seed(0)
    components = components_of(recipe)
    data = training_data(recipe.data, 0)
    data.set_epoch(0)
    batch = components.collator([data[0], data[1]])
    batch.pop("records")
    weights = {tensor.untyped_storage().data_ptr() for tensor in components.model.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor.numel()
        return tensor

    components.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = components.model(**batch).loss
    loss.backward()
    gradients = {n: p.grad for n, p in components.model.named_parameters() if p.grad is not None}
    return gradients, sum(kept.values())


def _deep(content: dict[str, Any]) -> dict[str, Any]:
    """With as many layers as there must be for most activations to be between them."""
    content["model"]["config"] |= {"backbone": "tf_efficientnet_lite0", "backbone_norm": "frozen"}
    content["model"]["config"] |= {"encoder_layers": 3}
    return content


def test_gradient_checkpointing_stores_less_and_gives_the_same_gradients(shapes_store: Path) -> None:
    usual, kept = _step(_deep(small_recipe(shapes_store)))
    again, kept_less = _step(_deep(small_recipe(shapes_store, gradient_checkpointing=True)))
    assert kept_less < 0.4 * kept
    assert set(usual) == set(again)
    for name, gradient in usual.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_a_baseline_takes_no_adapters(shapes_store: Path) -> None:
    content = small_recipe(shapes_store, gradient_checkpointing=True)
    content["model"] = {"baseline": "detr", "config": {}}
    content["data"]["validation"] = {}
    with pytest.raises(RecipeError, match="A baseline trains without"):
        components_of(parse_recipe(content))


def test_an_image_size_replaces_that_of_the_model_to_start_from(
    shapes_store: Path, tiny_model_folder: Path
) -> None:
    content = small_recipe(shapes_store) | {"model": {"start_from": str(tiny_model_folder)}}
    start = MdetrProcessor.from_pretrained(tiny_model_folder).image_processor
    content["image"] = {}
    assert components_of(parse_recipe(content)).processor.image_processor.size == start.size
    content["image"] = {"shortest_edge": 77, "longest_edge": 200}
    processor = components_of(parse_recipe(content)).processor.image_processor
    assert processor.size == content["image"]
    assert list(processor.image_mean) == list(start.image_mean)
    content["image"] = {"shortest_edge": 192}  # 96 x 160 was the size; the other side follows
    processor = components_of(parse_recipe(content)).processor.image_processor
    assert processor.size == {"shortest_edge": 192, "longest_edge": 320}


def test_a_model_to_start_from_has_its_own_tokenizer(shapes_store: Path) -> None:
    content = small_recipe(shapes_store)
    content["model"]["start_from"] = "clevr-tiny"
    with pytest.raises(RecipeError, match=r"comes with its own; leave out model.tokenizer"):
        parse_recipe(content)


@pytest.fixture(scope="module")
def text_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text encoder of two layers, saved in half precision."""
    folder = tmp_path_factory.mktemp("text")
    config = RobertaConfig(
        vocab_size=50265,
        max_position_embeddings=258,
        type_vocab_size=1,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    RobertaModel(config).bfloat16().save_pretrained(folder)
    return folder


def _starting_from(text_weights: Path, store: Path, layers: int) -> Recipe:
    content = small_recipe(store)
    content["model"] |= {"text_weights": str(text_weights), "tokenizer": "roberta"}
    content["model"]["config"]["text_config"] = {"num_hidden_layers": layers}
    return parse_recipe(content)


def test_a_text_encoder_starts_from_some_of_the_layers_of_its_weights_in_full_precision(
    shapes_store: Path, text_weights: Path
) -> None:
    encoder = components_of(_starting_from(text_weights, shapes_store, 1)).model.text_encoder
    source = RobertaModel.from_pretrained(text_weights, dtype=torch.float32).state_dict()
    own = encoder.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in own.values() if tensor.is_floating_point())
    assert all(torch.equal(tensor, source[name]) for name, tensor in own.items())
    assert not any("layer.1." in name for name in own)


def test_a_text_encoder_larger_than_its_weights_is_refused(shapes_store: Path, text_weights: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no encoder\.layer\.2\..*; leave out the fields of"):
        components_of(_starting_from(text_weights, shapes_store, 3))
