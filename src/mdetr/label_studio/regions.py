"""Regions and relations of Label Studio's predictions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mdetr.label_studio.config import LabelChoice, LabelConfig


def random_id() -> str:
    """Make up an id of a region."""
    return secrets.token_hex(5)


def make_prediction(
    config: LabelConfig, content: Mapping[str, Any], version: str, make_id: Callable[[], str] = random_id
) -> dict[str, Any]:
    """Make a prediction of Label Studio.

    Each box is a region of the image, in percent of its width and height. In a project with a text, the words
    of a box are regions of the text, and relations lead from the box to them.

    Args:
        config: Labeling configuration of the project.
        content: Result of grounding the task's text, or of detecting the labels, as its `to_dict` gives it.
        version: Version of the model, as Label Studio shows it.
        make_id: Makes the id of each region, unique in the prediction; random by default.

    Returns:
        The prediction: `result`, `score` (the mean of its boxes) and `model_version`.
    """
    is_grounded = "groundings" in content
    text_regions: dict[tuple[int, int], dict[str, Any]] = {}
    regions: list[dict[str, Any]] = []
    relations: list[dict[str, Any]] = []
    scores: list[float] = []
    for entry in content["groundings" if is_grounded else "detections"]:
        phrase = entry["phrase" if is_grounded else "name"]
        label = config.label_of(phrase)
        if label is None and config.labels:  # the project has no label for these words
            continue

        # The box, with its words if the project has a field for them
        box = {"id": make_id()} | _box_region(config, entry, content, label)
        scores.append(entry["score"])
        regions.append(box)
        if config.box_labels is not None and label is not None:
            value = _box_value(entry["box"], content) | {"labels": [label.value]}
            regions.append(box | {"from_name": config.box_labels, "type": "labels", "value": value})
        if config.words is not None:
            value = _box_value(entry["box"], content) | {"text": [phrase]}
            regions.append(box | {"from_name": config.words, "type": "textarea", "value": value})

        # The words in the text
        if is_grounded and config.phrases is not None:
            for start, end in entry["spans"]:
                region = text_regions.get((start, end))
                if region is None:
                    region = {"id": make_id()} | _text_region(config, content["text"], start, end, phrase)
                    text_regions[start, end] = region
                relations.append(
                    {
                        "type": "relation",
                        "from_id": box["id"],
                        "to_id": region["id"],
                        "direction": "right",
                    }
                )
    return {
        "result": [*regions, *text_regions.values(), *relations],
        "score": sum(scores) / len(scores) if scores else 0.0,
        "model_version": version,
    }


def _box_region(
    config: LabelConfig, entry: Mapping[str, Any], content: Mapping[str, Any], label: LabelChoice | None
) -> dict[str, Any]:
    value = _box_value(entry["box"], content)
    if config.box_type == "rectanglelabels" and label is not None:
        value["rectanglelabels"] = [label.value]
    return {
        "from_name": config.boxes,
        "to_name": config.image,
        "type": config.box_type,
        "value": value,
        "original_width": content["width"],
        "original_height": content["height"],
        "image_rotation": 0,
        "score": entry["score"],
        "origin": "prediction",
    }


def _box_value(box: Sequence[float], content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a box to percent of the image; Label Studio has no place for parts outside of it."""
    width, height = content["width"], content["height"]
    x0, x1 = (min(max(100 * x / width, 0.0), 100.0) for x in (box[0], box[2]))
    y0, y1 = (min(max(100 * y / height, 0.0), 100.0) for y in (box[1], box[3]))
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}


def _text_region(config: LabelConfig, text: str, start: int, end: int, phrase: str) -> dict[str, Any]:
    labels = {label.value: label.names for label in config.phrase_labels}
    label = next((value for value, names in labels.items() if phrase in names), None)
    if label is None:
        box_label = config.label_of(phrase)
        is_shared = box_label is not None and box_label.value in labels
        label = box_label.value if box_label is not None and is_shared else next(iter(labels), "")
    value: dict[str, Any] = {
        "start": _utf16_length(text[:start]),
        "end": _utf16_length(text[:end]),
        "text": text[start:end],
    }
    if label:
        value["labels"] = [label]
    return {
        "from_name": config.phrases,
        "to_name": config.text,
        "type": "labels",
        "value": value,
        "origin": "prediction",
    }


def _utf16_length(text: str) -> int:
    """Return the length of a text in the units that the browser counts; an emoji has two of them."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
