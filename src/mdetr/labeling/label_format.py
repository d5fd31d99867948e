"""Names of the formats that labels can be written in."""

from __future__ import annotations

from enum import StrEnum

from mdetr.errors import InvalidInputError


class LabelFormat(StrEnum):
    """Formats that labels can be written in."""

    COCO = "coco"
    YOLO = "yolo"
    VOC = "voc"
    LABEL_STUDIO = "label-studio"
    JSONL = "jsonl"
    STORE = "store"


CAPTION_FORMATS = (LabelFormat.LABEL_STUDIO, LabelFormat.JSONL, LabelFormat.STORE)
"""Formats that can hold captions and the words of each box."""


def check_format(label_format: LabelFormat, has_captions: bool) -> None:
    """Check that a format can hold the labels.

    Args:
        label_format: The format.
        has_captions: Whether captions are grounded rather than classes detected.

    Raises:
        InvalidInputError: The format has classes only, and there are captions.
    """
    if has_captions and label_format not in CAPTION_FORMATS:
        raise InvalidInputError(
            f"The format {label_format} has classes but no captions; choose one of: "
            f"{', '.join(CAPTION_FORMATS)}."
        )
