"""Building of the components of a run from their settings: model, processor, collator, evaluation."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from mdetr.baselines.detectors import BASELINES, BaselineCollator, evaluate_baseline
from mdetr.checkpoints.loading import load, load_folder
from mdetr.data.collate import Collator
from mdetr.data.examples import Example
from mdetr.data.held_out import TrainStore, open_store
from mdetr.data.store import Store
from mdetr.data.unusable import has_masks, unusable_answers, unusable_texts, without_masks
from mdetr.errors import MissingDependencyError, RecipeError
from mdetr.evaluation.evaluator import evaluate
from mdetr.evaluation.metrics.detection import classes_of, read_classes
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.coordinates import Size
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.layouts import resized_size
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from mdetr.settings import STRICT, Fraction
from mdetr.training.datasets import DataSettings
from mdetr.training.pretrained_parts import (
    BpeSettings,
    answer_fields,
    load_backbone_weights,
    packaged_model,
    train_bpe,
)


@pydantic_dataclass(frozen=True, config=STRICT)
class LoraSettings:
    """Settings of LoRA: low-rank adapters beside linear layers (arXiv 2106.09685).

    Attributes:
        rank: Rank of each adapter.
        alpha: Scale: an adapter's output is multiplied by alpha / rank.
        dropout: Dropout before each adapter.
        layers: Regular expression that the full name of a layer must match to get an adapter.
        also: Regular expressions; parameters whose name contains a match are trained themselves.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Fraction = 0.0
    layers: str = r"text_encoder\..*\.(query|value)|(encoder|decoder)\.\d+\.feed_forward\.linear[12]"
    also: list[str] = field(default_factory=lambda: [r"_head\.", r"_alignment\.", r"answers\."])


@pydantic_dataclass(frozen=True, config=STRICT)
class ModelSettings:
    """Settings of the model to train.

    Attributes:
        start_from: A name of `mdetr models`, a folder or a Hub id to fine-tune; its tokenizer is kept.
        text_weights: Folder or Hub id of a text encoder, such as roberta-base, whose weights and
            configuration a new model starts from.
        answers: Answers of a model for questions: "clevr", "data" (all answers of the training stores), or
            the folder of the released GQA answers.
        freeze: Regular expressions; parameters whose name contains a match do not train.
        lora: Train low-rank adapters instead of the weights.
        baseline: Train a detector without text instead, whose settings are in `config`.
        config: Fields of `MdetrConfig`: all of a new model's, or those to change in the model to start from,
            such as new heads.
        tokenizer: "roberta", a folder, or a BPE to train.
        backbone_weights: "timm" for timm's ImageNet weights, or a package that ships some.
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


@pydantic_dataclass(frozen=True, config=STRICT)
class ImageSettings:
    """Settings of the image processor; null for the value of the model to start from.

    A new model has 800, 1333, and ImageNet's mean and deviation. If only one side is given, the other follows
    in proportion.

    Attributes:
        shortest_edge: Shortest side in evaluation, in pixels.
        longest_edge: Limit of the longest side in evaluation, in pixels.
        mean: Mean of each channel, 0 to 1.
        std: Standard deviation of each channel.
    """

    shortest_edge: PositiveInt | None = None
    longest_edge: PositiveInt | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


def _none_unusable(store: Store) -> dict[int, str]:
    return {}


@dataclass(frozen=True)
class Components:
    """A model, and all that makes its batches and evaluates it.

    Attributes:
        model: Called with a batch, it returns an output with `loss` and `losses`.
        processor: Makes its tensors, and is saved with it.
        collator: Function from examples to a batch, which includes the "records".
        evaluate: Function that scores it; see `mdetr.evaluation.evaluator.evaluate`.
        unusable: Function from a store to the rows that cannot be used for training, each with the reason.
        check: Function that raises an error for an example that cannot be collated.
        num_queries: Limit of the boxes that it predicts for a text; None for no limit.
    """

    model: nn.Module
    processor: Any
    collator: Callable[[list[Any]], dict[str, Any]]
    evaluate: Callable[..., dict[str, float]] = evaluate
    unusable: Callable[[Store], dict[int, str]] = _none_unusable
    check: Callable[[Example], object] | None = None
    num_queries: int | None = None

    @property
    def image_size(self) -> Mapping[str, int] | None:
        """The model's "shortest_edge" and "longest_edge" in pixels; None if it does not resize images."""
        processor = getattr(self.processor, "image_processor", self.processor)
        size: Mapping[str, int] | None = processor.size if processor.do_resize else None
        return size

    def resized(self, size: Size) -> Size:
        """Return the size (height, width) in pixels to which the processor resizes an image of a size."""
        if self.image_size is None:
            return size
        return resized_size(size, self.image_size["shortest_edge"], self.image_size.get("longest_edge"))


