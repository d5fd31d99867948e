"""Label Studio: tasks with predictions, for people to review."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from mdetr.files import atomic_write
from mdetr.labeling.labeled_data import LabeledData
from mdetr.labeling.results import ImageLabels

_IMAGE, _BOX, _CAPTION, _WORDS = "image", "box", "caption", "words"


def write_label_studio(data: LabeledData) -> str:
    """Write `label-studio.json` with the tasks, and `label-studio.xml` with a labeling configuration.

    Images are addressed as local files of the data set's folder. A box of a class has the class as its label;
    a box of a caption has a text field with its words.

    Args:
        data: The labels.

    Returns:
        Name of the file with the tasks.
    """
    with atomic_write(data.folder / "label-studio.xml") as path:
        ElementTree.ElementTree(_configuration(data)).write(path, encoding="utf-8")

    # Write task by task, since the file may be larger than the memory
    with atomic_write(data.folder / "label-studio.json") as path, open(path, "w", encoding="utf-8") as file:
        separator = "[\n"
        for labels in data.usable_images():
            task = _to_task(labels, data.plan.settings.model)
            file.write(separator + json.dumps(task, ensure_ascii=False))
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")
    return "label-studio.json"


def _to_task(labels: ImageLabels, model: str) -> dict[str, Any]:
    # Label Studio serves local files by their path in its document root, which is the data set's folder
    address = f"/data/local-files/?d={quote(f'images/{labels.image}')}"
    content = {_IMAGE: address}
    if labels.text is not None:
        content[_CAPTION] = labels.text
    accepted = labels.accepted
    score = float(accepted.scores.mean()) if len(accepted) else 0.0
    prediction = {"model_version": Path(model).name, "score": score, "result": list(_results(labels))}
    return {"data": content, "predictions": [prediction]}


def _results(labels: ImageLabels) -> Iterator[dict[str, Any]]:
    """Yield the regions, in percent of the image."""
    for number, row in enumerate(labels.accepted, start=1):
        x0, y0, x1, y1 = row.box
        shape: dict[str, Any] = {
            "x": x0 / labels.width * 100,
            "y": y0 / labels.height * 100,
            "width": (x1 - x0) / labels.width * 100,
            "height": (y1 - y0) / labels.height * 100,
            "rotation": 0,
        }
        region = {
            "id": f"box{number}",
            "to_name": _IMAGE,
            "original_width": labels.width,
            "original_height": labels.height,
            "image_rotation": 0,
        }
        if labels.text is None:
            label = {"value": shape | {"rectanglelabels": [row.name]}, "type": "rectanglelabels"}
            yield region | label | {"from_name": _BOX, "score": row.score}
        else:
            # The words are a second result of the same region
            yield region | {"value": shape, "type": "rectangle", "from_name": _BOX, "score": row.score}
            words = {"value": shape | {"text": [row.phrase]}, "type": "textarea", "from_name": _WORDS}
            yield region | words


def _configuration(data: LabeledData) -> ElementTree.Element:
    """Make the labeling configuration that the tasks fit."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}")
    if data.class_names:
        labels = ElementTree.SubElement(view, "RectangleLabels", name=_BOX, toName=_IMAGE)
        for name in data.class_names:
            ElementTree.SubElement(labels, "Label", value=name)
        return view
    ElementTree.SubElement(view, "Text", name=_CAPTION, value=f"${_CAPTION}")
    ElementTree.SubElement(view, "Rectangle", name=_BOX, toName=_IMAGE)
    ElementTree.SubElement(
        view, "TextArea", name=_WORDS, toName=_IMAGE, perRegion="true", editable="true", required="true"
    )
    return view
