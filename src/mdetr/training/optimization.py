"""Parameter groups of the optimizer, learning rate schedules, and the length of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from mdetr.errors import RecipeError
from mdetr.evaluation.evaluator import EVALUATED
from mdetr.settings import STRICT, Fraction, Positive, Rate

PUBLISHED_RATE, PUBLISHED_SIZE = 1e-4, 100_000_000  # all published models are larger
HIGHEST_RATE = 1e-3
MULTISTEP_PERIOD = 50  # epochs between the halvings of `multistep` after the first
GROUPS = ("backbone", "text_encoder", "rest")


@dataclass(frozen=True, config=STRICT)
class OptimizerSettings:
    """Settings of AdamW with three groups of parameters, and the length of the run.

    Attributes:
        batch_size: Images in a batch, over all processes.
        lr: Learning rate; null for one that suits the model's size: 1e-4, as published, for 100 million
            parameters or more, and up to 1e-3 for smaller models.
        lr_backbone: Learning rate of the backbone; null for a tenth of `lr`, as published.
        lr_text_encoder: Learning rate of the text encoder; null for half of `lr`, as published. If `lr` is
            null too, a small text encoder gets half of the rate that suits its own size, and at most `lr`.
        weight_decay: Decoupled weight decay.
        max_gradient_norm: Norm to which gradients are clipped.
        epochs: Length of the run in epochs; either this or `steps`.
        steps: Length of the run in steps.
    """

    batch_size: PositiveInt
    lr: Rate | None = None
    lr_backbone: Rate | None = None
    lr_text_encoder: Rate | None = None
    weight_decay: Rate = 1e-4
    max_gradient_norm: PositiveFloat = 0.1
    epochs: Positive | None = None
    steps: PositiveInt | None = None


@dataclass(frozen=True, config=STRICT)
class ScheduleSettings:
    """Settings of `Schedule`.

    Attributes:
        name: "step" (a tenth after each `lr_drop` epochs), "multistep" (half at `lr_drop` and every 50
            epochs after), "linear_with_warmup" ("step", except that the text encoder warms up and decays
            linearly to zero) or "all_linear_with_warmup" (warm-up and linear decay for all groups).
        lr_drop: Epochs until the rates drop.
        warmup: Fraction of all steps in which the rates rise.
        start_at_base: Run step 0 at the base rates, warm-up or not, as the released program does, which sets
            the rates after each step. False starts the warm-up at step 0.
    """

    name: Literal["step", "multistep", "linear_with_warmup", "all_linear_with_warmup"] = (
        "all_linear_with_warmup"
    )
    lr_drop: PositiveInt = 35
    warmup: Fraction = 0.01
    start_at_base: bool = True


@dataclass(frozen=True, config=STRICT)
class EarlyStopping:
    """Settings of `EarlyStopper`.

    Attributes:
        score: Name of the score in metrics.json, without "eval_", such as "shapes_referring_precision@1".
        patience: Evaluations without a new best score after which the run ends.
    """

    score: str
    patience: PositiveInt = 3


def suited_rate(parameters: int) -> float:
    """Choose a learning rate for a model's size.

    Models of the published size get the published rate. Smaller models get a higher rate, in inverse
    proportion to the square root of the size, which comes close to the rates of the bundled models.

    Args:
        parameters: Number of parameters.

    Returns:
        The learning rate.
    """
    return min(HIGHEST_RATE, PUBLISHED_RATE * max(1.0, PUBLISHED_SIZE / parameters) ** 0.5)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Divide the trained parameters into the three groups of the optimizer, by their names.

    Args:
        model: Model to train.
        settings: Learning rates; rates that are None suit the model's size.

    Returns:
        For each of `GROUPS` that has parameters, its "name", "params" and "lr".

    Source: arXiv 2104.12763, appendix A.
    """
    parameters: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameters[_group_of(name)].append(parameter)
    rates = _rates(model, settings)
    return [
        {"name": name, "params": parameters[name], "lr": rates[name]} for name in GROUPS if parameters[name]
    ]


def _group_of(parameter: str) -> str:
    for name in ("backbone", "text_encoder"):
        if name in parameter:
            return name
    return "rest"


