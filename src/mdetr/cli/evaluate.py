"""`mdetr evaluate`: score a model on the validation stores of a recipe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdetr.cli.options import Device, Dtype, JsonFile, Precision
from mdetr.cli.outputs import STDOUT, check_folder, check_json_file, write_json
from mdetr.cli.printing import plain
from mdetr.cli.progress import progress_bar
from mdetr.errors import InvalidInputError
from mdetr.training.recipe_file import find_recipes, recipe_names
from mdetr.wording import score_in_words, value_in_words

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from rich.table import Table

    from mdetr.training.recipe import Recipe

Scores = dict[str, dict[str, float]]
Evaluate = Callable[..., dict[str, float]]


def evaluate(
    recipes: Annotated[
        list[str],
        typer.Argument(
            help="Names from mdetr recipes, or YAML files, whose validation stores are evaluated.",
            autocompletion=recipe_names,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="A name from mdetr models, a folder or a Hub id; by default runs/RECIPE/model."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a value of the recipe: key=value, such as run.workers=0."),
    ] = None,
    json_file: JsonFile = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for tables and pictures; by default runs/RECIPE-evaluation."),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, help="Number of the worst examples of each store to draw.")
    ] = 12,
    submission: Annotated[
        Path | None,
        typer.Option(help="Write the answers in the form of a test server: .json for GQA, .txt for CLEVR."),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Images per batch, each with all its texts; in detection, names per batch."),
    ] = 16,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Evaluate a model on the validation stores of a recipe, with a table of its prediction for each example.

    Several recipes give one table, each with the model that it trained:
    "lvis-*" gives the paper's table of few-shot detection, with the baselines.

    Example: mdetr evaluate clevr-tiny --model clevr-tiny --json scores.json
    """
    from mdetr.data.held_out import check_stores
    from mdetr.training.recipe_file import check_files, load_recipe

    # Check the outputs, the recipes and the models before anything slow
    check_json_file(json_file)
    if output is not None:
        check_folder(output, "tables")
    if submission is not None:
        from mdetr.evaluation.submissions import check_submission_file

        check_submission_file(submission)
    planned = [
        (path, load_recipe(path, changes or []), model or _trained_model(path))
        for path in find_recipes(recipes)
    ]
    for _, settings, _ in planned:
        check_files(settings, training=False)
    _check_models([name for _, _, name in planned], device)
    for _, settings, _ in planned:
        check_stores(settings.data.validation.values())

    # Evaluate each recipe
    from rich.console import Console

    accelerator, chosen = _choose_device(device)
    scores: dict[str, Scores] = {}
    tables: list[Path] = []
    for path, settings, name in planned:
        default = Path("runs") / f"{path.stem}-evaluation"
        folder = default if output is None else output if len(planned) == 1 else output / path.stem
        folder.mkdir(parents=True, exist_ok=True)
        scores[path.stem] = _evaluate(
            settings, _Model(name, chosen, dtype), folder, accelerator, batch_size, worst
        )
        tables += [folder / f"{store}.parquet" for store in scores[path.stem]]
    if not accelerator.is_main_process:
        return

    # Report all results
    if submission is not None:
        from mdetr.evaluation.submissions import write_submission

        write_submission(_answers(tables), submission)
    Console(stderr=json_file == STDOUT).print(_table(scores))
    folders = ", ".join(dict.fromkeys(str(file.parent) for file in tables))
    where = f"The prediction, truth and score of each example, and pictures of the worst, are in {folders}."
    typer.echo(where, err=json_file == STDOUT)
    if json_file is not None:
        write_json(json_file, scores if len(scores) > 1 else next(iter(scores.values())))


def _check_models(names: Sequence[str], device: str | None) -> None:
    """Check that the models and their device exist before data are read; released models are downloaded.

    Args:
        names: Names of models, folders or Hub ids.
        device: Device to run on; None for the default.

    Raises:
        CheckpointError: There is no such model.
        InvalidInputError: This machine has no such device.
    """
    from mdetr.checkpoints.finding import find_model

    if device is not None:
        from mdetr.inference.devices import check_request

        check_request(device)
    for name in names:
        if not Path(name).is_dir():  # a folder may hold a baseline
            find_model(name)


def _table(scores: Mapping[str, Scores]) -> Table:
    """Make the table of all figures, with a column for the recipes if there are several."""
    from rich.table import Column, Table

    recipe_column = ["recipe"] if len(scores) > 1 else []
    value = Column("value", justify="right", no_wrap=True)
    table = Table(*recipe_column, "store", Column("figure", overflow="fold"), value)
    for recipe, stores in scores.items():
        for store, figures in stores.items():
            for figure, number in figures.items():
                cells = [*([recipe] if recipe_column else []), store, score_in_words(figure)]
                table.add_row(*map(plain, cells), value_in_words(figure, number))
    return table


def _trained_model(recipe: Path) -> str:
    """Find the model that `mdetr train` made by a recipe.

    Args:
        recipe: The recipe's file.

    Returns:
        The model's folder.

    Raises:
        InvalidInputError: The recipe has not been trained.
    """
    folder = Path("runs") / recipe.stem / "model"
    if not folder.is_dir():
        raise InvalidInputError(
            f"There is no model in {folder}; train {recipe.stem} first, or choose one with --model."
        )
    return str(folder)


