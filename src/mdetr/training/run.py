"""A run: a recipe in; a folder with the resolved recipe, checkpoints, logs, pictures and the model out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn
from torch.utils.tensorboard import SummaryWriter
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    TrainingArguments,
    set_seed,
)
from transformers.integrations import TensorBoardCallback

from mdetr.data.collate import Collator
from mdetr.data.store import Store
from mdetr.errors import RecipeError, TrainingError
from mdetr.images import MdetrImageProcessor
from mdetr.inference.grounder import Mdetr
from mdetr.model.config import MdetrConfig
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor, roberta_tokenizer
from mdetr.tasks.detection import classes_of, read_classes
from mdetr.training.answer_space import answer_fields
from mdetr.training.backbone_weights import load_backbone_weights
from mdetr.training.baselines import BASELINES, BaselineCollator, evaluate_baseline
from mdetr.training.datasets import training_data
from mdetr.training.evaluation import Validation
from mdetr.training.own_data import import_own_data
from mdetr.training.pictures import PredictionPictures
from mdetr.training.recipe import BpeSettings, Recipe, RunSettings, check_files, to_yaml
from mdetr.training.tokenizer import train_bpe
from mdetr.training.trainer import Learner, MdetrTrainer, last_checkpoint

RECIPE_FILE, METRICS_FILE, MODEL_FOLDER = "recipe.yaml", "metrics.json", "model"


def train(recipe: Recipe, output: Path, resume: bool = False) -> Path:
    """Train by a recipe.

    Args:
        recipe: all settings. output: the run's folder. resume: whether to go on from its last checkpoint.

    Returns:
        The folder of the trained model (its averaged weights, where the recipe keeps an average).

    Raises:
        RecipeError: a file that the recipe names is missing.
        TrainingError: the folder holds another run already, or the loss is not finite.
    """
    check_files(recipe)
    recipe = import_own_data(recipe, output)
    checkpoint = last_checkpoint(output) if resume else None
    if not resume and any(output.glob("checkpoint-*")):
        raise TrainingError(f"{output} holds a run already: go on with --resume, or name another --output.")
    output.mkdir(parents=True, exist_ok=True)
    set_seed(recipe.seed)
    learner = make_learner(recipe, checkpoint)
    validations = {
        name: Validation.open(entry, learner.processor) for name, entry in recipe.data.validation.items()
    }
    writer = SummaryWriter(str(output / "logs"))
    count = 0 if recipe.model.baseline else recipe.run.pictures  # of texts with the words of each box
    pictures = PredictionPictures(output / "pictures", validations, count, writer)
    trainer = MdetrTrainer(
        learner,
        recipe,
        training_arguments(recipe, output),
        training_data(recipe.data, recipe.seed),
        validations,
        pictures,
    )
    trainer.add_callback(TensorBoardCallback(writer))
    if trainer.is_world_process_zero():
        (output / RECIPE_FILE).write_text(to_yaml(recipe))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    # The end of training closes the callback's log; without another it would open one in a folder of its own.
    trainer.remove_callback(TensorBoardCallback)
    trainer.add_callback(TensorBoardCallback(writer))
    metrics = trainer.evaluate() if validations else {}
    writer.close()
    trainer.save_averaged(output / MODEL_FOLDER)
    if trainer.is_world_process_zero():
        (output / METRICS_FILE).write_text(json.dumps(metrics, indent=1))
    return output / MODEL_FOLDER


def make_learner(recipe: Recipe, checkpoint: Path | None = None) -> Learner:
    """What a recipe trains, as at its start or, for a model that reads text, from a checkpoint."""
    do_resize = recipe.data.augmentation == "none"
    if recipe.model.baseline is not None:
        processor = _image_processor(recipe)
        named = [entry.classes for entry in recipe.data.validation.values() if entry.classes is not None]
        classes = read_classes(named[0]) if named else classes_of(Store.open(recipe.data.train[0].store))
        settings = recipe.model
        baseline = BASELINES[recipe.model.baseline](classes, dict(settings.config), settings.start_from)
        with_masks = recipe.model.baseline == "maskrcnn"
        collator = BaselineCollator(classes, processor, do_resize, with_masks)
        return Learner(baseline, processor, collator, evaluate_baseline)
    model, text_processor = make_model(recipe) if checkpoint is None else _reload(checkpoint)
    _freeze(model, recipe.model.freeze)
    return Learner(model, text_processor, Collator(text_processor, do_resize))


def _freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Parameters whose names have a part that fits do not train."""
    for pattern in patterns:
        found = [p for name, p in model.named_parameters() if re.search(pattern, name)]
        if not found:
            raise RecipeError(f"model.freeze: no parameter has a name with {pattern!r}.")
        for parameter in found:
            parameter.requires_grad_(False)


