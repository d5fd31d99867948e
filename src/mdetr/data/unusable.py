"""Checks of a store against the limits of a model."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mdetr.data.store import Store
from mdetr.errors import InvalidInputError
from mdetr.processing.processor import MdetrProcessor


def unusable_texts(store: Store, processor: MdetrProcessor) -> dict[int, str]:
    """Find the records whose texts have more tokens than the model has positions.

    Args:
        store: Store to check.
        processor: Processor of the model.

    Returns:
        Row -> description of the problem.
    """
    texts = store.columns(["text"])["text"]

    # Tokenize only texts that could be too long: a token has at least one byte
    added = processor.tokenizer.num_special_tokens_to_add() + 1
    long = pc.greater(pc.binary_length(texts), processor.max_text_tokens - added)
    reasons: dict[int, str] = {}
    for row in _rows(long):
        try:
            processor.tokenize([texts[row].as_py()])
        except InvalidInputError as error:
            reasons[row] = str(error)
    return reasons


def unusable_answers(store: Store, processor: MdetrProcessor) -> dict[int, str]:
    """Find the records whose answers are not in the vocabulary of the model, if it has one."""
    answers = processor.answers
    table = store.columns(["answer", "answer_type"])
    if not answers.vocabulary or table["answer"].null_count == len(table):
        return {}
    problems: dict[tuple[str, str | None], str | None] = {}
    reasons: dict[int, str] = {}
    for row, pair in enumerate(zip(*table.to_pydict().values(), strict=True)):
        if pair[0] is None:
            continue
        if pair not in problems:
            try:
                answers.encode(*pair)
                problems[pair] = None
            except InvalidInputError as error:
                problems[pair] = f"{error} model.answers=data in the recipe makes new heads for the answers."
        reason = problems[pair]
        if reason is not None:
            reasons[row] = reason
    return reasons


def without_masks(store: Store) -> dict[int, str]:
    """Find the records with boxes but without masks."""
    table = store.columns(["boxes", "masks"])
    bare = pc.and_(pc.greater(pc.list_value_length(table["boxes"]), 0), pc.is_null(table["masks"]))
    return dict.fromkeys(_rows(bare), "It has boxes without masks, and the model learns masks.")


def has_masks(store: Store) -> bool:
    """Check whether any record has masks."""
    masks = store.columns(["masks"])["masks"]
    return masks.null_count < len(masks)


def count_crowded(store: Store, num_queries: int) -> int:
    """Count the records with more boxes than a model has queries."""
    counts = pc.list_value_length(store.columns(["boxes"])["boxes"])
    return int(pc.sum(pc.greater(counts, num_queries)).as_py() or 0)


def scored_tasks(store: Store) -> list[str]:
    """List the tasks for which a store has annotations."""
    table = store.columns(["boxes", "is_referred", "answer", "masks"])
    referring = pc.is_valid(table["is_referred"])
    boxes = pc.greater(pc.list_value_length(table["boxes"]), 0)
    kinds = {
        "phrase_grounding": pc.and_(boxes, pc.invert(referring)),
        "referring": pc.and_(boxes, referring),
        "question_answering": pc.is_valid(table["answer"]),
        "segmentation": pc.is_valid(table["masks"]),
    }
    return [task for task, rows in kinds.items() if pc.any(rows).as_py()]


def _rows(chosen: pa.ChunkedArray) -> list[int]:
    rows: list[int] = np.flatnonzero(chosen.to_numpy(zero_copy_only=False)).tolist()
    return rows
