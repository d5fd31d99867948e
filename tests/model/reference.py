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

from mdetr.model.mdetr import MdetrModel
from mdetr.model.official import config_from_official, rename_key
from mdetr.processor import MdetrImageProcessor, MdetrProcessor, roberta_tokenizer

FOLDER = Path(__file__).parents[1] / "fixtures" / "official"


def _formula() -> ModuleType:
    specification = importlib.util.spec_from_file_location("weights", FOLDER / "weights.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@cache
def reference_model(variant: str) -> MdetrModel:
    """The model of a variant's layout, filled with the formula's weights, in evaluation mode."""
    layout = json.loads((FOLDER / "layout" / f"{variant}.json").read_text())
    shapes = {key: shape for key, (shape, _) in layout["keys"].items()}
    formula = _formula()
    norms = formula.norm_weight_keys(shapes)
    model = MdetrModel(config_from_official(layout["args"], shapes))
    weights = {
        name: formula.formula_tensor(key, shape, norm_weights=norms)
        for key, shape in shapes.items()
        if (name := rename_key(key)) is not None
    }
    model.load_state_dict(weights, strict=True)
    return model.eval()


def reference_inputs() -> dict[str, Any]:
    """The recorded images, captions and targets as the arguments of `MdetrModel.forward`."""
    images = np.load(FOLDER / "inputs.npz")
    inputs = json.loads((FOLDER / "inputs.json").read_text())
    arrays = [images[f"image_{i}"] for i in range(3)]
    targets = []
    for array, target in zip(arrays, inputs["targets"], strict=True):
        cx, cy, width, height = torch.tensor(target["boxes_cxcywh"]).reshape(-1, 4).double().unbind(-1)
        boxes = torch.stack((cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), dim=-1)
        boxes = boxes * torch.tensor([array.shape[1], array.shape[0]] * 2)
        targets.append(
            {
                "boxes": [tuple(box) for box in boxes.tolist()],
                "spans": [tuple(tuple(span) for span in spans) for spans in target["spans"]],
                "is_referred": [bool(value) for value in target["is_referred"]],
            }
        )
    processor = MdetrProcessor(MdetrImageProcessor(), roberta_tokenizer())
    return dict(processor(arrays, inputs["captions"], targets=targets, do_resize=False))


def recorded_outputs(variant: str) -> dict[str, np.ndarray]:
    """What the released program gave."""
    return dict(np.load(FOLDER / "forward" / f"{variant}.npz"))


def recorded_losses(variant: str) -> dict[str, Any]:
    """Matches, losses and gradient norms that the released program gave."""
    return json.loads((FOLDER / "loss" / f"{variant}.json").read_text())