def make_model(recipe: Recipe) -> tuple[MdetrModel, MdetrProcessor]:
    """The model that training starts from, and its processor."""
    fields = dict(recipe.model.config)
    if recipe.model.answers is not None:
        stores = [Store.open(entry.store) for entry in recipe.data.train]
        fields |= answer_fields(recipe.model.answers, stores)
    if recipe.model.start_from is not None:
        return _changed(Mdetr.from_pretrained(recipe.model.start_from, device="cpu"), fields)
    tokenizer = _tokenizer(recipe)
    text = dict(fields.pop("text_config", {}))
    if recipe.model.text_weights is not None:
        text_config = AutoConfig.from_pretrained(recipe.model.text_weights, **text)
    else:
        text |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        text_config = AutoConfig.for_model(text.pop("model_type", "roberta"), **text)
    config = MdetrConfig(text_config=text_config, **fields)
    model = MdetrModel(config)
    if recipe.model.text_weights is not None:
        start = AutoModel.from_pretrained(recipe.model.text_weights)
        model.text_encoder.load_state_dict(start.state_dict(), strict=False)  # a pooler is left out
    if recipe.model.backbone_weights is not None:
        load_backbone_weights(model.backbone, config.backbone, recipe.model.backbone_weights)
    processor = MdetrProcessor(
        _image_processor(recipe),
        tokenizer,
        max_text_tokens=config.num_token_positions,
        answer_types=config.answer_types,
        answer_vocabulary=config.answer_vocabulary,
    )
    return model, processor


def _changed(start: Mdetr, fields: Mapping[str, Any]) -> tuple[MdetrModel, MdetrProcessor]:
    """A model with some other settings than the one to start from, and the weights of all that both have."""
    if not fields:
        return start.model, start.processor
    config = MdetrConfig(**{**start.model.config.to_dict(), **fields})
    model = MdetrModel(config)
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


def _image_processor(recipe: Recipe) -> MdetrImageProcessor:
    image = recipe.image
    return MdetrImageProcessor(
        size={"shortest_edge": image.shortest_edge, "longest_edge": image.longest_edge},
        image_mean=list(image.mean),
        image_std=list(image.std),
    )


def _reload(checkpoint: Path) -> tuple[MdetrModel, MdetrProcessor]:
    return MdetrModel.from_pretrained(checkpoint), MdetrProcessor.from_pretrained(checkpoint)


def _tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    wanted = recipe.model.tokenizer
    if isinstance(wanted, BpeSettings):
        stores = [Store.open(entry.store) for entry in recipe.data.train]
        texts = (text for store in stores for text in store.columns(["text"])["text"].to_pylist())
        return train_bpe(texts, wanted.vocab_size)
    if wanted == "roberta":
        return roberta_tokenizer()
    return cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(wanted))


def training_arguments(recipe: Recipe, output: Path) -> TrainingArguments:
    """Hugging Face's arguments for a recipe; the number of processes comes from the launcher."""
    run, optimiser = recipe.run, recipe.optimiser
    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=-1 if optimiser.steps is None else optimiser.steps,
        num_train_epochs=1 if optimiser.epochs is None else optimiser.epochs,
        gradient_accumulation_steps=run.gradient_accumulation,
        max_grad_norm=optimiser.max_gradient_norm,
        torch_compile=run.compile,
        seed=recipe.seed,
        logging_steps=run.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if recipe.data.validation else "no",
        eval_steps=run.evaluate_every,
        save_strategy="steps",
        save_steps=run.save_every,
        save_total_limit=run.keep,
        dataloader_num_workers=run.workers,
        dataloader_persistent_workers=run.workers > 0,
        dataloader_drop_last=True,
        report_to=[],
        remove_unused_columns=False,
        label_names=["targets"],
        disable_tqdm=True,
        **_precision(run),
    )
    arguments.per_device_train_batch_size = _share(recipe, arguments.world_size)
    arguments.per_device_eval_batch_size = arguments.per_device_train_batch_size
    return arguments


def _precision(run: RunSettings) -> dict[str, Any]:
    return {"bf16": run.precision == "bf16", "fp16": run.precision == "fp16"}


def _share(recipe: Recipe, num_processes: int) -> int:
    total, accumulation = recipe.optimiser.batch_size, recipe.run.gradient_accumulation
    share, rest = divmod(total, num_processes * accumulation)
    if rest or not share:
        raise RecipeError(
            f"optimiser.batch_size {total} does not divide into {num_processes} processes with "
            f"{accumulation} accumulated steps each."
        )
    return share
