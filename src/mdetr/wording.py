"""Names of metrics, losses and answer types as people read them; logs and files use the short ones."""

from __future__ import annotations

import re

ANSWER_TYPES = {
    "binary": "yes or no",
    "reg": "number",
    "attr": "attribute",
    "obj": "object",
    "rel": "relation",
    "cat": "category",
    "global": "whole scene",
}
"""Answer type of the released models -> its name in words."""

_CURVES = {
    "loss": "all losses, weighted",
    "loss_ce": "words of each box, cross-entropy",
    "loss_bbox": "coordinates of boxes, L1",
    "loss_giou": "overlap of boxes, generalized IoU",
    "loss_contrastive_align": "alignment of boxes and words, contrastive",
    "loss_isfinal": "which boxes are referred to",
    "loss_mask": "masks, focal",
    "loss_dice": "masks, Dice",
    "accuracy_isfinal": "accuracy of which boxes are referred to",
    "cardinality_error": "error in the number of boxes",
    "grad_norm": "gradient norm",
    "images_per_second": "images per second",
    "data_wait": "fraction of the time spent waiting for data",
    "padding": "fraction of pixels that are padding",
    "gpu_memory_gib": "GPU memory in GiB",
}
_ANSWERS = {"type": "type of the answer", "total": "all answers"}
_ANSWER_TYPE = re.compile(r"(?<=answer_type=)\w+")
_COUNT = re.compile(r"(?:^|_)(?:num_[a-z_]+(?:/\w+)?|left_out)$")


def answer_type_in_words(name: str) -> str:
    """Return the name of an answer type in words; a type that the released models lack keeps its name."""
    return ANSWER_TYPES.get(name, name)


def score_in_words(name: str) -> str:
    """Return the name of a metric with its answer type in words, as in "accuracy/answer_type=number"."""
    return _ANSWER_TYPE.sub(lambda match: answer_type_in_words(match[0]), name)


def value_in_words(name: str, value: float) -> str:
    """Format the value of a metric: four decimals, or none for a count."""
    return f"{value:,.0f}" if is_count(name) else f"{value:.4f}"


def curve_in_words(name: str) -> str:
    """Return the title of a curve of the training log, with its name in the log in parentheses."""
    quantity, of_answers, kind = name.partition("_answer_")
    if of_answers:
        words = _ANSWERS.get(kind, f"answers: {answer_type_in_words(kind)}")
        words = f"accuracy of {words}" if quantity == "accuracy" else words
    else:
        words = _CURVES.get(name, "")
    return f"{words} ({name})" if words else name


def is_count(name: str) -> bool:
    """Return whether a metric is a count, of phrases or questions that were scored or left out."""
    return _COUNT.search(name) is not None
