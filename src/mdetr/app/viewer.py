"""Viewer of a result: the image with its boxes, the text in the same colors, and a table."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from mdetr.inference.results import AnswerResult, DetectionResult, ReferringResult, Result
from mdetr.processing.coordinates import Spans
from mdetr.processing.detections import Detections
from mdetr.visualization.plot import MASK_OPACITY, PALETTE, Color, phrase_colors, text_color

MAX_SIDE = 1280
"""Longest side, in pixels, of the image that is sent to the browser; boxes stay in pixels of the original."""


def make_viewer() -> gr.HTML:
    """Make the component; its value is a dictionary from `view_result` or `view_message`."""
    return gr.HTML(
        html_template='<div class="mdetr-viewer"></div>',
        css_template=_read_asset("viewer.css"),
        js_on_load=_read_asset("viewer.js"),
        apply_default_css=False,
        elem_id="viewer",
        label="Result",
    )


@dataclass(frozen=True)
class Candidates:
    """A result with candidates of any score, and the image for the browser.

    Attributes:
        result: The candidates, best first.
        picture: The image as a data: URL.
    """

    result: Result
    picture: str

    @classmethod
    def from_result(cls, result: Result) -> Candidates:
        """Encode the image of a result for the browser."""
        image = result.image.convert("RGB")
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        return cls(result, _data_url(image, "JPEG", quality=88))

    def select(self, threshold: float, max_overlap: float) -> Result:
        """Select the boxes above a score that do not overlap a better one of the same phrase.

        Args:
            threshold: Minimum score.
            max_overlap: Maximum intersection over union with a better box of the same phrase.

        Returns:
            The result with the selected boxes, best first.
        """
        is_above = self.result.ranking_scores > np.float32(threshold)
        return self.result.with_detections(self.result.detections[is_above]).with_nms(max_overlap)


def view_result(candidates: Candidates, threshold: float, max_overlap: float) -> dict[str, Any]:
    """Make the viewer's value for a prediction.

    Args:
        candidates: The prediction.
        threshold: Minimum score of a box.
        max_overlap: Maximum intersection over union with a better box of the same phrase.

    Returns:
        The value, as JSON can hold it.
    """
    result = candidates.select(threshold, max_overlap)
    detections = result.detections
    text, spans = _text_and_spans(result)
    colors = phrase_colors(spans)

    # Describe each box
    boxes: list[dict[str, Any]] = []
    rows = zip(detections.names, result.ranking_scores, detections.boxes_xyxy, colors, strict=True)
    for name, score, box, color in rows:
        boxes.append(
            {
                "phrase": name,
                "score": float(score),
                "box": [round(float(value), 1) for value in box],
                "color": _css(color),
                "ink": _css(text_color(color)),
            }
        )
    count = len(boxes)
    return {
        "status": "found" if count else "nothing",
        "message": "" if count else _explain_no_boxes(candidates.result, threshold),
        "summary": f"{count} {'box' if count == 1 else 'boxes'} for “{result.text}”",
        "answer": f"{result.answer} ({result.score:.0%})" if isinstance(result, AnswerResult) else None,
        "picture": candidates.picture,
        "mask": _draw_mask(detections) if count and detections.masks is not None else None,
        "width": result.picture.width,
        "height": result.picture.height,
        "words": _split_text(text, spans, colors),
        "boxes": boxes,
    }


def view_message(message: str, is_error: bool = True) -> dict[str, Any]:
    """Make the viewer's value when there is no prediction: one sentence."""
    return {
        "status": "error" if is_error else "empty",
        "message": message,
        "answer": None,
        "picture": None,
        "words": [],
        "boxes": [],
    }


def _read_asset(name: str) -> str:
    return (resources.files("mdetr.app") / "static" / name).read_text(encoding="utf-8")


def _text_and_spans(result: Result) -> tuple[str, list[Spans]]:
    """Return the text to show, and the characters of each box's phrase."""
    detections = result.detections
    if not isinstance(result, DetectionResult):
        return result.text, list(detections.spans or ((),) * len(detections))

    # The names of a detection, joined to a text
    text, spans_of = "", dict[str, Spans]()
    for name in result.names:
        text += ", " if text else ""
        spans_of[name] = ((len(text), len(text) + len(name)),)
        text += name
    return text, [spans_of[name] for name in detections.names]


def _split_text(text: str, spans: Sequence[Spans], colors: Sequence[Color]) -> list[dict[str, Any]]:
    """Split the text at the ends of all phrases; each part lists its boxes, and has the color of the best."""
    edges = {0, len(text)}
    for phrase in spans:
        for span in phrase:
            edges |= set(span)
    parts: list[dict[str, Any]] = []
    for start, end in pairwise(sorted(edges)):
        boxes: list[int] = []
        for index, phrase in enumerate(spans):
            if any(first <= start and end <= last for first, last in phrase):
                boxes.append(index)
        color = colors[boxes[0]] if boxes else PALETTE[0]
        parts.append(
            {"text": text[start:end], "boxes": boxes, "color": _css(color), "ink": _css(text_color(color))}
        )
    return parts


def _explain_no_boxes(result: Result, threshold: float) -> str:
    """Say that no score reaches the threshold, and what the best score is."""
    scores = result.ranking_scores
    if not len(scores):
        return f"No box has a score above {threshold:.2f}."
    name = result.detections.names[0]
    phrase = f" (“{name}”)" if name and not isinstance(result, ReferringResult) else ""
    return (
        f"No box has a score above {threshold:.2f}. The best score is {scores[0]:.2f}{phrase}; lower the "
        "threshold to see it."
    )


def _draw_mask(detections: Detections) -> str:
    """Draw the union of the masks in one color, transparent elsewhere."""
    assert detections.masks is not None
    alpha = np.where(detections.masks.any(0), MASK_OPACITY, 0).astype(np.uint8)
    mask = Image.new("RGB", alpha.shape[::-1], PALETTE[0])
    mask.putalpha(Image.fromarray(alpha))
    mask.thumbnail((MAX_SIDE, MAX_SIDE))
    return _data_url(mask, "PNG")


def _data_url(image: Image.Image, image_format: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{image_format.lower()};base64,{content}"


def _css(color: Color) -> str:
    return f"rgb{color}"
