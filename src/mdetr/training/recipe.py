"""Recipes: the typed settings of a training run."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from mdetr.data.settings import STRICT, DataSettings, Fraction


@dataclass(frozen=True, config=STRICT)
class BpeSettings:
    """A byte-level BPE tokenizer to be trained on the texts of the training stores."""

    vocab_size: PositiveInt = 1000


@dataclass(frozen=True, config=STRICT)
class LoraSettings:
    """Low-rank additions to linear layers (arXiv 2106.09685), which are all that trains but for the heads.

    rank, alpha: of each addition, which counts alpha / rank times. dropout: before it.
    layers: a pattern that fits the whole name of each layer that gets one.
    also: patterns of the names of parameters that train as they are.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Fraction = 0.0
    layers: str = r"text_encoder\..*\.(query|value)|(encoder|decoder)\.\d+\.feed_forward\.linear[12]"
    also: list[str] = field(default_factory=lambda: [r"_head\.", r"_alignment\.", r"answers\."])


@dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """Where the model comes from.

    start_from: a name of `mdetr models`, a folder or a Hub id to fine-tune; its tokenizer is kept.
    config: fields of `MdetrConfig`: all of a new model, or what changes in the one to start from, such as new
        heads.
    tokenizer: "roberta", a folder, or a BPE to train.
    text_weights: the folder or Hub id of a text encoder, such as roberta-base, which a new model takes over
        with its configuration.
    backbone_weights: "timm", for timm's own ImageNet weights, or a package that ships some.
    answers: what a model that answers questions can say: "clevr", "data" (all answers of the training
        stores), or the folder of the released GQA answers.
    freeze: patterns of the names of parameters that do not train.
    lora: train small additions to the weights, not the weights.
    baseline: a detector without text instead, whose settings are in `config`.
    """

    start_from: str | None = None
    text_weights: str | None = None
    answers: str | None = None
    freeze: list[str] = field(default_factory=list)
    lora: LoraSettings | None = None
    baseline: Literal["detr", "maskrcnn"] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: BpeSettings | str = "roberta"
    backbone_weights: str | None = None


@dataclass(frozen=True, config=STRICT)
class ImageSettings:
    """How images become tensors: sides in pixels when evaluating, mean and deviation per channel.

    What is left out is as the model to start from has it; for a new one 800, 1333, and ImageNet's. Where one
    side is left out, it follows the other in proportion.
    """

    shortest_edge: PositiveInt | None = None
    longest_edge: PositiveInt | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass(frozen=True, config=STRICT)
class OptimizerSettings:
    """AdamW with three groups of parameters; `batch_size` counts images over all processes.

    lr: null for what suits the model's size: 1e-4, as published, for 100 million parameters and more, and for
        smaller models more, up to 1e-3.
    lr_backbone, lr_text_encoder: null for a tenth and a half of `lr`, as published; where `lr` is null too, a
        small text encoder gets half of what suits its own size, and at most `lr`.
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
    """How the learning rates change; see `mdetr.training.optimization`. lr_drop is in epochs."""

    name: Literal["step", "multistep", "linear_with_warmup", "all_linear_with_warmup"] = (
        "all_linear_with_warmup"
    )
    lr_drop: PositiveInt = 35
    warmup: Fraction = 0.01
    start_at_base: bool = True


@dataclass(frozen=True, config=STRICT)
class EmaSettings:
    """The average of the weights that is evaluated and saved.

    decay: fraction of the average that each step keeps.
    ramp: whether the decay starts low and rises with the steps, so that the average suits a run of any
        length; without it the average of a short run is mostly the model that was started from.
    """

    decay: Fraction = 0.9998
    ramp: bool = True


@dataclass(frozen=True, config=STRICT)
class EarlyStopping:
    """A run ends when a score has not risen for `patience` evaluations, and leaves the best model.

    score: as metrics.json has it, without "eval_": "shapes_referring_precision@1".
    """

    score: str
    patience: PositiveInt = 3


@dataclass(frozen=True, config=STRICT)
class RunSettings:
    """How the run is carried out and what it writes; all intervals are in steps.

    gradient_checkpointing: compute activations anew in the backward pass, for less memory and more time.
    sharding: "fsdp" spreads weights, gradients and moments over the processes.
    timeout: minutes after which a process that waits for another gives up.
    keep: how many checkpoints; two at least, since a run may be killed while it writes one.
    trackers: where the log goes besides TensorBoard: "wandb", "mlflow", which must be installed.
    push_to_hub: the Hub's name of a repository that gets the model, its report and its recipe at the end.
    """

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    gradient_checkpointing: bool = False
    sharding: Literal["none", "fsdp"] = "none"
    timeout: PositiveFloat = 30.0
    early_stopping: EarlyStopping | None = None
    push_to_hub: str | None = None
    trackers: list[Literal["wandb", "mlflow"]] = field(default_factory=list)
    workers: NonNegativeInt = 2
    log_every: PositiveInt = 50
    evaluate_every: PositiveInt = 1000
    save_every: PositiveInt = 1000
    keep: Annotated[int, Field(ge=2)] = 2
    pictures: NonNegativeInt = 8
    gradient_accumulation: PositiveInt = 1


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """Everything that a training run depends on."""

    data: DataSettings
    optimizer: OptimizerSettings
    model: ModelSettings = field(default_factory=ModelSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    ema: EmaSettings | None = field(default_factory=EmaSettings)
    run: RunSettings = field(default_factory=RunSettings)
    seed: int = 0
