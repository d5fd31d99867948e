"""A released variant with its formula weights and the recorded inputs and outputs of the released program."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mdetr.checkpoints.key_mapping import config_from_released, rename_key
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer

FOLDER = Path(__file__).parents[1] / "fixtures" / "official"


def formula_weights() -> ModuleType:
    """The recorded module whose `formula_tensor` makes weights."""
    specification = importlib.util.spec_from_file_location("weights", FOLDER / "weights.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def released_state(variant: str) -> dict[str, torch.Tensor]:
    """The weights of a released file, under its own keys, from the formula."""
    layout = json.loads((FOLDER / "layout" / f"{variant}.json").read_text())
    shapes = {key: shape for key, (shape, _) in layout["keys"].items()}
    formula = formula_weights()
    norms = formula.norm_weight_keys(shapes)
    return {key: formula.formula_tensor(key, shape, norm_weights=norms) for key, shape in shapes.items()}


@cache
def reference_model(variant: str) -> MdetrForObjectDetection:
    """The model of a variant's layout, filled with the formula's weights, in evaluation mode."""
    layout = json.loads((FOLDER / "layout" / f"{variant}.json").read_text())
    state = released_state(variant)
    model = MdetrForObjectDetection(
        config_from_released(layout["args"], {key: tuple(t.shape) for key, t in state.items()})
    )
    weights = {name: tensor for key, tensor in state.items() if (name := rename_key(key)) is not None}
    model.load_state_dict(weights, strict=True)
    return model.eval()


def captions() -> list[str]:
    """The recorded captions."""
    return json.loads((FOLDER / "inputs.json").read_text())["captions"]


def reference_inputs(config: MdetrConfig, answers: dict[str, list[float]] | None = None) -> dict[str, Any]:
    """The recorded images, captions and targets as the arguments of `MdetrForObjectDetection.forward`.

    Args:
        config: of the model. answers: the ids of the recorded answers.
    """
    images = np.load(FOLDER / "inputs.npz")
    inputs = json.loads((FOLDER / "inputs.json").read_text())
    arrays = [images[f"image_{i}"] for i in range(3)]
    targets = []
    for row, (array, target) in enumerate(zip(arrays, inputs["targets"], strict=True)):
        relative = torch.tensor(target["boxes_cxcywh"]).reshape(-1, 4)
        cx, cy, width, height = relative.double().unbind(-1)
        boxes = torch.stack((cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), dim=-1)
        boxes = boxes * torch.tensor([array.shape[1], array.shape[0]] * 2)
        made = {
            "boxes": [tuple(box) for box in boxes.tolist()],
            "spans": [tuple(tuple(span) for span in spans) for spans in target["spans"]],
        }
        if config.predict_referred:
            made["is_referred"] = [bool(value) for value in target["is_referred"]]
        if config.predict_masks:
            made["masks"] = _ellipses(relative, array.shape[0], array.shape[1])
        if answers is not None:
            kind = config.answer_types[answers["answer_type"][row]] if config.answer_types else None
            given = int(answers[f"answer_{kind}" if kind else "answer"][row])
            made |= {"answer": config.answer_vocabulary[kind or "answer"][given], "answer_type": kind}
        targets.append(made)
    processor = MdetrProcessor(
        MdetrImageProcessor(),
        roberta_tokenizer(),
        answer_types=config.answer_types,
        answer_vocabulary=config.answer_vocabulary,
    )
    return dict(processor(arrays, inputs["captions"], targets=targets, do_resize=False))


def _ellipses(boxes_cxcywh: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The recorded masks: the pixels whose centers lie in the ellipse that fits each box."""
    cx, cy, w, h = (boxes_cxcywh * torch.tensor([width, height] * 2)).T[:, :, None, None]
    y, x = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    return (((x - cx) / (w / 2)) ** 2 + ((y - cy) / (h / 2)) ** 2 <= 1).to(torch.uint8)


def recorded_outputs(variant: str) -> dict[str, np.ndarray]:
    """What the released program gave."""
    return dict(np.load(FOLDER / "forward" / f"{variant}.npz"))


def recorded_losses(variant: str) -> dict[str, Any]:
    """Matches, losses and gradient norms that the released program gave."""
    return json.loads((FOLDER / "loss" / f"{variant}.json").read_text())