def build_components(
    settings: ModelSettings,
    image: ImageSettings,
    data: DataSettings,
    gradient_checkpointing: bool = False,
    checkpoint: Path | None = None,
) -> Components:
    """Build the model and all that makes its batches and evaluates it.

    Args:
        settings: Which model.
        image: How images become tensors.
        data: Stores to train on, whose texts and answers a new model may need, and how they are augmented.
        gradient_checkpointing: Recompute activations in the backward pass, for less memory and more time.
        checkpoint: Checkpoint of a run to take the model from; None for the model at the start of a run.

    Returns:
        The components.

    Raises:
        RecipeError: Settings contradict each other, or name something that does not exist.
    """
    if settings.baseline is not None:
        if settings.lora is not None or gradient_checkpointing:
            raise RecipeError("A baseline trains without model.lora and run.gradient_checkpointing.")
        return _build_baseline(settings.baseline, settings, image, data)

    # Make the model, or load it from the checkpoint; a checkpoint with adapters is no whole model, and the
    # training loop loads its weights later
    lora = settings.lora
    if checkpoint is None or lora is not None:
        model, processor = make_model(settings, image, data.train)
    else:
        model, processor = load_folder(checkpoint, checkpoint, dtype="auto")

    # Choose what trains, and how
    if lora is not None:
        add_lora(model, lora)
    _freeze(model, settings.freeze)
    if gradient_checkpointing:
        _checkpoint_gradients(model)

    # Collate masks only if there are any to learn from
    with_masks = model.config.predict_masks and any(map(has_masks, map(open_store, data.train)))
    collator = Collator(processor, data.augmentation == "none", with_masks=with_masks, with_records=True)

    def unusable(store: Store) -> dict[int, str]:
        reasons = unusable_answers(store, processor) | unusable_texts(store, processor)
        return (without_masks(store) if with_masks else {}) | reasons

    return Components(
        model,
        processor,
        collator,
        unusable=unusable,
        check=collator.check,
        num_queries=model.config.num_queries,
    )


def _build_baseline(
    baseline: str, settings: ModelSettings, image: ImageSettings, data: DataSettings
) -> Components:
    """Build the components of a detector without text."""
    processor = _image_processor(image, MdetrImageProcessor())

    # Take the classes from the annotations of the validation data, or else from the training data
    named = [entry.classes for entry in data.validation.values() if entry.classes is not None]
    classes = read_classes(named[0]) if named else classes_of(open_store(data.train[0]))

    # Build the detector; only Mask R-CNN learns masks
    model = BASELINES[baseline](classes, dict(settings.config), settings.start_from)
    with_masks = baseline == "maskrcnn"
    collator = BaselineCollator(classes, processor, data.augmentation == "none", with_masks)
    unusable = without_masks if with_masks else _none_unusable
    return Components(model, processor, collator, evaluate_baseline, unusable)


def _freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names contain a match of a pattern."""
    for pattern in patterns:
        matching = [value for name, value in model.named_parameters() if re.search(pattern, name)]
        if not matching:
            raise RecipeError(
                f"model.freeze: expected a pattern that matches names of parameters, got {pattern!r}, which "
                "matches none; look the names up in the model's `named_parameters()`."
            )
        for parameter in matching:
            parameter.requires_grad_(False)


def _checkpoint_gradients(model: MdetrForObjectDetection) -> None:
    """Let the model recompute its activations in the backward pass."""
    enable = getattr(model, "activation_checkpointing_enable", None)  # its name since transformers 5.20
    (enable or model.gradient_checkpointing_enable)()


def make_model(
    settings: ModelSettings, image: ImageSettings, train: Sequence[TrainStore]
) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    """Make the model that training starts from, and its processor.

    Args:
        settings: Which model.
        image: How images become tensors.
        train: Stores whose texts and answers a new model may need.

    Returns:
        The model on the CPU, and its processor.

    Raises:
        RecipeError: Settings contradict each other, or name something that does not exist.
    """
    fields = dict(settings.config)
    if settings.answers is not None:
        fields |= answer_fields(settings.answers, list(map(open_store, train)))
    if settings.start_from is not None:
        model, processor = _changed(*load(settings.start_from), fields)
        processor.image_processor = _image_processor(image, processor.image_processor)
        return model, processor
    return _new_model(settings, fields, image, train)


def _new_model(
    settings: ModelSettings, fields: dict[str, Any], image: ImageSettings, train: Sequence[TrainStore]
) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    """Make a model that starts from the weights of a text encoder and a backbone, or from random ones."""
    # Configure the text encoder
    tokenizer = _tokenizer(settings.tokenizer, train)
    text = dict(fields.pop("text_config", {}))
    text_weights = None if settings.text_weights is None else packaged_model(settings.text_weights)
    if text_weights is not None:
        text_config = AutoConfig.from_pretrained(text_weights, **text)
        text_config.dtype = torch.float32  # the saved weights may be in half precision
        text_config._name_or_path = ""  # keep paths of this machine out of the saved model
    else:
        text |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        text_config = AutoConfig.for_model(text.pop("model_type", "roberta"), **text)
    config = MdetrConfig(text_config=text_config, **fields)
    model = MdetrForObjectDetection(config)

    # Load weights; those of a pooler, or of more layers than text_config has, are ignored
    if text_weights is not None:
        start = AutoModel.from_pretrained(text_weights, dtype=torch.float32)
        missing = model.text_encoder.load_state_dict(start.state_dict(), strict=False).missing_keys
        if missing:
            raise RecipeError(
                f"model.text_weights {settings.text_weights!r} has no {missing[0]}; leave out the fields of "
                "model.config.text_config that make the encoder larger."
            )
    if settings.backbone_weights is not None:
        load_backbone_weights(model.backbone, config.backbone, settings.backbone_weights)

    processor = MdetrProcessor(
        _image_processor(image, MdetrImageProcessor()),
        tokenizer,
        max_text_tokens=config.num_token_positions,
        answer_types=config.answer_types,
        answer_vocabulary=config.answer_vocabulary,
    )
    return model, processor


def _changed(
    start: MdetrForObjectDetection, processor: MdetrProcessor, fields: Mapping[str, Any]
) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    """Change fields of a model's configuration, and keep the weights that both models have."""
    if not fields:
        return start, processor
    config = MdetrConfig(**{**start.config.to_dict(), **fields})
    model = MdetrForObjectDetection(config)

    # Keep the weights of the same name and shape; only new answers and queries may change shapes
    target = model.state_dict()
    kept: dict[str, Tensor] = {}
    other: list[str] = []
    for name, tensor in start.state_dict().items():
        if name in target and target[name].shape == tensor.shape:
            kept[name] = tensor
        elif name in target:
            other.append(name)
    if other and not set(fields) & {"answer_vocabulary", "num_queries"}:
        raise RecipeError(
            f"model.config: expected {other[0]} to keep the size that it has in the model to start from; "
            "leave out the fields that change sizes."
        )
    model.load_state_dict(kept, strict=False)
    processor.answer_types = config.answer_types
    processor.answer_vocabulary = config.answer_vocabulary
    return model, processor


