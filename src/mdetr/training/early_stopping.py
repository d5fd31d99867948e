"""Early stopping."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from transformers import TrainerCallback

from mdetr.errors import RecipeError
from mdetr.training.evaluation import EVALUATED
from mdetr.training.recipe import EarlyStopping


class StopEarly(TrainerCallback):
    """Keeps the best model, and ends a run whose score has not risen for some evaluations.

    What was scored before is read from the run's own log, so that a resumed run counts on.

    Args:
        settings: which score, and how long to wait. keep: called when the model is the best so far.
    """

    def __init__(self, settings: EarlyStopping, keep: Callable[[dict[str, float]], None]) -> None:
        self.settings = settings
        self.keep = keep

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare the newest score with those before.

        Raises:
            RecipeError: there is no such score.
        """
        metrics: dict[str, float] = kwargs["metrics"]
        name = f"{EVALUATED}{self.settings.score}"
        if name not in metrics:
            known = [key.removeprefix(EVALUATED) for key in metrics]
            near = get_close_matches(self.settings.score, known, n=1) or known
            raise RecipeError(
                f"run.early_stopping.score: the evaluation gives no {self.settings.score}, but "
                f"{', '.join(near)}."
            )
        scores = [entry[name] for entry in state.log_history if name in entry]
        best = scores.index(max(scores))
        if best == len(scores) - 1:
            self.keep(metrics)
        elif len(scores) - 1 - best >= self.settings.patience:
            control.should_training_stop = True
