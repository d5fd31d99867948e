"""Pascal VOC format."""

from __future__ import annotations

from pathlib import PurePosixPath
from xml.etree import ElementTree

from mdetr.files import atomic_write
from mdetr.labeling.labeled_data import LabeledData
from mdetr.labeling.results import ImageLabels


def write_voc(data: LabeledData) -> str:
    """Write `Annotations/` with an XML file for each image.

    Boxes are whole pixels counted from 1, and include their last pixel, as Pascal VOC defines them.

    Args:
        data: The labels.

    Returns:
        Name of the folder.
    """
    for labels in data.usable_images():
        file = data.folder / "Annotations" / PurePosixPath(labels.image).with_suffix(".xml")
        file.parent.mkdir(parents=True, exist_ok=True)
        tree = ElementTree.ElementTree(_to_annotation(labels))
        ElementTree.indent(tree)
        with atomic_write(file) as temporary:
            tree.write(temporary, encoding="utf-8", xml_declaration=True)
    return "Annotations"


def _to_annotation(labels: ImageLabels) -> ElementTree.Element:
    annotation = ElementTree.Element("annotation")
    path = PurePosixPath("images", labels.image)
    ElementTree.SubElement(annotation, "folder").text = str(path.parent)
    ElementTree.SubElement(annotation, "filename").text = path.name
    size = ElementTree.SubElement(annotation, "size")
    for name, number in (("width", labels.width), ("height", labels.height), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(number)

    for row in labels.accepted:
        thing = ElementTree.SubElement(annotation, "object")
        ElementTree.SubElement(thing, "name").text = row.name
        ElementTree.SubElement(thing, "difficult").text = "0"
        box = ElementTree.SubElement(thing, "bndbox")
        x0, y0, x1, y1 = row.box
        # Whole pixels that the box covers: the first starts at its left, the last ends at its right
        corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": max(x1, x0 + 1), "ymax": max(y1, y0 + 1)}
        limits = {"xmin": labels.width, "ymin": labels.height, "xmax": labels.width, "ymax": labels.height}
        for name, value in corners.items():
            ElementTree.SubElement(box, name).text = str(min(max(round(value), 1), limits[name]))
    return annotation