def _image_processor(settings: ImageSettings, start: MdetrImageProcessor) -> MdetrImageProcessor:
    """Make a processor with the given settings, and those of `start` where they are None.

    If only one side is given, the other follows in proportion.
    """
    sides: dict[str, int] = {}
    if settings.shortest_edge is not None:
        sides["shortest_edge"] = settings.shortest_edge
    if settings.longest_edge is not None:
        sides["longest_edge"] = settings.longest_edge

    # Scale the other side of the processor to start from
    size = dict(start.size or {})
    if len(sides) == 1:
        ((name, side),) = sides.items()
        factor = side / size.get(name, side)
        size = {other: round(factor * own) for other, own in size.items()}
    size |= sides
    return MdetrImageProcessor(
        do_resize=start.do_resize or bool(sides),
        size=size or None,
        image_mean=list(settings.mean or start.image_mean),
        image_std=list(settings.std or start.image_std),
        pad_to_multiple=start.pad_to_multiple,
    )


def _tokenizer(settings: BpeSettings | str, train: Sequence[TrainStore]) -> PreTrainedTokenizerFast:
    if isinstance(settings, BpeSettings):
        return train_bpe(_texts(train), settings.vocab_size)
    if settings == "roberta":
        return roberta_tokenizer()
    return cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(packaged_model(settings)))


def _texts(train: Sequence[TrainStore]) -> Iterator[str]:
    for entry in train:
        yield from open_store(entry).columns(["text"])["text"].to_pylist()


def add_lora(model: nn.Module, settings: LoraSettings) -> None:
    """Add LoRA adapters to a model, and freeze all its parameters but these and those that the settings name.

    Args:
        model: Model to change in place.
        settings: Which layers get adapters, and of which rank.

    Raises:
        RecipeError: No layer has such a name.
        MissingDependencyError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingDependencyError("model.lora needs PEFT: pip install 'mdetr[lora]'.") from None

    if not any(re.fullmatch(settings.layers, name) for name, _ in model.named_modules()):
        raise RecipeError(
            f"model.lora.layers: expected a pattern that matches names of layers, got {settings.layers!r}, "
            "which matches none; look the names up in the model's `named_modules()`."
        )
    # Add the adapters, which freezes all other parameters
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=settings.layers,
    )
    inject_adapter_in_model(config, model)

    # Unfreeze those that train in full
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in settings.also):
            parameter.requires_grad_(True)


def merge_lora(model: nn.Module) -> nn.Module:
    """Merge LoRA adapters into the weights.

    Args:
        model: Model with or without adapters.

    Returns:
        A copy with merged weights and without adapters; the model itself if it has no adapters.
    """
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    merged = copy.deepcopy(model)
    for name, layer in list(merged.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            merged.set_submodule(name, layer.get_base_layer())
    return merged
