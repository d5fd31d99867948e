"""Export of labels to the formats of data sets."""

from __future__ import annotations

from collections.abc import Callable

from mdetr.labeling.formats.coco import write_coco
from mdetr.labeling.formats.label_studio import write_label_studio
from mdetr.labeling.formats.pascal_voc import write_voc
from mdetr.labeling.formats.records import write_json_lines, write_label_store
from mdetr.labeling.formats.yolo import write_yolo
from mdetr.labeling.label_format import LabelFormat
from mdetr.labeling.labeled_data import LabeledData

_WRITERS: dict[LabelFormat, Callable[[LabeledData], str]] = {
    LabelFormat.COCO: write_coco,
    LabelFormat.YOLO: write_yolo,
    LabelFormat.VOC: write_voc,
    LabelFormat.LABEL_STUDIO: write_label_studio,
    LabelFormat.JSONL: write_json_lines,
    LabelFormat.STORE: write_label_store,
}


def export_labels(data: LabeledData, label_format: LabelFormat) -> str:
    """Write the labels of a finished run in a format.

    Args:
        data: The labels.
        label_format: The format.

    Returns:
        Name of the file or folder within the data set's folder.
    """
    return _WRITERS[label_format](data)
