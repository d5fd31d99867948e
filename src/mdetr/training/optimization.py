"""Parameter groups of the optimizer, their learning rates, and learning rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from mdetr.settings import STRICT, Fraction

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
    lr: NonNegativeFloat | None = None
    lr_backbone: NonNegativeFloat | None = None
    lr_text_encoder: NonNegativeFloat | None = None
    weight_decay: NonNegativeFloat = 1e-4
    max_gradient_norm: PositiveFloat = 0.1
    epochs: PositiveFloat | None = None
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


def suited_rate(parameters: int) -> float:
    """The learning rate for a model with so many parameters.

    It is the published rate for models of the published size. Smaller models learn at higher rates: with the
    square root of the size this comes near to those that the bundled models were trained with.
    """
    return min(HIGHEST_RATE, PUBLISHED_RATE * max(1.0, PUBLISHED_SIZE / parameters) ** 0.5)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """The three groups of the optimizer: names with "backbone", with "text_encoder", the rest.

    Rates that the settings leave open suit the model's size.

    Source: arXiv 2104.12763, appendix A.
    """
    parameters: dict[str, list[nn.Parameter]] = {"backbone": [], "text_encoder": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = next((key for key in ("backbone", "text_encoder") if key in name), "rest")
            parameters[group].append(parameter)
    rates = _rates(model, settings)
    return [
        {"name": name, "params": parameters[name], "lr": rates[name]}
        for name in parameters
        if parameters[name]
    ]


def _rates(model: nn.Module, settings: OptimizerSettings) -> dict[str, float]:
    """The learning rate of each group; those that the settings leave open suit the sizes."""
    total = sum(parameter.numel() for parameter in model.parameters())
    of_text = sum(p.numel() for name, p in model.named_parameters() if "text_encoder" in name)
    if settings.lr is None:
        lr = suited_rate(total)
        # A text encoder of the published size gets half; a small one has as much to learn as the rest.
        text_lr = min(lr, suited_rate(of_text) / 2) if of_text else lr / 2
    else:
        lr, text_lr = settings.lr, settings.lr / 2
    return {
        "backbone": lr / 10 if settings.lr_backbone is None else settings.lr_backbone,
        "text_encoder": text_lr if settings.lr_text_encoder is None else settings.lr_text_encoder,
        "rest": lr,
    }


def steps_per_epoch(settings: OptimizerSettings, examples: int) -> int:
    """The steps of an epoch over a number of examples; what does not fill a batch is left out of it."""
    return max(1, examples // settings.batch_size)


def total_steps(settings: OptimizerSettings, examples: int) -> int:
    """The steps of a run over a number of examples."""
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
