"""Recipe of a training run: the settings of all its components."""

from __future__ import annotations

from dataclasses import field

from pydantic.dataclasses import dataclass

from mdetr.settings import STRICT
from mdetr.training.build import ImageSettings, ModelSettings
from mdetr.training.datasets import DataSettings
from mdetr.training.ema import EmaSettings
from mdetr.training.loop import RunSettings
from mdetr.training.optimization import OptimizerSettings, ScheduleSettings


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Settings of a training run; each section is described where the component it configures is.

    Attributes:
        data: Data to train and evaluate on.
        optimizer: Optimizer and length of the run.
        model: Model to train.
        image: How images become tensors.
        schedule: Learning rates over the run.
        ema: Average of the weights; null for none.
        run: Training loop, and what it writes.
        seed: Seed of all random choices.
    """

    data: DataSettings
    optimizer: OptimizerSettings
    model: ModelSettings = field(default_factory=ModelSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    ema: EmaSettings | None = field(default_factory=EmaSettings)
    run: RunSettings = field(default_factory=RunSettings)
    seed: int = 0
