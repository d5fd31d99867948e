"""Recipes: typed settings of a training run, read from YAML."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from mdetr.data.side_words import Language
from mdetr.errors import RecipeError
from mdetr.training.shipped import find_recipe

_LOG = logging.getLogger(__name__)
_STRICT = ConfigDict(extra="forbid")
OLD_NAMES = {"optimiser": "optimizer"}  # of sections; they go with version 0.2
Share = Annotated[float, Field(ge=0, le=1)]
Part = Literal["all", "train", "validation"]
JSON_LINES = ".jsonl"  # what the names of such files end in


@dataclass(frozen=True, config=_STRICT)
class BpeSettings:
    """A byte-level BPE tokenizer to be trained on the texts of the training stores."""

    vocab_size: PositiveInt = 1000


@dataclass(frozen=True, config=_STRICT)
class LoraSettings:
    """Low-rank additions to linear layers (arXiv 2106.09685), which are all that trains but for the heads.

    rank, alpha: of each addition, which counts alpha / rank times. dropout: before it.
    layers: a pattern that fits the whole name of each layer that gets one.
    also: patterns of the names of parameters that train as they are.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Share = 0.0
    layers: str = r"text_encoder\..*\.(query|value)|(encoder|decoder)\.\d+\.feed_forward\.linear[12]"
    also: list[str] = field(default_factory=lambda: [r"_head\.", r"_alignment\.", r"answers\."])


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class ImageSettings:
    """How images become tensors: sides in pixels when evaluating, mean and deviation per channel.

    What is left out is as the model to start from has it; for a new one 800, 1333, and ImageNet's. Where one
    side is left out, it follows the other in proportion.
    """

    shortest_edge: PositiveInt | None = None
    longest_edge: PositiveInt | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass(frozen=True, config=_STRICT)
class FixedSizeAugmentation:
    """Flip, crop, color jitter, and always the same output size, in pixels.

    flip_languages: Those of the texts, such as [en, de]: words for left and right change places in a mirrored
    image's texts. An image stays as it is if one of its texts names a side in another language.
    """

    height: PositiveInt
    width: PositiveInt
    smallest_crop: Share = 0.7
    flip_probability: Share = 0.5
    flip_languages: list[Language] = field(default_factory=list)
    jitter: Share = 0.2


@dataclass(frozen=True, config=_STRICT)
class ScaleJitterAugmentation:
    """Flip, zoom out or crop, resize with the aspect kept, color jitter.

    sides: what the longest side may be, in pixels.
    smallest_crop: the least fraction of the image's sides that a crop keeps.
    zoom_out: the sides of the largest canvas that the image is put on, as a multiple of its own; 1 for none.
    flip_languages: as in `FixedSizeAugmentation`.
    """

    sides: Annotated[list[PositiveInt], Field(min_length=1)]
    smallest_crop: Share = 0.4
    zoom_out: Annotated[float, Field(ge=1)] = 1.8
    flip_probability: Share = 0.5
    flip_languages: list[Language] = field(default_factory=list)
    jitter: Share = 0.2


@dataclass(frozen=True, config=_STRICT)
class TrainStore:
    """A store to train on; images are drawn from it in proportion to `weight` times their number.

    store: its folder, or a JSON Lines file of your own (docs/data.md), of which a store is made.
    part: "train" for all but one image in ten, which are chosen by their names, "validation" for that one.
    """

    store: Path
    weight: PositiveFloat = 1.0
    part: Part = "all"


@dataclass(frozen=True, config=_STRICT)
class ValidationStore:
    """A store to evaluate on, the tasks that score it, and at most how many of its images.

    classes: for the task "detection", the annotation file (LVIS's, COCO's) whose classes are all looked for.
    part: as in `TrainStore`.
    """

    store: Path
    tasks: list[str]
    max_images: PositiveInt | None = None
    classes: Path | None = None
    part: Part = "all"


@dataclass(frozen=True, config=_STRICT)
class DataSettings:
    """What is learned from and what is evaluated.

    examples: "image", where an epoch takes some texts of every image, or "text", where it takes every text by
    itself, as the published models were trained. texts_per_image: how many texts of an image share one
    encoding of it in a training step; null for all.
    augmentation: "model_size", random crops resized to the image size of the model (or of `image`);
        "published", the published crops and sizes, whatever the model's; "clevr"; "none"; or settings for
        images of one size or for jittered scales.
    compose_texts: whether texts are composed anew, in every epoch, from the class names of an image's boxes,
        where the store says what is absent (docs/photo-tiny.md).
    allow_shared_images: whether training and validation may have images in common, which is an error
        otherwise. Unless it is true, one image in ten is for validation alone where both name the same data.
    group_by_shape: whether the images of a batch are chosen to have like shapes, so that little is padded.
    """

    train: list[TrainStore]
    validation: dict[str, ValidationStore] = field(default_factory=dict)
    examples: Literal["image", "text"] = "image"
    texts_per_image: PositiveInt | None = 1
    augmentation: (
        FixedSizeAugmentation | ScaleJitterAugmentation | Literal["model_size", "published", "clevr", "none"]
    ) = "model_size"
    compose_texts: bool = False
    group_by_shape: bool = True
    allow_shared_images: bool = False


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class ScheduleSettings:
    """How the learning rates change; see `mdetr.training.schedules`. lr_drop is in epochs."""

    name: Literal["step", "multistep", "linear_with_warmup", "all_linear_with_warmup"] = (
        "all_linear_with_warmup"
    )
    lr_drop: PositiveInt = 35
    warmup: Share = 0.01
    start_at_base: bool = True


