"""Captions with predictions as a model would give them, for the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from mdetr.data.record import Record
from mdetr.model.interface import MdetrOutput
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.layouts import ImageLayout
from mdetr.processing.prediction import Prediction
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from mdetr.processing.tokens import token_ranges, tokenized_texts

LIKELY = 6.0


@pytest.fixture(scope="session")
def processor() -> MdetrProcessor:
    return MdetrProcessor(MdetrImageProcessor(), roberta_tokenizer())


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A maker of records of a picture 200 pixels wide and 100 high."""

    def make(text: str, **fields: Any) -> Record:
        names = {"source": "made-up", "split": "test", "id": text, "image": "none.png", "image_id": "0"}
        return Record(**{**names, "width": 200, "height": 100, "text": text, **fields})

    return make


@pytest.fixture
def predict(processor: MdetrProcessor) -> Callable[..., list[Prediction]]:
    """A maker of predictions: per text, a list of (box in pixels, its words or None for no object)."""

    def make(
        texts: Sequence[str],
        answers: Sequence[Sequence[tuple[tuple[float, ...], str | None]]],
        referred_logits: torch.Tensor | None = None,
    ) -> list[Prediction]:
        tokenized = tokenized_texts(processor.tokenize(texts).encodings, texts)
        logits = torch.zeros(len(texts), len(answers[0]), 256)
        boxes = torch.zeros(len(texts), len(answers[0]), 4)
        for row, (text, queries) in enumerate(zip(texts, answers, strict=True)):
            for query, ((x0, y0, x1, y1), words) in enumerate(queries):
                boxes[row, query] = torch.tensor(
                    [(x0 + x1) / 400, (y0 + y1) / 200, (x1 - x0) / 200, (y1 - y0) / 100]
                )
                if words is None:
                    logits[row, query, -1] = 2 * LIKELY
                    continue
                start = text.index(words)
                for first, last in token_ranges(tokenized[row], [(start, start + len(words))]):
                    # Among queries of the same words, the earlier is the surer one.
                    logits[row, query, first : last + 1] = LIKELY - 0.1 * query
        output = MdetrOutput(logits=logits, pred_boxes=boxes, referred_logits=referred_logits)
        size = (100, 200)
        return processor.post_process_predictions(
            output, tokenized, [ImageLayout(size, size, size)] * len(texts)
        )

    return make
