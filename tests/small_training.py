"""Eight generated scenes as a store, and a recipe for a model small enough to train in a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import write_store
from mdetr.training.build import Components, build_components
from mdetr.training.recipe import Recipe
from mdetr.training.recipe_file import parse_recipe

SCENES = Path(__file__).parent / "fixtures" / "shapes"


@pytest.fixture(scope="session")
def shapes_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the eight scenes."""
    path = tmp_path_factory.mktemp("stores") / "shapes"
    write_store(path, read_clevr(SCENES, "train"), SCENES)
    return path


def torchrun(processes: int, program: Path, *arguments: object) -> None:
    """A program under torchrun, in `processes` processes that talk over gloo, on CPUs."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(
        [*command, str(program), *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]


def small_recipe(store: Path, **run: Any) -> dict[str, Any]:
    """A recipe as nested dictionaries; `run` overrides its run settings."""
    text = {
        "model_type": "roberta",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 258,
        "type_vocab_size": 1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    config = {
        "backbone": "resnet10t",
        "backbone_stride": 16,
        "backbone_norm": "group",
        "backbone_fixed_stages": 0,
        "hidden_size": 64,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 128,
        "dropout": 0.0,
        "num_queries": 12,
        "alignment_size": 16,
        "predict_referred": True,
        "token_targets": "uniform",
        "query_type": "reference",
        "token_head": "dot_product",
        "proposals": True,
        "text_config": text,
    }
    return {
        "seed": 3,
        "model": {"config": config, "tokenizer": {"vocab_size": 350}},
        "image": {"shortest_edge": 96, "longest_edge": 144},
        "data": {
            "train": [{"store": str(store)}],
            "validation": {"shapes": {"store": str(store), "tasks": ["phrase_grounding", "referring"]}},
            "texts_per_image": 4,
            "augmentation": "none",
            "allow_shared_images": True,
        },
        "optimizer": {
            "batch_size": 4,
            "lr": 1e-3,
            "lr_backbone": 1e-3,
            "lr_text_encoder": 1e-3,
            "steps": 4,
        },
        "schedule": {"name": "all_linear_with_warmup", "warmup": 0.1, "start_at_base": False},
        "ema": {"decay": 0.99, "ramp": True},
        "run": {"workers": 0, "log_every": 1, "evaluate_every": 1000, "save_every": 2, "pictures": 0} | run,
    }


def components_of(recipe: Recipe) -> Components:
    """The model of a recipe, and all that makes its batches, as `train` builds them."""
    return build_components(recipe.model, recipe.image, recipe.data, recipe.run.gradient_checkpointing)


@pytest.fixture
def recipe(shapes_store: Path) -> Recipe:
    """The small recipe, four steps long."""
    return parse_recipe(small_recipe(shapes_store))
