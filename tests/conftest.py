"""What all tests share: no network, the same random numbers every time, a tokenizer, a small saved model."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import PreTrainedTokenizerFast

from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from tests.model.models import OPTIONS, small_model

# The same few examples in every run of the suite; many others with `pytest --hypothesis-profile=long`
slow = [HealthCheck.too_slow]  # on a machine with much other work
settings.register_profile(
    "suite", derandomize=True, deadline=None, max_examples=40, suppress_health_check=slow
)
settings.register_profile(
    "long", deadline=None, max_examples=1000, print_blob=True, suppress_health_check=slow
)
settings.load_profile("suite")

pytest_plugins = ["tests.browser", "tests.small_training"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled graphs out of the user's cache, also in other processes."""
    with pytest.MonkeyPatch.context() as patch:
        if "MDETR_HOME" not in os.environ:
            patch.setenv("MDETR_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """RoBERTa's tokenizer, from the package."""
    return roberta_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A folder with a small untrained model that has every option, and its processor; do not write to it."""
    folder = tmp_path_factory.mktemp("tiny-model")
    small_model(**OPTIONS).save_pretrained(folder)
    image_processor = MdetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    MdetrProcessor(
        image_processor,
        tokenizer,
        answer_types=OPTIONS["answer_types"],
        answer_vocabulary=OPTIONS["answer_vocabulary"],
    ).save_pretrained(folder)
    return folder
