"""A run: a recipe in; a folder with the resolved recipe, checkpoints, logs, pictures and the model out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from torch.utils.tensorboard import SummaryWriter
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback

from mdetr.data.store import Store
from mdetr.errors import RecipeError, TrainingError
from mdetr.images import MdetrImageProcessor
from mdetr.inference.grounder import Mdetr
from mdetr.model.config import MdetrConfig
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor, roberta_tokenizer
from mdetr.training.backbone_weights import load_backbone_weights
from mdetr.training.datasets import training_data
from mdetr.training.evaluation import Validation
from mdetr.training.pictures import PredictionPictures
from mdetr.training.recipe import BpeSettings, Recipe, RunSettings, check_files, to_yaml
from mdetr.training.tokenizer import train_bpe
from mdetr.training.trainer import MdetrTrainer, last_checkpoint

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
    checkpoint = last_checkpoint(output) if resume else None
    if not resume and any(output.glob("checkpoint-*")):
        raise TrainingError(f"{output} holds a run already: go on with --resume, or name another --output.")
    output.mkdir(parents=True, exist_ok=True)
    set_seed(recipe.seed)
    model, processor = make_model(recipe) if checkpoint is None else _reload(checkpoint)
    validations = {name: Validation.open(entry, processor) for name, entry in recipe.data.validation.items()}
    writer = SummaryWriter(str(output / "logs"))
    pictures = PredictionPictures(output / "pictures", validations, recipe.run.pictures, writer)
    trainer = MdetrTrainer(
        model,
        processor,
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


def make_model(recipe: Recipe) -> tuple[MdetrModel, MdetrProcessor]:
    """The model that training starts from, and its processor."""
    if recipe.model.start_from is not None:
        if recipe.model.config:
            raise RecipeError(
                "Give either model.start_from or model.config: a model that exists keeps its own."
            )
        start = Mdetr.from_pretrained(recipe.model.start_from, device="cpu")
        return start.model, start.processor
    tokenizer = _tokenizer(recipe)
    fields = dict(recipe.model.config)
    text = dict(fields.pop("text_config", {}))
    text |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    text_config = AutoConfig.for_model(text.pop("model_type", "roberta"), **text)
    config = MdetrConfig(text_config=text_config, **fields)
    model = MdetrModel(config)
    if recipe.model.backbone_weights is not None:
        load_backbone_weights(model.backbone, config.backbone, recipe.model.backbone_weights)
    image = recipe.image
    image_processor = MdetrImageProcessor(
        size={"shortest_edge": image.shortest_edge, "longest_edge": image.longest_edge},
        image_mean=list(image.mean),
        image_std=list(image.std),
    )
    return model, MdetrProcessor(image_processor, tokenizer, max_text_tokens=config.num_token_positions)


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
