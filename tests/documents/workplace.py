"""Folders that hold what the documents name: images, models that mostly know nothing, data sets."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SwinConfig,
)

import mdetr
from mdetr.data.record import Record
from mdetr.data.sources.clevr import read_clevr
from mdetr.data.store import write_store
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from tests.model.models import OPTIONS, small_model
from tests.model.reference import FOLDER as RELEASED
from tests.photos import write_lines, write_photos

ASSETS = Path(mdetr.__file__).parent / "assets"
SHAPES = Path(__file__).parents[1] / "fixtures" / "shapes"
RED_CUBE = [284, 174, 379, 279]  # its box in picture.png


def fill(folder: Path, document: str) -> None:
    """Put into a folder what all documents name, and what this one does besides."""
    picture = Image.open(ASSETS / "demo" / "shapes.png").convert("RGB")
    picture.save(folder / "picture.png")
    shutil.copy(ASSETS / "demo" / "cat.jpg", folder)
    picture.resize((160, 100)).save(folder / "street.jpg")
    (folder / "pictures").mkdir()
    for name in ("one", "two"):
        picture.save(folder / "pictures" / f"{name}.png")
    line = {"text": "a red cube", "boxes": [RED_CUBE], "phrases": ["a red cube"]}
    images = ("pictures/one.png", "pictures/two.png", "picture.png", "picture.png")
    write_lines(folder / "mine.jsonl", [{"image": image} | line for image in images])
    (folder / "stores").mkdir()
    _save_models(folder)
    _OTHERS.get(document, lambda _: None)(folder)


def _save_models(folder: Path) -> None:
    for name in ("path/to/model", "runs/clevr-tiny-qa/model", "runs/clevr-tiny-varied/model"):
        shutil.copytree(ASSETS / "models" / "clevr-tiny", folder / name)
    # Released models, as if they had been downloaded.
    downloaded = folder / "home" / "models"
    _save_random_model(downloaded / "gqa-r101")
    for name in ("pretrained-r101", "phrasecut-r101", "lvis10-r101"):
        (downloaded / name).symlink_to(downloaded / "gqa-r101")
    (folder / "models").mkdir()
    _save_released_file(folder / "checkpoint.pth")


def _save_random_model(folder: Path) -> None:
    """A small model with every head, which finds something everywhere."""
    model = small_model(**OPTIONS)
    torch.nn.init.constant_(model.token_head.no_object.bias, -9)
    model.save_pretrained(folder)
    MdetrProcessor(
        MdetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}),
        roberta_tokenizer(),
        answer_types=OPTIONS["answer_types"],
        answer_vocabulary=OPTIONS["answer_vocabulary"],
    ).save_pretrained(folder)


def _save_released_file(path: Path) -> None:
    """A file with the keys, shapes and arguments of a released one; all weights are the same zero."""
    layout = json.loads((RELEASED / "layout" / "clevrref_r18.json").read_text())
    state = {
        key: torch.zeros((), dtype=getattr(torch, dtype)).expand(shape)
        for key, (shape, dtype) in layout["keys"].items()
    }
    args = argparse.Namespace(**layout["args"])
    torch.save({"model": state, "model_ema": state, "optimizer": {}, "epoch": 1, "args": args}, path)


def _for_data(folder: Path) -> None:
    """Lines with the faults that the page shows, a store with its images, and what is combined."""
    for name in ("a", "b", "c", "d"):
        Image.effect_noise((640, 480), 50 + ord(name)).convert("RGB").save(folder / f"{name}.png")
    cup = [5, 5, 400, 450]
    write_lines(
        folder / "train.jsonl",
        [
            _line("a.png", "two teapots", [cup], [[[4, 7]]]),
            _line("b.png", "a cat", [[0.1, 0.2, 0.5, 0.6]], ["a cat"]),
            _line("c.png", "a mat", [[9, 7, 800, 600]], ["a mat"]),
            _line("d.png", "the left cup", [cup], ["the left cup"]),
        ],
    )
    write_lines(folder / "val.jsonl", [_line("d.png", "a cup", [cup], ["a cup"])])
    content = (folder / "picture.png").read_bytes()
    write_store(folder / "stores" / "embedded", [_record(image=content)], folder)

    (folder / "train2014").mkdir()
    shutil.copy(folder / "picture.png", folder / "train2014" / "COCO_train2014_000000000077.png")
    listed = {"id": 77, "file_name": "COCO_train2014_000000000077.png", "width": 480, "height": 320}
    for name, images in (("train", [listed]), ("val", [])):
        content_of_coco = json.dumps({"images": images, "annotations": [], "categories": []})
        (folder / f"instances_{name}2014.json").write_text(content_of_coco)
    same = {"image_id": 2, "coco_id": 77, "flickr_id": None, "width": 480, "height": 320}
    (folder / "image_data.json").write_text(json.dumps([same]))
    for name in ("refcoco", "gqa"):
        write_store(folder / "stores" / name, [_record()], folder)
        write_store(folder / "stores" / f"{name}-val", [_record(image="cat.jpg", image_id="cat")], folder)


def _for_evaluation(folder: Path) -> None:
    """Eight scenes for clevr-tiny, and a question without an answer for GQA's server."""
    for split in ("train", "val"):
        records = [replace(record, split=split) for record in read_clevr(SHAPES, "train")]
        write_store(folder / "stores" / f"clevr-{split}", records, SHAPES)
    question = _record(text="What is it?", boxes=(), spans=(), extra=json.dumps({"questionId": "7"}))
    write_store(folder / "stores" / "gqa-submission", [question], folder)


