"""Early stopping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from mdetr.errors import RecipeError
from mdetr.evaluation.evaluator import EVALUATED
from mdetr.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class EarlyStopping:
    """Settings of `EarlyStopper`.

    Attributes:
        score: Name of the score in metrics.json, without "eval_", such as "shapes_referring_precision@1".
        patience: Evaluations without a new best score after which the run ends.
    """

    score: str
    patience: PositiveInt = 3


class EarlyStopper:
    """Keeps the best model, and ends a run whose score has not risen for some evaluations.

    Earlier scores are read from the run's own log, so that a resumed run continues to count.

    Args:
        settings: Which score, and how long to wait.
        keep: Called with the scores when the model is the best so far.
    """

    def __init__(self, settings: EarlyStopping, keep: Callable[[Mapping[str, float]], None]) -> None:
        self.settings = settings
        self.keep = keep

    def should_stop(self, metrics: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> bool:
        """Compare the newest score with those before.

        Args:
            metrics: The scores of the newest evaluation.
            history: The log of the run, the newest evaluation included.

        Raises:
            RecipeError: There is no such score.
        """
        name = f"{EVALUATED}{self.settings.score}"
        if name not in metrics:
            known = [key.removeprefix(EVALUATED) for key in metrics]
            near = get_close_matches(self.settings.score, known, n=1) or known
            raise RecipeError(
                f"run.early_stopping.score: the evaluation gives no {self.settings.score}, but "
                f"{', '.join(near)}."
            )
        scores = [entry[name] for entry in history if name in entry]
        best = scores.index(max(scores))
        if best == len(scores) - 1:
            self.keep(metrics)
        return len(scores) - 1 - best >= self.settings.patience