@dataclass(frozen=True, config=_STRICT)
class EmaSettings:
    """The average of the weights that is evaluated and saved.

    decay: fraction of the average that each step keeps.
    ramp: whether the decay starts low and rises with the steps, so that the average suits a run of any
        length; without it the average of a short run is mostly the model that was started from.
    """

    decay: Share = 0.9998
    ramp: bool = True


@dataclass(frozen=True, config=_STRICT)
class EarlyStopping:
    """A run ends when a score has not risen for `patience` evaluations, and leaves the best model.

    score: as metrics.json has it, without "eval_": "shapes_referring_precision@1".
    """

    score: str
    patience: PositiveInt = 3


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file, or a name of `mdetr recipes`.
        changes: "key.in.recipe=value" entries that replace its values; values are YAML.
            "data=FILE" stands for all its stores, "model=FOLDER" for model.start_from.

    Raises:
        RecipeError: the file is missing or no YAML, a key is unknown, a value is of the wrong kind.
    """
    file = find_recipe(path)
    try:
        content = yaml.load(file.read_text(encoding="utf-8-sig"), _EachKeyOnce)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"{file} should hold keys such as data and optimizer; found {type(content).__name__}."
        )
    content = _with_field_names(content, str(file))
    changed = [_apply(content, change) for change in changes]
    for length, other in (("steps", "epochs"), ("epochs", "steps")):
        # A run has one length, so that the one given here replaces the file's.
        if f"optimizer.{length}" in changed and f"optimizer.{other}" not in changed:
            settings = content["optimizer"]
            if settings[length] is not None:
                settings.pop(other, None)
    return parse_recipe(content, str(file))


def parse_recipe(content: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """Nested dictionaries in, a checked recipe out; `where` is named in errors.

    Raises:
        RecipeError: a key is unknown or missing, or a value is of the wrong kind.
    """
    content = _with_field_names(content, where)
    try:
        recipe = TypeAdapter(Recipe).validate_python(content)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error)}") from None
    _check_names(recipe, where)
    return recipe


def check_files(recipe: Recipe, training: bool = True) -> None:
    """See that every store that the recipe names is there, before anything starts.

    Args:
        recipe: what is to be run. training: whether its training stores are needed too.

    Raises:
        RecipeError: some are missing; all of them are listed.
    """
    stores = [entry.store for entry in recipe.data.train] if training else []
    stores += [entry.store for entry in recipe.data.validation.values()]
    files = [entry.classes for entry in recipe.data.validation.values() if entry.classes is not None]
    lines = [store for store in stores if is_json_lines(store)]
    folders = [store for store in stores if store not in lines]
    missing = [path for path in (*lines, *files) if not path.is_file()]
    if missing:
        raise RecipeError(
            f"There is no file {_listed(missing)}; check the path, or name another with --set data=PATH."
        )
    missing = [path for path in folders if not path.exists()]
    if missing:
        raise RecipeError(
            f"There is no store {_listed(missing)}; make it with 'mdetr data import', or name a store or a "
            f"{JSON_LINES} file with --set data=PATH."
        )
    unknown = [path for path in folders if path.is_file()]
    if unknown:
        raise RecipeError(
            f"{_listed(unknown)} is neither a store nor a {JSON_LINES} file; make a store of it with "
            "'mdetr data import', or write a JSON object on each line (docs/data.md)."
        )


def is_json_lines(path: Path) -> bool:
    """Whether a path that a recipe names as a store is a JSON Lines file, of which a store is made."""
    return path.suffix.lower() == JSON_LINES and not path.is_dir()


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(map(str, paths)))


def to_yaml(recipe: Recipe) -> str:
    """The recipe with all defaults filled in, as YAML."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return yaml.safe_dump(plain(asdict(recipe)), sort_keys=False)  # type: ignore[call-overload]