def _for_labeling(folder: Path) -> None:
    """A folder of photos, with a caption for one and the page's phrases for classes."""
    from tests.documents.running import blocks_of  # which imports this module

    (folder / "photos").mkdir()
    shutil.copy(folder / "cat.jpg", folder / "photos")
    shutil.copy(folder / "street.jpg", folder / "photos")
    write_lines(folder / "captions.jsonl", [{"image": "cat.jpg", "text": "a cat on a sofa"}])
    (phrases,) = [block.text for block in blocks_of("docs/labeling.md") if block.language == "yaml"]
    (folder / "phrases.yaml").write_text(phrases)

    # What Label Studio exports after the review of one image
    region = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["cat"]}
    result = {"id": "box1", "type": "rectanglelabels", "value": region}
    task = {"id": 1, "data": {"image": "/data/local-files/?d=images/cat.jpg"}}
    (folder / "export.json").write_text(json.dumps([task | {"annotations": [{"result": [result]}]}]))


def _for_recipes(folder: Path) -> None:
    """The first entries of RefCOCO, whose images are of one color, and models for them."""
    annotations = Path(__file__).parents[1] / "fixtures" / "sources" / "refcoco" / "raw"
    (folder / "ANNOTATIONS").symlink_to(annotations)
    for model in (folder / "home" / "models" / "refcoco-r101", folder / "runs" / "refcoco" / "model"):
        model.parent.mkdir(parents=True, exist_ok=True)
        model.symlink_to(folder / "home" / "models" / "gqa-r101")
    (folder / "train2014").mkdir()
    instances = json.loads((annotations / "coco/annotations/instances_train2014.json").read_text())
    for image in instances["images"]:
        content = Image.new("RGB", (image["width"], image["height"]), "gray")
        content.save(folder / "train2014" / image["file_name"])


def _for_photos(folder: Path) -> None:
    for name in ("photos", "mine"):
        write_photos(folder / name)


def _for_grounding_dino(folder: Path) -> None:
    """A Grounding DINO small enough for a test, which knows nothing."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "models" / "photo-tiny")
    stages = {
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 2, 2],
        "out_features": ["stage2", "stage3", "stage4"],
    }
    text = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    sides = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(image_size=64, embed_dim=8, window_size=4, **stages),
        text_config=BertConfig(vocab_size=len(tokenizer), hidden_size=32, **text),
        d_model=32,
        num_queries=9,
        encoder_layers=1,
        decoder_layers=2,
        decoder_ffn_dim=32,
        **sides,
    )
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder / "grounding-dino-tiny")
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder / "grounding-dino-tiny")


def _line(image: str, text: str, boxes: Sequence[Any], phrases: Sequence[Any]) -> dict[str, Any]:
    return {"image": image, "text": text, "boxes": boxes, "phrases": phrases}


def _record(**changes: Any) -> Record:
    record = Record(
        "mine",
        "train",
        "1",
        "picture.png",
        "picture",
        *Image.open(ASSETS / "demo" / "shapes.png").size,
        text="a red cube",
        boxes=(tuple(map(float, RED_CUBE)),),
        spans=(((0, 10),),),
    )
    return replace(record, **changes)


_OTHERS: dict[str, Callable[[Path], None]] = {
    "docs/coming-from-grounding-dino.md": _for_grounding_dino,
    "README.md": _for_labeling,
    "docs/data.md": _for_data,
    "docs/evaluation.md": _for_evaluation,
    "docs/labeling.md": _for_labeling,
    "docs/photo-tiny.md": _for_photos,
    "docs/recipes.md": _for_recipes,
}
