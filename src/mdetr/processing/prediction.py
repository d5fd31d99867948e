"""`Prediction`: all that the model predicts for one text and its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdetr.processing.detections import Detections
from mdetr.processing.tokens import TokenizedText


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model predicts for one text and its image, made once a batch for all metrics.

    Attributes:
        detections: Every query in the model's order; boxes may leave the image. In detection by name, every
            box of every class, with labels.
        text: The text with its tokens; None in detection by name, where each class is a text of its own.
        token_probabilities: (Q, T) float32, the probability of each token; the last is "no object".
        segments: The queries that are sure enough, best first, with their masks; None without a mask head.
        answer: To the text as a question; None where the model gives no answers.
    """

    detections: Detections
    text: TokenizedText | None = None
    token_probabilities: NDArray[np.float32] | None = None
    segments: Detections | None = None
    answer: str | None = None
