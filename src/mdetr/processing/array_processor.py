"""`ArrayProcessor`: what inference needs of a processor, with arrays of numpy and without transformers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from mdetr.errors import InvalidInputError
from mdetr.model.answer_space import AnswerSpace, Vocabulary
from mdetr.model.predictions import Predictions
from mdetr.processing.coordinates import Size
from mdetr.processing.detections import MAX_OVERLAP, Detections
from mdetr.processing.layouts import ImageLayout
from mdetr.processing.pixels import PixelProcessor, is_positive
from mdetr.processing.post_processing import (
    post_process_boxes,
    post_process_grounding,
    post_process_masks,
    post_process_predictions,
    post_process_referring,
    post_process_segmentation,
)
from mdetr.processing.prediction import Prediction
from mdetr.processing.texts import check_text
from mdetr.processing.tokens import TokenizedText


def is_fraction(value: Any) -> bool:
    """Return whether a value is a number from 0 to 1."""
    try:
        return bool(0 <= value <= 1)
    except (TypeError, ValueError, RuntimeError):  # texts, and arrays and tensors of several numbers
        return False


class ArrayProcessor(ABC):
    """Converts images and texts to arrays, and a model's output to detections.

    `MdetrProcessor` is one for transformers, and an exported model has another.

    Attributes:
        image_processor: Processor of the images.
        max_text_tokens: Number of token positions of the model.
        pad_text_to_multiple: Multiple that the number of tokens is rounded up to; None for no rounding.
        answer_types: Types of answers of the model; see `MdetrConfig`.
        answer_vocabulary: Answers of each type; see `MdetrConfig`.
        default_threshold: Minimum score of a detection, from 0 to 1, for calls without a threshold.
    """

    image_processor: PixelProcessor
    max_text_tokens: int
    pad_text_to_multiple: int | None
    answer_types: Sequence[str] | None
    answer_vocabulary: Vocabulary | None
    default_threshold: float

    def check_settings(self) -> None:
        """Check the attributes, which a damaged file may have garbled.

        Raises:
            InvalidInputError: A value cannot be used.
        """
        for name in ("max_text_tokens", "pad_text_to_multiple"):
            value = getattr(self, name)
            if not is_positive(value) and (value is not None or name == "max_text_tokens"):
                raise InvalidInputError(f"{name} must be a positive whole number, got {value!r:.60}.")
        limit = self.default_threshold
        if not isinstance(limit, int | float) or not 0 <= limit <= 1:
            raise InvalidInputError(f"default_threshold must be from 0 to 1, got {limit!r:.60}.")
        if not isinstance(self.answer_types or (), Sequence):
            raise InvalidInputError(f"answer_types must be a list of names, got {self.answer_types!r:.60}.")

    @property
    def answers(self) -> AnswerSpace:
        """Answers that the model can give."""
        return AnswerSpace(tuple(self.answer_types or ()), self.answer_vocabulary or {})

    @abstractmethod
    def tokenize_each(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize texts without padding.

        Special tokens within a text, such as "<mask>", are treated as ordinary text.

        Args:
            texts: B texts.

        Returns:
            The texts with their tokens.

        Raises:
            InvalidInputError: A text is not a string, is empty, or has more tokens than the model has
                positions.
        """

    @abstractmethod
    def pad_texts(self, texts: Sequence[TokenizedText]) -> dict[str, NDArray[np.int64]]:
        """Pad tokenized texts to the longest: input_ids and attention_mask (B, L)."""

    def check_texts(self, texts: Sequence[str]) -> None:
        """Check texts before they are tokenized: that there are any, and that each is valid."""
        if not texts:
            raise InvalidInputError("Expected at least one text, got an empty list.")
        for text in texts:
            check_text(text)

    def check_lengths(self, texts: Sequence[str], lengths: Sequence[int]) -> None:
        """Check the number of tokens of each text, with special tokens, against the model's positions."""
        for text, length in zip(texts, lengths, strict=True):
            if length > self.max_text_tokens:
                raise InvalidInputError(
                    f"The text has {length} tokens, but the model has only {self.max_text_tokens} positions; "
                    f'shorten it: "{text[:40]}..."'
                )

    def threshold_or_default(self, threshold: float | None) -> float:
        """Check a threshold, and replace None by the model's own.

        Args:
            threshold: Minimum score, or None.

        Returns:
            The minimum score.

        Raises:
            InvalidInputError: It is not between 0 and 1.
        """
        chosen = self.default_threshold if threshold is None else threshold
        if not is_fraction(chosen):
            raise InvalidInputError(f"Expected a threshold between 0 and 1, got {chosen}.")
        return float(chosen)

    def post_process_grounding(
        self,
        output: Predictions,
        texts: Sequence[TokenizedText],
        sizes: Sequence[Size],
        threshold: float | None = None,
        token_threshold: float = 0.1,
        max_overlap: float = MAX_OVERLAP,
    ) -> list[Detections]:
        """See `post_process_grounding`; None is the model's own threshold."""
        limit = self.threshold_or_default(threshold)
        return post_process_grounding(output, texts, sizes, limit, token_threshold, max_overlap)

    def post_process_referring(
        self, output: Predictions, texts: Sequence[str], sizes: Sequence[Size], threshold: float = 0
    ) -> list[Detections]:
        """See `post_process_referring`."""
        return post_process_referring(output, texts, sizes, threshold)

    def post_process_segmentation(
        self,
        output: Predictions,
        texts: Sequence[str],
        layouts: Sequence[ImageLayout],
        threshold: float | None = None,
    ) -> list[Detections]:
        """See `post_process_segmentation`; None is the model's own threshold."""
        return post_process_segmentation(output, texts, layouts, self.threshold_or_default(threshold))

    def post_process_predictions(
        self, output: Predictions, texts: Sequence[TokenizedText], layouts: Sequence[ImageLayout]
    ) -> list[Prediction]:
        """See `post_process_predictions`."""
        return post_process_predictions(output, texts, layouts, self.answers)

    def post_process_boxes(self, output: Predictions, sizes: Sequence[Size]) -> list[Detections]:
        """See `post_process_boxes`."""
        return post_process_boxes(output, sizes)

    def post_process_masks(
        self, output: Predictions, queries: Sequence[Int[np.ndarray, "_"]], layouts: Sequence[ImageLayout]
    ) -> list[Bool[np.ndarray, "_ _ _"]]:
        """See `post_process_masks`."""
        return post_process_masks(output, queries, layouts)

    def post_process_answers(self, output: Predictions) -> list[tuple[str, str | None, float]]:
        """Return the best answer to each text, its type (None for a single head) and its probability."""
        if output.answer_logits is None:
            raise InvalidInputError(
                "Expected a model that predicts answers, got one without; use one trained for question "
                "answering."
            )
        return self.answers.decode(output.answer_logits)
