"""Building of the components of a run from its settings: model, processor, collator, evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from mdetr.baselines.detectors import BASELINES, BaselineCollator, evaluate_baseline
from mdetr.checkpoints.conversion import read_answers
from mdetr.data.collate import Collator
from mdetr.data.examples import Example
from mdetr.data.held_out import TrainStore, open_store
from mdetr.data.store import Store
from mdetr.data.unusable import has_masks, unusable_answers, unusable_texts, without_masks
from mdetr.errors import RecipeError
from mdetr.evaluation.evaluator import evaluate
from mdetr.evaluation.metrics.detection import classes_of, read_classes
from mdetr.inference.grounder import Mdetr
from mdetr.model.answers import (
    CLEVR_QUERIES,
    CLEVR_TYPES,
    CLEVR_VOCABULARY,
    GQA_QUERIES,
    GQA_TYPES,
    TYPE,
    UNIFIED,
)
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.coordinates import Size
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.images import resized_size
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from mdetr.settings import STRICT
from mdetr.training.datasets import DataSettings
from mdetr.training.lora import LoraSettings, add_lora
from mdetr.training.pretrained_parts import BpeSettings, load_backbone_weights, packaged_model, train_bpe


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


def _nothing(store: Store) -> dict[int, str]:
    return {}


@dataclass(frozen=True)
class Components:
    """What is trained.

    model: called with a batch it gives an output with `loss` and `losses`.
    processor: makes its tensors, and is saved with it.
    collator: examples -> a batch, with "records".
    evaluate: scores it, as `mdetr.evaluation.evaluator.evaluate`.
    unusable: the rows of a store that it cannot learn from, each with the reason.
    check: raises an error for an example that cannot be collated.
    num_queries: boxes that it can give for a text; None where there is no such limit.
    """

    model: nn.Module
    processor: Any
    collator: Callable[[list[Any]], dict[str, Any]]
    evaluate: Callable[..., dict[str, float]] = evaluate
    unusable: Callable[[Store], dict[int, str]] = _nothing
    check: Callable[[Example], object] | None = None
    num_queries: int | None = None

    @property
    def image_size(self) -> Mapping[str, int] | None:
        """The model's "shortest_edge" and "longest_edge"; None where it keeps images as they are."""
        processor = getattr(self.processor, "image_processor", self.processor)
        size: Mapping[str, int] | None = processor.size if processor.do_resize else None
        return size

    def resized(self, size: Size) -> Size:
        """The size (height, width) that the processor gives to an image of a size, in pixels."""
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
        model, processor = _reload(checkpoint)

    # Choose what trains, and how
    if lora is not None:
        add_lora(model, lora)
    _freeze(model, settings.freeze)
    if gradient_checkpointing:
        _checkpoint_gradients(model)

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
    named = [entry.classes for entry in data.validation.values() if entry.classes is not None]
    classes = read_classes(named[0]) if named else classes_of(open_store(data.train[0]))
    model = BASELINES[baseline](classes, dict(settings.config), settings.start_from)
    with_masks = baseline == "maskrcnn"
    collator = BaselineCollator(classes, processor, data.augmentation == "none", with_masks)
    unusable = without_masks if with_masks else _nothing
    return Components(model, processor, collator, evaluate_baseline, unusable)


