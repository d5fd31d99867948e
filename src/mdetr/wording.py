"""What figures are called where people read them; the names in logs and files stay short."""

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
"""Type of answer of the published models -> what it is."""

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
    "images_per_second": "images a second",
    "data_wait": "fraction of the time spent waiting for data",
    "padding": "fraction of the pixels that is padding",
    "gpu_memory_gib": "GPU memory in GiB",
}
_ANSWERS = {"type": "type of the answer", "total": "all answers"}
_ANSWER_TYPE = re.compile(r"(?<=answer_type=)\w+")
_COUNT = re.compile(r"(?:^|_)(?:num_[a-z]+|left_out)$")


def answer_type_in_words(name: str) -> str:
    """The type of answer spelled out; a type that the published models lack keeps its name."""
    return ANSWER_TYPES.get(name, name)


def score_in_words(name: str) -> str:
    """The name of a score with its type of answer spelled out, as in "accuracy/answer_type=number"."""
    return _ANSWER_TYPE.sub(lambda found: answer_type_in_words(found[0]), name)


def value_in_words(name: str, value: float) -> str:
    """The value of a score with four decimals, or of a count without any."""
    return f"{value:,.0f}" if is_count(name) else f"{value:.4f}"


def curve_in_words(name: str) -> str:
    """What a curve of a run's log shows, with its name in the log in parentheses."""
    quantity, of_answers, kind = name.partition("_answer_")
    if of_answers:
        words = _ANSWERS.get(kind, f"answers: {answer_type_in_words(kind)}")
        words = f"accuracy of {words}" if quantity == "accuracy" else words
    else:
        words = _CURVES.get(name, "")
    return f"{words} ({name})" if words else name


def is_count(name: str) -> bool:
    """Whether a figure says how many phrases, questions or the like were scored or left out."""
    return _COUNT.search(name) is not None
