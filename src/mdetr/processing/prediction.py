"""`Prediction`: everything that the model predicts for one text and its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdetr.processing.detections import Detections
from mdetr.processing.tokens import TokenizedText


@dataclass(frozen=True, eq=False)
class Prediction:
    """Everything that the model predicts for one text and its image, post-processed once for all metrics.

    Attributes:
        detections: All queries in the model's order; boxes may extend beyond the image. In detection by name,
            all boxes of all classes, with labels.
        text: The text with its tokens; None in detection by name, where each class is a separate text.
        token_probabilities: (Q, T) float32, probability of each token position; the last is "no object".
        segments: Queries above the threshold, best first, with their masks; None without a mask head.
        answer: Answer to the text as a question; None if the model has no answer heads.
    """

    detections: Detections
    text: TokenizedText | None = None
    token_probabilities: NDArray[np.float32] | None = None
    segments: Detections | None = None
    answer: str | None = None