def _rates(model: nn.Module, settings: OptimizerSettings) -> dict[str, float]:
    """Return the learning rate of each group."""
    # Count parameters
    total = of_text = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        of_text += parameter.numel() if "text_encoder" in name else 0

    # Choose the rates that are None
    if settings.lr is None:
        lr = suited_rate(total)
        # A text encoder of the published size gets half; a small one has as much to learn as the rest
        text_lr = min(lr, suited_rate(of_text) / 2) if of_text else lr / 2
    else:
        lr, text_lr = settings.lr, settings.lr / 2
    return {
        "backbone": lr / 10 if settings.lr_backbone is None else settings.lr_backbone,
        "text_encoder": text_lr if settings.lr_text_encoder is None else settings.lr_text_encoder,
        "rest": lr,
    }


def steps_per_epoch(settings: OptimizerSettings, examples: int) -> int:
    """Return the steps of an epoch over a number of examples; an incomplete batch is left out."""
    return max(1, examples // settings.batch_size)


def total_steps(settings: OptimizerSettings, examples: int) -> int:
    """Return the steps of a run over a number of examples."""
    if settings.steps is not None:
        return settings.steps
    return math.ceil((settings.epochs or 0) * steps_per_epoch(settings, examples))


class Schedule:
    """Learning rates over a run.

    Args:
        settings: Which schedule, and its parameters.
        steps_per_epoch: Steps of the optimizer in an epoch.
        total_steps: Steps of the whole run.

    Source: arXiv 2104.12763, appendix A, and the released program.
    """

    def __init__(self, settings: ScheduleSettings, steps_per_epoch: float, total_steps: int) -> None:
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps

    def factor(self, step: int, group: str) -> float:
        """Return the factor of a group's base rate at a step.

        Args:
            step: Number of the step, from 0.
            group: One of `GROUPS`.

        Returns:
            The factor, 0 to 1.
        """
        if step == 0 and self.settings.start_at_base:
            return 1.0
        return _FACTORS[self.settings.name](self, step, group)

    def _step(self, step: int, group: str) -> float:
        return 0.1 ** (self._epoch(step) // self.settings.lr_drop)

    def _multistep(self, step: int, group: str) -> float:
        past = self._epoch(step) - self.settings.lr_drop
        return 1.0 if past < 0 else 0.5 ** (1 + past // MULTISTEP_PERIOD)

    def _linear(self, step: int, group: str) -> float:
        warmup_steps = round(self.settings.warmup * self.total_steps)
        if step < warmup_steps:
            return step / max(1, warmup_steps)
        return max(0.0, (self.total_steps - step) / max(1, self.total_steps - warmup_steps))

    def _linear_text_only(self, step: int, group: str) -> float:
        return self._linear(step, group) if group == "text_encoder" else self._step(step, group)

    def _epoch(self, step: int) -> int:
        return int(step / self.steps_per_epoch)


_FACTORS: dict[str, Callable[[Schedule, int, str], float]] = {
    "step": Schedule._step,
    "multistep": Schedule._multistep,
    "linear_with_warmup": Schedule._linear_text_only,
    "all_linear_with_warmup": Schedule._linear,
}


class EarlyStopper:
    """Decides when a score no longer improves.

    Earlier scores are read from the run's log, so that a resumed run continues to count.

    Args:
        settings: Which score, and how long to wait.
        keep: Function that keeps the model; called with the scores whenever they are the best so far.
    """

    def __init__(self, settings: EarlyStopping, keep: Callable[[Mapping[str, float]], None]) -> None:
        self.settings = settings
        self.keep = keep

    def should_stop(self, metrics: Mapping[str, float], history: Sequence[Mapping[str, float]]) -> bool:
        """Compare the newest score with those before.

        Args:
            metrics: Scores of the newest evaluation.
            history: Log of the run, including the newest evaluation.

        Returns:
            Whether to end the run.

        Raises:
            RecipeError: There is no such score.
        """
        # Find the score
        name = f"{EVALUATED}{self.settings.score}"
        if name not in metrics:
            known = [key.removeprefix(EVALUATED) for key in metrics]
            near = get_close_matches(self.settings.score, known, n=1) or known
            raise RecipeError(
                f"run.early_stopping.score: expected {' or '.join(near)}, got {self.settings.score}; use a "
                "score that the evaluation computes."
            )

        # Keep the newest model if it is the best, and count the evaluations since the best one
        scores = [entry[name] for entry in history if name in entry]
        best = scores.index(max(scores))
        if best == len(scores) - 1:
            self.keep(metrics)
        return len(scores) - 1 - best >= self.settings.patience