class _EachKeyOnce(yaml.SafeLoader):
    """YAML of which a key that is there twice is an error; PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _with_field_names(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The content of a recipe with `OLD_NAMES` of its sections replaced."""
    for old, name in OLD_NAMES.items():
        if old in content and name in content:
            raise RecipeError(f"{where}: {old} and {name} are the same section; keep one.")
    return {_new_name(name, where): value for name, value in content.items()}


def _new_name(section: str, where: str) -> str:
    """The name that a section has now, with a notice where an old one was used."""
    if section not in OLD_NAMES:
        return section
    _LOG.warning(
        "%s: write %s instead of %s, which goes with version 0.2.", where, OLD_NAMES[section], section
    )
    return OLD_NAMES[section]


def _apply(content: dict[str, Any], change: str) -> str:
    """Make a change, and tell its key."""
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set wants key=value, as in optimizer.lr=1e-4; found {change!r}.")
    section, *rest = key.split(".")
    key = ".".join([_new_name(section, "--set"), *rest])
    *parents, last = key.split(".")
    if key in ("data", "model") and not value.lstrip().startswith("{"):
        _name(content, key, value)
        return key
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {key}: {value!r} is not valid YAML.") from None
    place: Any = content
    try:
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else place[int(parent)]
        place[int(last) if isinstance(place, list) else last] = parsed
    except (IndexError, TypeError, ValueError):
        raise RecipeError(f"--set {key}: the recipe has no such place.") from None
    return key


def _name(content: dict[str, Any], key: str, value: str) -> None:
    """`data=FILE` names what is trained on and evaluated, `model=FOLDER` what is started from."""
    value = os.path.expanduser(value)  # a shell leaves the ~ of key=~/path alone
    if key == "model":
        content.setdefault("model", {})["start_from"] = value
        return
    data = content.setdefault("data", {})
    data["train"] = [{"store": value}]
    for entry in data.get("validation", {}).values():
        entry["store"] = value


def _check_names(recipe: Recipe, where: str) -> None:
    from mdetr.evaluation.metrics.registry import TASKS
    from mdetr.model.config import MdetrConfig  # only a recipe that can be read is worth loading torch

    known = MdetrConfig.names()
    for name in recipe.model.config if recipe.model.baseline is None else ():
        if name not in known:
            raise RecipeError(f"{where}: unknown key model.config.{name}{_near(name, sorted(known))}.")
    for name, entry in recipe.data.validation.items():
        for task in entry.tasks:
            if task not in TASKS:
                place = f"data.validation.{name}.tasks"
                raise RecipeError(f"{where}: unknown task {task!r} in {place}{_near(task, TASKS)}.")
    stopping = recipe.run.early_stopping
    if stopping is not None and not any(
        stopping.score.startswith(f"{name}_") for name in recipe.data.validation
    ):
        raise RecipeError(
            f"{where}: run.early_stopping.score should begin with the name of a validation store "
            f"({', '.join(recipe.data.validation) or 'there is none'}); found {stopping.score!r}."
        )
    brought = {"text_weights": None, "backbone_weights": None, "tokenizer": "roberta"}
    given = [name for name, value in brought.items() if getattr(recipe.model, name) != value]
    if recipe.model.start_from is not None and given:
        raise RecipeError(
            f"{where}: the model of model.start_from brings its own; leave out model.{given[0]}."
        )
    if (recipe.optimizer.epochs is None) == (recipe.optimizer.steps is None):
        raise RecipeError(f"{where}: give either optimizer.epochs or optimizer.steps.")


def _explain(error: ValidationError) -> str:
    """The first of pydantic's complaints, in one sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not _is_type_name(part))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        *parents, name = [part for part in first["loc"] if not _is_type_name(part)]
        return f"unknown key {place}{_near(str(name), _known_keys(parents))}."
    if first["type"] in ("missing", "missing_argument"):
        return f"the key {place} is missing."
    return f"{place}: {first['msg']}, found {first['input']!r}."


def _is_type_name(part: Any) -> bool:
    """pydantic names the member of a union among the keys: FixedSizeAugmentation, literal[...]."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part)


def _known_keys(parents: Sequence[Any]) -> list[str]:
    kind: Any = Recipe
    for parent in parents:
        if isinstance(parent, str) and is_dataclass(kind) and parent in _fields(kind):
            kind = _dataclass_in(_fields(kind)[parent].annotation)
    return sorted(_fields(kind)) if is_dataclass(kind) else []


def _fields(kind: Any) -> dict[str, Any]:
    return dict(kind.__pydantic_fields__)


def _dataclass_in(annotation: Any) -> Any:
    """The settings class that an annotation such as `list[TrainStore]` or `EmaSettings | None` speaks of."""
    if is_dataclass(annotation):
        return annotation
    return next((found for item in get_args(annotation) if (found := _dataclass_in(item))), None)


def _near(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=2)
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    return f" (known: {', '.join(known)})" if known else ""
