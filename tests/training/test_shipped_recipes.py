"""Every recipe of the package trains with its own settings, on a few generated records of its kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from transformers import RobertaConfig, RobertaModel

from mdetr.baselines.detectors import is_baseline
from mdetr.data.record import Record
from mdetr.data.sources.photos import read_photos
from mdetr.data.store import Store, write_store
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from mdetr.processing.rle import encode_masks
from mdetr.training.recipe_file import load_recipe, parse_recipe, recipe_names, shipped_recipe
from mdetr.training.run import train
from tests.model.models import small_model
from tests.photos import write_photos
from tests.small_training import small_recipe

RECIPES = [shipped_recipe(name) for name in recipe_names() if name != "clevr-tiny"]  # that runs elsewhere
SMALL = {"shortest_edge": 64, "longest_edge": 96}
CLASSES = ("cube", "sphere")


def _masks(record: Record) -> tuple[bytes, ...]:
    masks = np.zeros((len(record.boxes), record.height, record.width), np.uint8)
    for mask, box in zip(masks, record.boxes, strict=True):
        x0, y0, x1, y1 = map(int, box)
        mask[y0:y1, x0:x1] = 1
    return encode_masks(masks)


def _segmented(record: Record, number: int) -> Record:
    return replace(record, is_referred=None, masks=_masks(record))


def _detected(record: Record, number: int) -> Record:
    place = number % 2
    facts = {"category_id": place + 1, "name": CLASSES[place], "frequency": "c", "exhaustive": True}
    spans = tuple(((0, len(CLASSES[place])),) for _ in record.boxes)
    plain = replace(record, text=CLASSES[place], spans=spans, is_referred=None, phrases=None)
    return replace(plain, masks=_masks(record), extra=json.dumps(facts))


def _asked(record: Record, number: int) -> Record:
    kind, answer = (("obj", "cube"), ("attr", "red"))[number % 2]
    return replace(record, is_referred=None, answer=answer, answer_type=kind)


def _asked_of_shapes(record: Record, number: int) -> Record:
    kind, answer = (("binary", "yes"), ("attr", "red"), ("reg", "2"))[number % 3]
    return replace(record, is_referred=None, answer=answer, answer_type=kind)


def _asked_without_boxes(record: Record, number: int) -> Record:
    return replace(_asked_of_shapes(record, number), boxes=(), spans=(), phrases=None)


def _asked_or_not(record: Record, number: int) -> Record:
    return _asked_of_shapes(record, number) if number % 2 else record


def _as_it_is(record: Record, number: int) -> Record:
    return record


KINDS: dict[str, Callable[[Record, int], Record]] = {
    "gqa": _asked,
    "lvis": _detected,
    "phrasecut": _segmented,
    "clevr-humans": _asked_without_boxes,
    "clevr-cogent": _asked_of_shapes,
    "clevr.yaml": _asked_of_shapes,
    "clevr-tiny-qa": _asked_or_not,
    "clevr-tiny-varied": _asked_or_not,
}


@pytest.fixture
def make_store(shapes_store: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A maker of a store with records of the kind that a recipe is for."""

    def make(name: str) -> Path:
        if name == "photo-tiny":
            photos = write_photos(tmp_path / "photos")
            write_store(tmp_path / "composed", read_photos(photos, "val", composed=True), photos)
            return write_store(tmp_path / "store", read_photos(photos, "train"), photos).path
        change = next((KINDS[key] for key in KINDS if f"{name}.yaml".startswith(key)), _as_it_is)
        source = Store.open(shapes_store)
        records = [change(record, row) for row, record in enumerate(source)]
        return write_store(tmp_path / "store", records, source.image_root).path

    return make


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A small model of the published kind to start from."""
    folder = tmp_path / "start"
    model = small_model()
    model.save_pretrained(folder)
    processor = MdetrProcessor(MdetrImageProcessor(size=SMALL), roberta_tokenizer())
    processor.save_pretrained(folder)
    return folder


def _text_encoder(folder: Path) -> Path:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, **sizes)
    RobertaModel(config).save_pretrained(folder)
    return folder


def _made_small(content: dict[str, Any], store: Path, start: Path, tmp_path: Path) -> dict[str, Any]:
    """The recipe with its own settings, but for sizes, paths and what only a network could bring."""
    model, data = content["model"], content["data"]
    config = model.setdefault("config", {})
    if model.get("baseline") == "detr":
        backbone = {"model_type": "timm_backbone", "backbone": "resnet18", "out_indices": [4]}
        sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
        model |= {
            "start_from": None,
            "config": {"backbone_config": backbone, **sizes, **heads, "num_queries": 7},
        }
    elif model.get("baseline") == "maskrcnn":
        few = {"rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 20}  # proposals, which cost most
        config |= {"backbone": "resnet18", "weights": None, **few}
    elif "start_from" in model:
        model["start_from"] = str(start)
        if model.get("answers") == "annotations":
            model["answers"] = "data"
        if content["data"]["validation"] and "question_answering" in str(data) and "answers" not in model:
            model["answers"] = "data"  # the stage before would have brought them
    else:
        small = dict(small_recipe(store)["model"]["config"])
        small.pop("text_config")
        small.pop("predict_referred")
        if data.get("compose_texts"):  # what it starts from is in packages, which need no network
            config["text_config"] = {"num_hidden_layers": 1}
            small = {key: value for key, value in small.items() if not key.startswith("backbone")}
        else:
            model |= {"text_weights": str(_text_encoder(tmp_path / "text")), "backbone_weights": None}
        config |= small
    for entry in data["train"]:
        entry["store"] = str(store)
    for name, entry in data["validation"].items():
        own = store.with_name(name)
        entry |= {"store": str(own if own.exists() else store), "max_images": 2}
        entry.pop("classes", None)
    data["allow_shared_images"] = True  # all read the one store
    if data.get("compose_texts"):
        data["augmentation"]["sides"] = [64, 96]
    else:
        data["augmentation"] = "none"
    content["image"] = SMALL
    content["optimizer"] |= {"batch_size": 4, "epochs": None, "steps": 2}
    content["run"] |= {"workers": 0, "pictures": 1, "log_every": 1, "evaluate_every": 100, "save_every": 2}
    return content


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains_and_evaluates(
    recipe: Path, make_store: Callable[[str], Path], start: Path, tmp_path: Path
) -> None:
    load_recipe(recipe)  # as it is, it is valid
    content = _made_small(yaml.safe_load(recipe.read_text()), make_store(recipe.stem), start, tmp_path)
    folder = train(parse_recipe(content), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-2" / "complete").is_file()  # both steps were made
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for name, entry in content["data"]["validation"].items():
        for task in entry["tasks"]:
            assert any(key.startswith(f"eval_{name}_{task}_") for key in metrics), (name, task)
    assert all(value == value for value in metrics.values())
    if "baseline" in content["model"]:
        assert is_baseline(folder)
    else:
        model = MdetrForObjectDetection.from_pretrained(folder)
        for field, value in content["model"]["config"].items():
            if field == "text_config":
                assert value.items() <= model.config.text_config.to_dict().items()
            else:
                assert getattr(model.config, field) == value, field