def _evaluate(
    settings: Recipe, model: _Model, folder: Path, accelerator: Accelerator, batch_size: int, worst: int
) -> Scores:
    from mdetr.data.broken_examples import BROKEN_FILE, BrokenExamples
    from mdetr.evaluation.evaluator import Validation
    from mdetr.training.datasets import import_own_data
    from mdetr.training.report import draw_worst

    with accelerator.main_process_first():  # the other processes use what it imported
        data = import_own_data(settings.data, folder, training=False)
    loaded, processor, score = _load(model)
    scores: Scores = {}
    for name, entry in data.validation.items():
        with accelerator.main_process_first():  # the other processes use its list
            validation = Validation.open(entry, processor, name, BrokenExamples(folder / BROKEN_FILE))
        if not validation.num_images:
            raise InvalidInputError(
                f"The store {entry.store} of {name} has no record to evaluate; name another."
            )
        score_store = partial(score, loaded, validation, batch_size, accelerator)
        scores[name] = _with_table(score_store, name, validation.num_images, folder, accelerator)
        left_out = scores[name].get("left_out")
        if accelerator.is_main_process and left_out:
            typer.echo(
                f"{left_out:.0f} of {name} left out as unusable; {folder / BROKEN_FILE} says why.",
                err=True,
            )
        if accelerator.is_main_process and worst:
            picture = folder / f"{name}-worst.png"
            draw_worst(validation.dataset.store, folder / f"{name}.parquet", worst, picture)
    return scores


@dataclass(frozen=True)
class _Model:
    """Name or folder of a model, its device and its number type."""

    name: str
    device: torch.device
    dtype: Precision


def _choose_device(device: str | None) -> tuple[Accelerator, torch.device]:
    """Choose the device of this process.

    Args:
        device: Value of `--device`.

    Returns:
        The accelerator, which knows the other processes, and the device.

    Raises:
        InvalidInputError: This machine has no such device, or all processes would share one GPU.
    """
    from accelerate import Accelerator

    from mdetr.inference.devices import choose_device

    if device is None:
        accelerator = Accelerator()
        return accelerator, accelerator.device
    chosen = choose_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Accelerator(), chosen
    if chosen.index is not None:
        raise InvalidInputError(
            f"Each process needs its own device, but --device {device} names a single one; use --device "
            f"{chosen.type}."
        )
    accelerator = Accelerator(cpu=chosen.type == "cpu")
    return accelerator, accelerator.device


def _load(model: _Model) -> tuple[Any, Any, Evaluate]:
    """Load a model or a baseline.

    Args:
        model: Its name, device and number type.

    Returns:
        The model, its processor, and the function that evaluates it.

    Raises:
        InvalidInputError: It is a baseline, which runs in float32 only, and another type is requested.
    """
    from mdetr.baselines.detectors import evaluate_baseline, is_baseline, load_baseline
    from mdetr.checkpoints.finding import find_model, is_exported
    from mdetr.checkpoints.loading import load_processor
    from mdetr.evaluation.evaluator import evaluate
    from mdetr.inference.grounder import Mdetr

    if is_baseline(model.name):
        if model.dtype != Precision.FLOAT32:
            raise InvalidInputError(f"The baseline in {model.name} runs in float32 only; leave out --dtype.")
        baseline, image_processor = load_baseline(model.name)
        return baseline.to(model.device), image_processor, evaluate_baseline
    folder = find_model(model.name)
    device = None if is_exported(folder) else model.device  # exported ones stay on the CPU
    loaded = Mdetr.from_pretrained(folder, device, model.dtype.value)
    processor, _ = load_processor(folder)  # an exported model's own makes no batches
    return loaded.model, processor, evaluate


def _with_table(
    score: Callable[..., dict[str, float]],
    name: str,
    num_images: int,
    folder: Path,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Call `score` with a progress bar, and write its table of example scores."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from mdetr.evaluation.example_table import example_table

    columns = (
        *(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ),
        TextColumn("{task.fields[score]}"),
    )
    with (
        example_table(folder / f"{name}.parquet", accelerator) as table,
        progress_bar(*columns) as progress,
    ):
        bar = progress.add_task(name, total=num_images, score="")

        def advance(done: int) -> None:
            running = f"score so far {table.score:.3f}" if table.count else ""
            progress.update(
                bar, advance=done * accelerator.num_processes, score=running
            )  # estimated from this process

        return score(on_progress=advance, on_example_scores=table.add)


def _answers(tables: Sequence[Path]) -> dict[str, str]:
    """Read the predicted answer to each question from the tables of example scores."""
    import pyarrow.parquet as pq

    answers = {}
    for table in tables:
        rows = pq.read_table(table, columns=["task", "id", "prediction"]).to_pylist()
        for row in rows:
            if row["task"] == "question_answering":
                answers[row["id"]] = json.loads(row["prediction"])["answer"]
    return answers
