"""Label Studio: tasks with predictions, for people to review."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from mdetr.files import atomic_write
from mdetr.label_studio.config import LabelConfig, parse_label_config
from mdetr.label_studio.regions import make_prediction
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
    xml = _configuration(data)
    with atomic_write(data.folder / "label-studio.xml") as path:
        path.write_text(xml, encoding="utf-8")

    # Write task by task, since the file may be larger than the memory
    config, version = parse_label_config(xml), Path(data.plan.settings.model).name
    with atomic_write(data.folder / "label-studio.json") as path, open(path, "w", encoding="utf-8") as file:
        separator = "[\n"
        for labels in data.usable_images():
            file.write(separator + json.dumps(_to_task(labels, config, version), ensure_ascii=False))
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")
    return "label-studio.json"


def _to_task(labels: ImageLabels, config: LabelConfig, version: str) -> dict[str, Any]:
    # Label Studio serves local files by their path in its document root, which is the data set's folder
    fields = {_IMAGE: f"/data/local-files/?d={quote(f'images/{labels.image}')}"}
    entries: list[dict[str, Any]] = []
    for row in labels.accepted:
        entries.append(
            {"name": row.name, "phrase": row.phrase, "spans": row.spans, "box": row.box, "score": row.score}
        )
    content: dict[str, Any] = {"width": labels.width, "height": labels.height}
    if labels.text is None:
        content["detections"] = entries
    else:
        fields[_CAPTION] = labels.text
        content |= {"text": labels.text, "groundings": entries}

    # Numbers as ids make the file the same whenever it is written
    numbers = count(1)
    prediction = make_prediction(config, content, version, lambda: f"region{next(numbers)}")
    return {"data": fields, "predictions": [prediction]}


def _configuration(data: LabeledData) -> str:
    """Make the labeling configuration that the tasks fit, in XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}")
    if data.class_names:
        labels = ElementTree.SubElement(view, "RectangleLabels", name=_BOX, toName=_IMAGE)
        for name in data.class_names:
            ElementTree.SubElement(labels, "Label", value=name)
    else:
        ElementTree.SubElement(view, "Text", name=_CAPTION, value=f"${_CAPTION}")
        ElementTree.SubElement(view, "Rectangle", name=_BOX, toName=_IMAGE)
        ElementTree.SubElement(
            view, "TextArea", name=_WORDS, toName=_IMAGE, perRegion="true", required="true"
        )
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"
