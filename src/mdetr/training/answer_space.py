"""Answer vocabulary of a new model: CLEVR's, GQA's or that of the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdetr.checkpoints.conversion import read_answers
from mdetr.data.store import Store
from mdetr.errors import RecipeError
from mdetr.model.answers import (
    CLEVR_QUERIES,
    CLEVR_TYPES,
    CLEVR_VOCABULARY,
    GQA_QUERIES,
    GQA_TYPES,
    TYPE,
    UNIFIED,
)


def answer_fields(wanted: str, stores: Sequence[Store]) -> dict[str, Any]:
    """answer_queries, answer_types and answer_vocabulary of a new model.

    Args:
        wanted: "clevr"; "data", for all answers of the stores, by type where all have one; or the folder of
            the released GQA answers. stores: to train on.

    Raises:
        RecipeError: the stores have no answers, or there is no such folder.
    """
    if wanted == "clevr":
        return _fields(CLEVR_QUERIES, CLEVR_TYPES, CLEVR_VOCABULARY)
    if wanted != "data":
        if not Path(wanted).is_dir():
            raise RecipeError(f'model.answers: expected "clevr", "data" or a folder, found {wanted!r}.')
        released = read_answers(wanted)
        return _fields(GQA_QUERIES, GQA_TYPES, {kind: released[kind] for kind in GQA_TYPES})
    counts: Counter[tuple[str | None, str]] = Counter()
    for store in stores:
        columns = store.columns(["answer_type", "answer"]).to_pydict().values()
        counts.update((kind, answer) for kind, answer in zip(*columns, strict=True) if answer is not None)
    if not counts:
        raise RecipeError("model.answers: data: the training stores have no answers.")
    if any(kind is None for kind, _ in counts):
        answers = Counter[str]()
        for (_, answer), count in counts.items():
            answers[answer] += count
        return _fields([UNIFIED], None, {UNIFIED: _by_count(answers)})
    kinds = sorted({str(kind) for kind, _ in counts})
    by_kind = {kind: Counter({a: n for (of, a), n in counts.items() if of == kind}) for kind in kinds}
    vocabulary = {kind: _by_count(answers) for kind, answers in by_kind.items()}
    if "binary" in vocabulary:
        vocabulary["binary"] = CLEVR_VOCABULARY["binary"]  # one logit, of the second
    return _fields([TYPE, *kinds], kinds, vocabulary)


def _by_count(answers: Counter[str]) -> list[str]:
    return sorted(answers, key=lambda answer: (-answers[answer], answer))


def _fields(queries: Sequence[str], types: Sequence[str] | None, vocabulary: Any) -> dict[str, Any]:
    return {
        "answer_queries": list(queries),
        "answer_types": None if types is None else list(types),
        "answer_vocabulary": {name: list(words) for name, words in vocabulary.items()},
    }