def _freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Parameters whose names have a part that fits do not train."""
    for pattern in patterns:
        found = [p for name, p in model.named_parameters() if re.search(pattern, name)]
        if not found:
            raise RecipeError(f"model.freeze: no parameter has a name with {pattern!r}.")
        for parameter in found:
            parameter.requires_grad_(False)


def _checkpoint_gradients(model: MdetrForObjectDetection) -> None:
    """Let the model compute its activations anew in the backward pass."""
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
        model, processor = _changed(Mdetr.from_pretrained(settings.start_from, device="cpu"), fields)
        processor.image_processor = _image_processor(image, processor.image_processor)
        return model, processor
    tokenizer = _tokenizer(settings.tokenizer, train)
    text = dict(fields.pop("text_config", {}))
    text_weights = None if settings.text_weights is None else packaged_model(settings.text_weights)
    if text_weights is not None:
        text_config = AutoConfig.from_pretrained(text_weights, **text)
        text_config.dtype = torch.float32  # whatever the saved precision; a run sets its own
        text_config._name_or_path = ""  # a path of this machine has no place in the saved model
    else:
        text |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        text_config = AutoConfig.for_model(text.pop("model_type", "roberta"), **text)
    config = MdetrConfig(text_config=text_config, **fields)
    model = MdetrForObjectDetection(config)
    if text_weights is not None:
        start = AutoModel.from_pretrained(text_weights, dtype=torch.float32)
        # A pooler is left out, and so are layers beyond those that text_config asks for.
        missing = model.text_encoder.load_state_dict(start.state_dict(), strict=False).missing_keys
        if missing:
            raise RecipeError(
                f"model.text_weights {settings.text_weights!r} has no {missing[0]}; leave out what makes "
                "the encoder larger in model.config.text_config."
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


def _changed(start: Mdetr, fields: Mapping[str, Any]) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    """A model with some other settings than the one to start from, and the weights of all that both have."""
    if not fields:
        return start.model, start.processor
    config = MdetrConfig(**{**start.model.config.to_dict(), **fields})
    model = MdetrForObjectDetection(config)
    known = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state = start.model.state_dict()
    kept = {name: tensor for name, tensor in state.items() if known.get(name) == tensor.shape}
    other = [name for name in state if name in known and name not in kept]
    if other and not set(fields) & {"answer_vocabulary", "num_queries"}:
        raise RecipeError(
            f"model.config makes {other[0]} of another size than the model to start from has it; "
            "leave out what changes sizes."
        )
    model.load_state_dict(kept, strict=False)
    start.processor.answer_types = config.answer_types
    start.processor.answer_vocabulary = config.answer_vocabulary
    return model, start.processor


def _image_processor(settings: ImageSettings, start: MdetrImageProcessor) -> MdetrImageProcessor:
    """A processor with the given settings, and for the rest those of `start`.

    Where only one side is given, the other follows in proportion.
    """
    given = {"shortest_edge": settings.shortest_edge, "longest_edge": settings.longest_edge}
    sides = {name: side for name, side in given.items() if side is not None}
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


def _reload(checkpoint: Path) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    return MdetrForObjectDetection.from_pretrained(checkpoint), MdetrProcessor.from_pretrained(checkpoint)


def _tokenizer(settings: BpeSettings | str, train: Sequence[TrainStore]) -> PreTrainedTokenizerFast:
    if isinstance(settings, BpeSettings):
        return train_bpe(_texts(train), settings.vocab_size)
    if settings == "roberta":
        return roberta_tokenizer()
    return cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(packaged_model(settings)))


def _texts(train: Sequence[TrainStore]) -> Iterator[str]:
    for entry in train:
        yield from open_store(entry).columns(["text"])["text"].to_pylist()


def answer_fields(wanted: str, stores: Sequence[Store]) -> dict[str, Any]:
    """answer_queries, answer_types and answer_vocabulary of a new model.

    Args:
        wanted: "clevr"; "data", for all answers of the stores, by type where all have one; or the folder of
            the released GQA answers. stores: to train on.

    Raises:
        RecipeError: the stores have no answers, or there is no such folder.
    """
    if wanted == "clevr":
        return _fields(CLEVR_QUERIES, CLEVR_TYPES, CLEVR_VOCABULARY)
    if wanted != "data":
        if not Path(wanted).is_dir():
            raise RecipeError(f'model.answers: expected "clevr", "data" or a folder, found {wanted!r}.')
        released = read_answers(wanted)
        return _fields(GQA_QUERIES, GQA_TYPES, {kind: released[kind] for kind in GQA_TYPES})
    counts: Counter[tuple[str | None, str]] = Counter()
    for store in stores:
        columns = store.columns(["answer_type", "answer"]).to_pydict().values()
        counts.update((kind, answer) for kind, answer in zip(*columns, strict=True) if answer is not None)
    if not counts:
        raise RecipeError("model.answers: data: the training stores have no answers.")
    if any(kind is None for kind, _ in counts):
        answers = Counter[str]()
        for (_, answer), count in counts.items():
            answers[answer] += count
        return _fields([UNIFIED], None, {UNIFIED: _by_count(answers)})
    kinds = sorted({str(kind) for kind, _ in counts})
    by_kind = {kind: Counter({a: n for (of, a), n in counts.items() if of == kind}) for kind in kinds}
    vocabulary = {kind: _by_count(answers) for kind, answers in by_kind.items()}
    if "binary" in vocabulary:
        vocabulary["binary"] = CLEVR_VOCABULARY["binary"]  # one logit, of the second
    return _fields([TYPE, *kinds], kinds, vocabulary)


def _by_count(answers: Counter[str]) -> list[str]:
    return sorted(answers, key=lambda answer: (-answers[answer], answer))


def _fields(queries: Sequence[str], types: Sequence[str] | None, vocabulary: Any) -> dict[str, Any]:
    return {
        "answer_queries": list(queries),
        "answer_types": None if types is None else list(types),
        "answer_vocabulary": {name: list(words) for name, words in vocabulary.items()},
    }
